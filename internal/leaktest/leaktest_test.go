package leaktest

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

func TestMain(m *testing.M) { Main(m, Goroutines|Descriptors) }

// TestRun has tests leave things behind, and end in other ways.
func TestRun(t *testing.T) {
	const all = Goroutines | Descriptors
	var gone, ended chan struct{}
	var file *os.File
	goroutine := func() int { go func() { <-gone; close(ended) }(); return 0 }
	descriptor := func() int {
		var err error
		if file, err = os.Open(os.DevNull); err != nil {
			t.Fatal(err)
		}
		return 0
	}
	for _, c := range []struct {
		name     string
		tests    func() int
		look     Resource
		patience time.Duration
		code     int
		says     string
	}{
		{"nothing", func() int { return 0 }, all, 0, 0, ""},
		{"failed", func() int { return 3 }, all, 0, 3, ""},
		{"a goroutine", goroutine, all, 0, 1, "goroutines after the tests"},
		{"a goroutine, and nobody looks", goroutine, Descriptors, 0, 0, ""},
		{"a goroutine that ends by itself", func() int { goroutine(); close(gone); return 0 }, all, time.Minute, 0, ""},
		{"a descriptor", descriptor, all, 0, 1, "descriptors after the tests"},
		{"a descriptor, and nobody looks", descriptor, Goroutines, 0, 0, ""},
	} {
		if c.says == "descriptors after the tests" && sys.OpenDescriptors() < 0 {
			continue // they are not counted on this system
		}
		gone, ended = make(chan struct{}), make(chan struct{})
		var out strings.Builder
		code := run(c.tests, c.look, c.patience, &out)
		if code != c.code || c.says == "" && out.Len() > 0 || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: exit code %d, want %d; it says %q, want %q", c.name, code, c.code, out.String(), c.says)
		}
		if strings.Contains(c.name, "goroutine") {
			if c.patience == 0 {
				close(gone)
			}
			<-ended
		}
		if file != nil {
			_ = file.Close()
			file = nil
		}
	}
}
