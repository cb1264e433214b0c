package flight

import (
	"os"
	"path/filepath"
	"testing"
)

// heapFile stands for a mapped file: flush writes what it holds.
func heapFile(t *testing.T) func(f *os.File, n int) ([]byte, error) {
	t.Helper()
	return func(f *os.File, n int) ([]byte, error) {
		b := copyWords(make([]uint64, n/8), nil)
		_, err := f.ReadAt(b, 0)
		return b, err
	}
}

func flush(t *testing.T, r *Recorder, dir string) {
	t.Helper()
	for i, k := range r.tracks {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path(dir, i))), whole(k.ring), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
