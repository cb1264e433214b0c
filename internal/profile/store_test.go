package profile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func newStore(t *testing.T, dir string, most int, max int64) *store {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("captures need a lock of files, which is Linux's here")
	}
	s, err := openStore(dir, most, max)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// fill keeps a capture of n bytes.
func fill(t *testing.T, s *store, at time.Time, n int) string {
	t.Helper()
	p, err := s.begin()
	if err != nil {
		t.Fatal(err)
	}
	defer p.discard()
	if err := p.file("heap.pb.gz", func(w io.Writer) error { _, err := w.Write(make([]byte, n)); return err }); err != nil {
		t.Fatal(err)
	}
	name, err := p.keep(at, triggerRSS)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// names are those of the captures, by number.
func names(t *testing.T, s *store) string {
	t.Helper()
	all, err := s.list()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	total := int64(0)
	for _, k := range all {
		list = append(list, fmt.Sprint(k.number))
		total += k.bytes
	}
	if len(all) > s.most || total > s.max {
		t.Errorf("%d captures of %d bytes, want at most %d of %d", len(all), total, s.most, s.max)
	}
	return strings.Join(list, " ")
}

func TestStoreBounds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b") // made where it is missing
	s := newStore(t, dir, 3, 1000)
	// What somebody else put there stays, and does not count.
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "notes"), make([]byte, 5000), 0o600), os.Mkdir(filepath.Join(dir, "old"), 0o700)); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for i, c := range []struct {
		size int
		want string
	}{
		{100, "1"}, {100, "1 2"}, {100, "1 2 3"},
		{100, "2 3 4"}, // by number
		{900, "4 5"},   // by bytes
		{900, "6"},
		{1000, "7"},
		{1, "8"},
	} {
		// The clock runs backwards: the oldest is still the one that was taken first.
		name := fill(t, s, at.Add(-time.Duration(i)*time.Hour), c.size)
		if got := names(t, s); got != c.want {
			t.Fatalf("after %s: %s, want %s", name, got, c.want)
		}
	}
	for _, name := range []string{"notes", "old", lockName} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, %v: profiles are nobody else's", info.Mode(), err)
	}
}

// TestStoreTooBig has a file that is larger than all may be left out, and the capture goes on.
func TestStoreTooBig(t *testing.T) {
	s := newStore(t, t.TempDir(), 3, 1000)
	p, err := s.begin()
	if err != nil {
		t.Fatal(err)
	}
	defer p.discard()
	write := func(n int, keeps bool) func(io.Writer) error {
		return func(w io.Writer) error {
			for range n {
				if _, err := w.Write([]byte{1}); err != nil && !keeps {
					return err
				}
			}
			return nil
		}
	}
	var broken *storeError
	for _, keeps := range []bool{false, true} { // a writer may keep an error to itself
		if err := p.file("trace.out", write(1001, keeps)); !errors.Is(err, errTooBig) || errors.As(err, &broken) {
			t.Errorf("a file that is too large: %v", err)
		}
	}
	own := errors.New("own")
	if err := p.file("cpu.pb.gz", func(io.Writer) error { return own }); !errors.Is(err, own) || errors.As(err, &broken) {
		t.Errorf("a writer's own error: %v", err)
	}
	if err := p.file("heap.pb.gz", write(1000, false)); err != nil {
		t.Error(err)
	}
	name, err := p.keep(time.Now(), triggerLoop)
	if err != nil {
		t.Fatal(err)
	}
	if files, err := s.files(name); err != nil || len(files) != 1 || files[0] != (File{"heap.pb.gz", 1000}) {
		t.Errorf("files %v, %v", files, err)
	}
}

// TestStoreOwner has one process at a time, and what one left that ended in the middle of a capture removed.
func TestStoreOwner(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir, 3, 1000)
	if _, err := openStore(dir, 3, 1000); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second owner: %v", err)
	}
	fill(t, s, time.Now(), 10)
	if _, err := s.begin(); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	again, err := openStore(dir, 3, 1000)
	if err != nil {
		t.Fatal(err)
	}
	s.lock, s.root = again.lock, again.root // for the cleanup
	if _, err := os.Stat(filepath.Join(dir, partialName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a capture is left: %v", err)
	}
	fill(t, again, time.Now(), 10)
	if got := names(t, again); got != "1 2" {
		t.Errorf("captures %s, want 1 2", got)
	}
	// A directory that cannot be made.
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(filepath.Join(dir, "file", "x"), 1, 1); err == nil {
		t.Error("a directory below a file")
	}
}

// TestStoreNames opens nothing but files of captures.
func TestStoreNames(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, filepath.Join(dir, "captures"), 3, 1000)
	if err := os.WriteFile(filepath.Join(dir, "heap.pb.gz"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	name := fill(t, s, time.Now(), 10)
	f, err := s.open(name, "heap.pb.gz")
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	for _, c := range [][2]string{
		{"..", "heap.pb.gz"}, {".", lockName}, {name, "../../heap.pb.gz"}, {name + "/..", "heap.pb.gz"}, {"", "heap.pb.gz"}, {name, ""}, {name, "."},
		{name, "none.json"}, {"000009-20260101T000000Z-rss", "heap.pb.gz"}, {name, "HEAP.pb.gz"},
	} {
		if f, err := s.open(c[0], c[1]); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %q: %v, %v", c, f, err)
		}
	}
	// Nor a way out that somebody laid.
	if err := os.Symlink(filepath.Join(dir, "heap.pb.gz"), filepath.Join(dir, "captures", name, "cpu.pb.gz")); err != nil {
		t.Fatal(err)
	}
	if f, err := s.open(name, "cpu.pb.gz"); err == nil {
		t.Errorf("a link out of the directory opens %v", f.Name())
	}
	if files, err := s.files(name); err != nil || len(files) != 1 {
		t.Errorf("files %v, %v", files, err)
	}
}
