package flight

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Options say how much is recorded, and where.
type Options struct {
	Tracks int // one for each loop
	Bytes  int // of all tracks together
	// Map reserves n bytes of zeroed memory, Unmap releases it. MapFile maps a file of n bytes, so that what is written
	// outlives the process; it is needed with Dir.
	Map     func(n int) ([]byte, error)
	Unmap   func([]byte)
	MapFile func(f *os.File, n int) ([]byte, error)
	// Dir keeps the tracks in files, "" in memory. What the process before left there is read too, for as long as this one
	// runs.
	Dir string
	// Process is what this process is called in what the next one reads: its key for the ids of clients, say. At most 64 bytes.
	Process []byte
}

// Recorder is all tracks of a process, and those that the one before left. Any goroutine may use it; a Track has one writer.
type Recorder struct {
	o  Options
	mu sync.RWMutex // held while tracks are read, and to end them

	tracks []*Track
	before []*Track // of the process before; nobody writes them
	name   []byte   // what that one was called
}

const (
	magic    = "longwire flight 1\n"
	headSize = 4096 // of a file: magic, and from byte 64 the length and the bytes of Options.Process
	nameAt   = 64
	maxName  = 64
)

// Open makes a recorder.
func Open(o Options) (*Recorder, error) {
	if o.Tracks < 1 || o.Bytes < o.Tracks*EventSize {
		return nil, fmt.Errorf("flight recorder: %d bytes for %d tracks: want at least %d for each", o.Bytes, o.Tracks, EventSize)
	}
	if len(o.Process) > maxName {
		return nil, fmt.Errorf("flight recorder: the process's name has %d bytes: want at most %d", len(o.Process), maxName)
	}
	r := &Recorder{o: o}
	if o.Dir != "" {
		if err := r.takeOver(); err != nil {
			return nil, err
		}
	}
	size := o.Bytes / o.Tracks / EventSize * EventSize
	for i := range o.Tracks {
		ring, err := r.ring(i, size)
		if err != nil {
			r.Close()
			return nil, err
		}
		r.tracks = append(r.tracks, &Track{ring: ring})
	}
	return r, nil
}

func path(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("flight-%03d.ring", i)) }

// ring makes the memory of track i.
func (r *Recorder) ring(i, size int) ([]byte, error) {
	if r.o.Dir == "" {
		b, err := r.o.Map(size)
		if err != nil {
			return nil, fmt.Errorf("flight recorder: %w", err)
		}
		return b, nil
	}
	f, err := os.OpenFile(path(r.o.Dir, i), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("flight recorder: %w", err)
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, headSize)
	copy(head, magic)
	head[nameAt] = byte(len(r.o.Process))
	copy(head[nameAt+1:], r.o.Process)
	if _, err := f.Write(head); err != nil {
		return nil, fmt.Errorf("flight recorder: %w", err)
	}
	// All of it, so that a full disk is an error now and no signal later.
	zero := make([]byte, 1<<16)
	for left := size; left > 0; left -= len(zero) {
		if _, err := f.Write(zero[:min(left, len(zero))]); err != nil {
			return nil, fmt.Errorf("flight recorder: %w", err)
		}
	}
	b, err := r.o.MapFile(f, headSize+size)
	if err != nil {
		return nil, fmt.Errorf("flight recorder: map %s: %w", f.Name(), err)
	}
	return b[headSize:], nil
}

// takeOver reads what the process before left, and moves it aside: there is one process before.
func (r *Recorder) takeOver() error {
	if err := os.MkdirAll(r.o.Dir, 0o700); err != nil {
		return fmt.Errorf("flight recorder: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(r.o.Dir, "flight-*.ring"))
	if err != nil {
		return fmt.Errorf("flight recorder: %w", err)
	}
	slices.Sort(old)
	if len(old) == 0 {
		return nil
	}
	earlier, _ := filepath.Glob(filepath.Join(r.o.Dir, "flight-*.old"))
	for _, name := range earlier {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("flight recorder: %w", err)
		}
	}
	for _, name := range old {
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("flight recorder: %w", err)
		}
		if err := os.Rename(name, name[:len(name)-len("ring")]+"old"); err != nil {
			return fmt.Errorf("flight recorder: %w", err)
		}
		if t, process, ok := parseRing(b); ok {
			r.before, r.name = append(r.before, t), process
		}
	}
	return nil
}

// parseRing reads the bytes of a ring file.
func parseRing(b []byte) (t *Track, process []byte, ok bool) {
	if len(b) < headSize || string(b[:len(magic)]) != magic || b[nameAt] > maxName {
		return nil, nil, false
	}
	ring := b[headSize:]
	ring = ring[:len(ring)/EventSize*EventSize]
	// The words of an event are read by atomics, which want them aligned; a read file may lie anywhere.
	aligned := make([]uint64, len(ring)/8)
	return &Track{ring: copyWords(aligned, ring)}, slices.Clone(b[nameAt+1 : nameAt+1+int(b[nameAt])]), true
}

// Track is track i.
func (r *Recorder) Track(i int) *Track {
	if r == nil {
		return nil
	}
	return r.tracks[i]
}

// Before is what the process before called itself; nil when there is none.
func (r *Recorder) Before() []byte { return r.name }

// Bytes is the memory of all tracks, and Events how many they hold.
func (r *Recorder) Bytes() int {
	n := 0
	for _, t := range r.tracks {
		n += len(t.ring)
	}
	return n
}

// Close releases the memory. Nobody may use a track afterwards. Files stay.
func (r *Recorder) Close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.tracks {
		if r.o.Dir == "" {
			r.o.Unmap(t.ring)
		} else {
			r.o.Unmap(whole(t.ring))
		}
	}
	r.tracks, r.before = nil, nil
}
