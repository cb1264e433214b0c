package profile

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// store is a directory of captures, each a directory of files. The oldest go when there are too many, or too many bytes.
type store struct {
	root *os.Root
	lock *os.File
	most int   // captures
	max  int64 // bytes of all captures
}

const (
	lockName    = "lock"
	partialName = "partial" // of the capture that is being taken
)

// captureName is a number that only grows, the time, and the trigger.
var captureName = regexp.MustCompile(`^([0-9]{6,18})-[0-9]{8}T[0-9]{6}Z-(` + triggerRSS + `|` + triggerPause + `|` + triggerLoop + `)$`)

// fileName is a file of a capture.
var fileName = regexp.MustCompile(`^[a-z]{1,20}\.(pb\.gz|json|out)$`)

// openStore opens dir for this process alone, and makes it where it is missing.
func openStore(dir string, most int, max int64) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make it: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	s := &store{root: root, most: most, max: max}
	if s.lock, err = root.OpenFile(lockName, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if err := sys.LockFile(s.lock); err != nil {
		return nil, errors.Join(fmt.Errorf("another process keeps its captures there: each needs a directory of its own: %w", err), s.close())
	}
	// What a process left that ended in the middle of a capture.
	if err := root.RemoveAll(partialName); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *store) close() error { return errors.Join(s.lock.Close(), s.root.Close()) }

// kept is a capture that is complete.
type kept struct {
	name   string
	number uint64
	bytes  int64
}

// list is all complete captures, the oldest first. Any goroutine may call it.
func (s *store) list() ([]kept, error) {
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var all []kept
	for _, e := range entries {
		m := captureName.FindStringSubmatch(e.Name())
		if m == nil || !e.IsDir() {
			continue
		}
		n, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			continue
		}
		k := kept{name: e.Name(), number: n}
		files, err := s.files(k.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was the oldest a moment ago
		}
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			k.bytes += f.Bytes
		}
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b kept) int { return cmp.Compare(a.number, b.number) })
	return all, nil
}

// files are those of a capture, by name. The capture's name is good.
func (s *store) files(capture string) ([]File, error) {
	entries, err := fs.ReadDir(s.root.FS(), capture)
	if err != nil {
		return nil, err
	}
	var list []File
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !fileName.MatchString(e.Name()) {
			continue
		}
		list = append(list, File{Name: e.Name(), Bytes: info.Size()})
	}
	return list, nil
}

// open opens a file of a capture for reading. Names that could not be those of one are fs.ErrNotExist. Any goroutine may call it.
func (s *store) open(capture, file string) (*os.File, error) {
	if !captureName.MatchString(capture) || !fileName.MatchString(file) {
		return nil, fs.ErrNotExist
	}
	return s.root.Open(path.Join(capture, file))
}

// partial is a capture that is being taken.
type partial struct {
	s    *store
	left int64 // bytes that it may still have
}

// begin begins a capture. One is taken at a time.
func (s *store) begin() (*partial, error) {
	if err := s.root.RemoveAll(partialName); err != nil {
		return nil, err
	}
	if err := s.root.Mkdir(partialName, 0o700); err != nil {
		return nil, err
	}
	return &partial{s: s, left: s.max}, nil
}

// discard removes what there is of it; after keep there is nothing.
func (p *partial) discard() { _ = p.s.root.RemoveAll(partialName) }

// errTooBig says that a capture would not fit, alone, into what all may have.
var errTooBig = errors.New("it would be larger than all captures may be")

// storeError is a failure of the directory, as against one of what is written.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// file has write write one of its files. A *storeError says that the directory takes no more; after another error the capture
// goes on without that file.
func (p *partial) file(name string, write func(io.Writer) error) error {
	full := path.Join(partialName, name)
	f, err := p.s.root.OpenFile(full, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return &storeError{err}
	}
	to := &bounded{to: f, left: p.left}
	err = write(to)
	if closed := f.Close(); to.failed == nil {
		to.failed = closed
	}
	if to.failed != nil && !errors.Is(to.failed, errTooBig) {
		return &storeError{to.failed}
	}
	if to.failed != nil { // the writer may have kept it to itself
		err = to.failed
	}
	if err != nil {
		if removed := p.s.root.Remove(full); removed != nil {
			return &storeError{removed}
		}
		return err
	}
	p.left = to.left
	return nil
}

// bounded passes on so many bytes, and remembers why it did not.
type bounded struct {
	to     io.Writer
	left   int64
	failed error
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.failed == nil && int64(len(p)) > b.left {
		b.failed = errTooBig
	}
	if b.failed != nil {
		return 0, b.failed
	}
	n, err := b.to.Write(p)
	b.left -= int64(n)
	b.failed = err
	return n, err
}

// keep makes it a complete one, and removes the oldest that there is no room for. It returns its name.
func (p *partial) keep(at time.Time, trigger string) (string, error) {
	all, err := p.s.list()
	if err != nil {
		return "", err
	}
	number := uint64(1)
	if len(all) > 0 {
		number = all[len(all)-1].number + 1
	}
	// Room is made first, so that there is never more than there may be.
	used := p.s.max - p.left
	for _, k := range all {
		used += k.bytes
	}
	for len(all) > 0 && (len(all) >= p.s.most || used > p.s.max) {
		if err := p.s.root.RemoveAll(all[0].name); err != nil {
			return "", err
		}
		used -= all[0].bytes
		all = all[1:]
	}
	name := fmt.Sprintf("%06d-%s-%s", number, at.UTC().Format("20060102T150405Z"), trigger)
	return name, p.s.root.Rename(partialName, name)
}
