package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestParseServed reads the same figures in either format.
func TestParseServed(t *testing.T) {
	for name, want := range map[string]string{
		"vars.json":   "databases.orders 9/10 open 10 idle 1 waits 12 3s 0 0; pgx 4/4 open 4 idle 0 waits 3 1.5s 7 1; mutex 12.5s assist 0s user 4s latencies 0; heap 1000000 of 20000000",
		"metrics.txt": `pgxpool 4/4 open 0 idle 0 waits 0 0s 7 0; sql{db_name="a\"}b"} 1/0 open 0 idle 0 waits 0 0s 0 0; sql{db_name="orders"} 9/10 open 10 idle 1 waits 12 3s 0 0; mutex 12.5s assist 500ms user 4s latencies 3`,
	} {
		b, err := os.ReadFile(filepath.Join("testdata/seeds/served", name))
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseServed(b, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, p := range s.Pools {
			fmt.Fprintf(&got, "%s %d/%d open %d idle %d waits %d %s %d %d; ", p.Name, p.InUse, p.Max, p.Open, p.Idle, p.Waits, p.Waited, p.Acquired, p.Canceled)
		}
		fmt.Fprintf(&got, "mutex %s assist %s user %s latencies %d", s.Figures.MutexWait, s.Figures.AssistCPU, s.Figures.UserCPU, len(s.Figures.Latencies))
		if s.Memory != nil {
			fmt.Fprintf(&got, "; heap %d of %d", s.Memory.HeapAlloc, s.Memory.Sys)
		}
		if got.String() != want {
			t.Errorf("%s:\n%s, want\n%s", name, &got, want)
		}
		for i := 1; i < len(s.Figures.Latencies); i++ {
			if s.Figures.Latencies[i].Most < s.Figures.Latencies[i-1].Most {
				t.Error("buckets are not in order")
			}
		}
	}
	for _, bad := range []string{"", "<html>hello</html>", "{", "{} trailing is fine, but this is not JSON: {"} {
		if s, err := ParseServed([]byte(bad), 0); err == nil && (len(s.Pools) > 0 || !s.Figures.empty()) {
			t.Errorf("%q: %+v", bad, s)
		}
	}
	if _, err := ParseServed([]byte("<html>\nhello world hello\n"), 0); err == nil {
		t.Error("a page is no metrics")
	}
}

func FuzzServed(f *testing.F) {
	seeds(f, "served")
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseServed(b, 0)
		if err != nil {
			return
		}
		// Whatever they are, the checks can be asked about them.
		e := &Evidence{}
		for i := range 6 {
			for _, p := range s.Pools {
				p.At = time.Duration(i) * time.Second
				e.Pools = append(e.Pools, p)
			}
			s.Figures.At = time.Duration(i) * time.Second
			e.Runtime = append(e.Runtime, s.Figures)
		}
		for _, f := range Examine(e).Findings {
			if f.Sentence == "" {
				t.Error("a finding without a sentence")
			}
		}
	})
}
