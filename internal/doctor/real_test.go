package doctor

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// TestReal looks at services with public libraries, pinned at versions that had a leak, and wants the line that the library's own fix
// changed.
func TestReal(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the doctor sees processes on Linux only")
	}
	t.Parallel() // beside TestPostgres: both wait most of the time
	exe := filepath.Join(t.TempDir(), "real")
	buildModule(t, "testdata/real", exe)
	var wg sync.WaitGroup
	for library, want := range map[string]struct{ file, text string }{
		// Pull request 84 put a select with an end in its place.
		"bigcache": {"/allegro/bigcache@v1.1.0/bigcache.go", "for t := range time.Tick(config.CleanWindow) {"},
		// Pull request 197 made the list a map, with a way out.
		"go-metrics": {"/rcrowley/go-metrics@v0.0.0-20161128210544-1f30fe9094a5/meter.go", "arbiter.meters = append(arbiter.meters, m)"},
	} {
		wg.Go(func() {
			r, err := examineProgram(t.Context(), exe, library, 3**corpusFor)
			if err != nil {
				t.Errorf("%s: %v", library, err)
				return
			}
			if !r.Found() || !strings.HasSuffix(r.Findings[0].Line.File, want.file) || r.Findings[0].Line.Text != want.text {
				var b bytes.Buffer
				_ = r.WriteText(&b)
				t.Errorf("%s: want %s first\n%s", library, want.text, &b)
			}
		})
	}
	wg.Wait()
}

// buildModule builds the program of a module of its own. It skips the test where the module's dependencies cannot be had.
func buildModule(t *testing.T, dir, exe string) {
	t.Helper()
	get := exec.Command("go", "mod", "download")
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		t.Skipf("the modules of %s are neither cached nor to be had: %v\n%s", dir, err, out)
	}
	build := exec.Command("go", "build", "-o", exe, ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", dir, err, out)
	}
}
