package flight

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"
)

// words8 is n bytes, aligned as mapped memory is.
func words8(n int) []byte {
	w := make([]uint64, (n+7)/8+1)
	return unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), n)
}

// set is at as a clock tells it that was set by d: its monotonic reading stays.
func set(t *testing.T, at time.Time, d time.Duration) time.Time {
	t.Helper()
	was := at
	// The first word of a time that has a monotonic reading: a flag, 33 bits of seconds, 30 of nanoseconds.
	*(*uint64)(unsafe.Pointer(&at)) += uint64(d/time.Second) << 30
	if at.Sub(was) != 0 || at.UnixNano()-was.UnixNano() != int64(d) {
		t.Fatalf("%v is not %v set by %v: has time.Time changed?", at, was, d)
	}
	return at
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
