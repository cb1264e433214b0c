package doctor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestProof looks at a program whose few stuck goroutines no figure shows: with the runtime's own goroutineleak profile they are found
// by their line, and the workers that wait beside them are not; without it, nothing is.
func TestProof(t *testing.T) {
	t.Parallel() // beside TestPostgres and TestReal: it waits most of the time
	const experiment = "goroutineleakprofile"
	marks := corpusMarks(t, "testdata/proof")
	for _, proves := range []bool{true, false} {
		exe := filepath.Join(t.TempDir(), "proof")
		build := exec.Command("go", "build", "-o", exe, "./testdata/proof")
		build.Env = append(os.Environ(), "GOEXPERIMENT="+map[bool]string{true: experiment, false: "no" + experiment}[proves])
		if out, err := build.CombinedOutput(); strings.Contains(string(out), "unknown GOEXPERIMENT") {
			t.Skipf("this toolchain has no experiment %s, which Go 1.26 has", experiment)
		} else if err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
		r, err := examineProgram(t.Context(), exe, "", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case !proves:
			if r.Found() {
				t.Errorf("without the profile: %+v, want no finding", r.Findings)
			}
		case len(r.Findings) != 1:
			t.Errorf("%d findings, want one: %+v", len(r.Findings), r.Findings)
		default:
			f := r.Findings[0]
			if filepath.Base(f.Line.File) != marks[0].File || f.Line.Line != marks[0].Line || f.Check != "goroutine leak" || f.Confidence != 1 {
				t.Errorf("%+v, want line %d, for sure", f, marks[0].Line)
			}
			if text := f.Sentence + strings.Join(f.Evidence, "; "); !strings.Contains(text, "3 goroutines can never go on, in chan send") || !strings.Contains(text, "the runtime's own goroutineleak profile has 3 of them") {
				t.Errorf("it says %q", text)
			}
		}
	}
}
