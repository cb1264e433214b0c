package flight

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"unsafe"
)

// words8 is n bytes, aligned as mapped memory is.
func words8(n int) []byte {
	w := make([]uint64, (n+7)/8+1)
	return unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), n)
}

// heapFile stands for a mapped file: flush writes what it holds.
func heapFile(t *testing.T) func(f *os.File, n int) ([]byte, error) {
	t.Helper()
	return func(f *os.File, n int) ([]byte, error) {
		b := words8(n)
		_, err := f.ReadAt(b, 0)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return b, err
	}
}

func flush(t *testing.T, r *Recorder, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, ringFile), whole(r.ring), 0o600); err != nil {
		t.Fatal(err)
	}
}
