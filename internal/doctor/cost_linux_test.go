package doctor

import (
	"bufio"
	"flag"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var costFor = flag.Duration("cost.for", 0, "measure what looking for so long costs a half busy program, with nobody looking for as long before and after; 0 leaves it out")

// TestCost measures what it costs a program to be looked at: its CPU time while somebody looks, less that of the same work while nobody does.
func TestCost(t *testing.T) {
	if *costFor == 0 {
		t.Skip("it takes a calm machine and minutes: -cost.for 30s")
	}
	exe := filepath.Join(t.TempDir(), "cost")
	if out, err := exec.Command("go", "build", "-o", exe, "./testdata/cost").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.Command(exe)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + strings.TrimSpace(line)
	root := os.DirFS("/")
	type state struct {
		at    time.Time
		cpu   time.Duration
		units float64
	}
	now := func() state {
		resp, err := http.Get(base + "/units")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseFloat(string(b), 64)
		if err != nil {
			t.Fatal(err)
		}
		return state{time.Now(), threadTimes(root, path.Join("proc", strconv.Itoa(cmd.Process.Pid))), n}
	}
	alone := func() (cpu time.Duration, units, load float64) {
		a := now()
		time.Sleep(*costFor) // nobody looks
		b := now()
		return b.cpu - a.cpu, b.units - a.units, (b.cpu - a.cpu).Seconds() / b.at.Sub(a.at).Seconds()
	}
	average, _ := os.ReadFile("/proc/loadavg")
	cpuAlone, unitsAlone, load := alone()
	sum, extra, cpuLooked, rounds := 0.0, 0.0, 0.0, 3
	var longest time.Duration
	for i := range rounds {
		a := now()
		begin := time.Now()
		e, err := (&Collector{Root: root, For: *costFor}).Collect(t.Context(), base)
		if err != nil {
			t.Fatal(err)
		}
		b := now()
		r := Examine(e)
		took := time.Since(begin)
		longest = max(longest, took)
		c, u, _ := alone()
		cpuAlone, unitsAlone = cpuAlone+c, unitsAlone+u
		own := time.Duration((b.units - a.units) * float64(cpuAlone) / unitsAlone)
		share := (b.cpu - a.cpu - own).Seconds() / b.at.Sub(a.at).Seconds()
		sum += share
		extra += (b.cpu - a.cpu - own).Seconds()
		cpuLooked += own.Seconds()
		t.Logf("round %d: %s to the answer, %d findings; %.2f %% of a CPU beside its own work (%s of %s); %s", i+1, took.Round(100*time.Millisecond), len(r.Findings), 100*share, (b.cpu - a.cpu - own).Round(time.Millisecond), (b.cpu - a.cpu).Round(time.Millisecond), e.Cost)
	}
	if share := sum / float64(rounds); share > 0.02 {
		t.Errorf("looking costs %.2f %% of a CPU, want at most 2 %%", 100*share)
	}
	if *costFor <= 30*time.Second && longest > time.Minute {
		t.Errorf("the answer took %s, want at most a minute", longest)
	}
	t.Logf("the program by itself: %.0f %% of a CPU; looked at, %.2f %% of a CPU more on average, %.1f %% of what it used itself; answers within %s; load of the machine before: %s", 100*load, 100*sum/float64(rounds), 100*extra/cpuLooked, longest.Round(100*time.Millisecond), strings.TrimSpace(string(average)))
}
