package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/stress"
)

// loaded is a gateway to put load on: its host and port.
func loaded(t *testing.T) string {
	t.Helper()
	g, err := longwire.New(longwire.Config{
		Addr: "127.0.0.1:0", MaxConns: 4000, Drain: -1, Log: slog.New(slog.DiscardHandler), Endpoints: []longwire.Endpoint{longwire.Echo("/echo")},
		HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" {
				http.NotFound(w, r)
				return
			}
			_, _ = io.WriteString(w, "here")
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g.Addr().String()
}

// stressed runs longwire stress in this process.
func stressed(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, log bytes.Buffer
	code = Main(ctx, Process{Args: append([]string{"stress"}, args...), Stdout: &out, Stderr: &log})
	return code, out.String(), log.String()
}

// TestStressArticle has the command line of the founding article run as it is printed there, from another process, until a
// SIGINT ends it: with a full report and exit code 0.
func TestStressArticle(t *testing.T) {
	host := loaded(t)
	// The timeout alone is another: 300 ms may pass on a busy machine.
	for _, target := range []string{"http://" + host, "ws://" + host + "/echo"} {
		cmd := exec.CommandContext(t.Context(), "longwire", "stress", "--target", target, "--ramp-up", "5s", "--step", "200", "--max-conns", "2000", "--duration", "60s", "--timeout", "20s", "--json")
		var out bytes.Buffer
		cmd.Stdout = &out
		log, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		var told []string
		for lines := bufio.NewScanner(log); lines.Scan(); {
			told = append(told, lines.Text())
			if strings.Contains(lines.Text(), " ramp ") && !strings.Contains(lines.Text(), "conns 0 of") {
				if err := cmd.Process.Signal(os.Interrupt); err != nil {
					t.Error(err)
				}
			}
		}
		err = cmd.Wait()
		late.Stop()
		if runtime.GOOS == "windows" {
			t.Skip("there is no SIGINT here")
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, strings.Join(told, "\n"))
		}
		r, err := stress.ReadReport(&out)
		if err != nil {
			t.Fatal(err)
		}
		plan := strings.Join(r.Plan, "; ")
		for _, want := range []string{"ramp to 200 conns in 5s", "steps of 200 to 2000 conns, one every 2s", "ends after 1m0s"} {
			if !strings.Contains(plan, want) {
				t.Errorf("the plan is %s, want %s in it", plan, want)
			}
		}
		if !r.Interrupted || r.Conns.Opened == 0 || r.Conns.Peak > 200 || len(r.Steps) == 0 || len(r.Samples) < 3 || len(r.Errors) > 0 {
			t.Errorf("interrupted %v, conns %+v, %d steps, %d samples, errors %v", r.Interrupted, r.Conns, len(r.Steps), len(r.Samples), r.Errors)
		}
		if http := strings.HasPrefix(target, "http"); http != (r.Scenarios[0].Done > 0) {
			t.Errorf("%s: %d requests", target, r.Scenarios[0].Done)
		}
	}
}

// TestStressSteps has the same run to its end, in a thirtieth of the time and with a tenth of the conns.
func TestStressSteps(t *testing.T) {
	host := loaded(t)
	code, out, log := stressed(t, "--target", "ws://"+host+"/echo", "--ramp-up", "50ms", "--step", "20", "--step-every", "50ms", "--max-conns", "200", "--duration", "2s", "--timeout", "20s", "--json", "--quiet")
	if code != exitFine {
		t.Fatalf("exit code %d\n%s", code, log)
	}
	r, err := stress.ReadReport(strings.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	// The ramp, its rest, nine steps and what is left of the time.
	var levels []int64
	var stages []string
	for _, s := range r.Steps {
		levels, stages = append(levels, s.Conns), append(stages, s.Stage)
	}
	if len(levels) != 12 || levels[0] != 20 || levels[2] != 40 || levels[10] != 200 || levels[11] != 200 || stages[0] != "ramp" || stages[2] != "step" || stages[11] != "soak" {
		t.Errorf("levels %v of %v", levels, stages)
	}
	if r.Conns.Peak != 200 || r.Conns.Survived != 200 || r.Elapsed < 2 || len(r.Errors) > 0 {
		t.Errorf("conns %+v in %g s, errors %v", r.Conns, r.Elapsed, r.Errors)
	}
}

// TestStressVerdicts has the exit code tell what came of thresholds and searches.
func TestStressVerdicts(t *testing.T) {
	host := loaded(t)
	plan := filepath.Join(t.TempDir(), "find.yaml")
	find := func(limit string) {
		text := "target: ws://" + host + "/echo\ntimeout: 20s\nscenarios: [hold]\nthresholds: " + limit + "\nfind: {of: conns, from: 10, step: 10, to: 20, for: 20ms, hold: 20ms, rest: 10ms, trials: 12}\n"
		if err := os.WriteFile(plan, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	load := []string{"--target", "ws://" + host + "/echo", "--scenario", "echo", "--think", "5ms", "--max-conns", "5", "--duration", "300ms", "--timeout", "20s", "--quiet"}
	if code, out, log := stressed(t, append(load, "--threshold", "errors<1%,max<1m,conns>=5")...); code != exitFine || !strings.Contains(out, "errors<1%") {
		t.Errorf("held: exit code %d\n%s%s", code, out, log)
	}
	if code, out, log := stressed(t, append(load, "--threshold", "errors<1%,p50<1ns")...); code != exitThreshold || !strings.Contains(log, "a threshold did not hold: p50 is ") || strings.Contains(log, "errors is") || !strings.Contains(out, "p50<1ns") {
		t.Errorf("broken: exit code %d\n%s%s", code, out, log)
	}
	find("errors<1%")
	if code, out, log := stressed(t, "--plan", plan, "--quiet"); code != exitFine || !strings.Contains(out, "20 conns held, and nothing higher was tried") {
		t.Errorf("search: exit code %d\n%s%s", code, out, log)
	}
	find("connect-p50<1ns")
	if code, out, log := stressed(t, "--plan", plan, "--quiet"); code != exitThreshold || !strings.Contains(log, "no level held") {
		t.Errorf("search in vain: exit code %d\n%s%s", code, out, log)
	}
}

// TestStressDiskFull has the figures printed where a report cannot be written, and nothing left of it.
func TestStressDiskFull(t *testing.T) {
	host := loaded(t)
	load := []string{"--target", "ws://" + host + "/echo", "--max-conns", "5", "--duration", "100ms", "--timeout", "20s", "--quiet"}
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full here")
	}
	for _, flag := range []string{"--out", "--html"} {
		good := filepath.Join(t.TempDir(), "other")
		other := map[string]string{"--out": "--html", "--html": "--out"}[flag]
		code, out, log := stressed(t, append(load, flag, "/dev/full", other, good)...)
		if code != exitFailed || !strings.Contains(out, "5 ") || !strings.Contains(log, "write /dev/full: ") || !strings.Contains(log, syscall.ENOSPC.Error()) {
			t.Errorf("%s: exit code %d\n%s%s", flag, code, out, log)
		}
		if fi, err := os.Stat("/dev/full"); err != nil || fi.Mode().IsRegular() {
			t.Fatalf("/dev/full is %v (%v): it was a device", fi, err)
		}
		if _, err := os.Stat("/dev/full.part"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("/dev/full.part was left: %v", err)
		}
		if fi, err := os.Stat(good); err != nil || fi.Size() < 1000 {
			t.Errorf("the other report was not written: %v, %v", fi, err)
		}
	}
}
