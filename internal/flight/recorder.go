package flight

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Options say how much is recorded, and where.
type Options struct {
	Tracks int // one for each loop
	Bytes  int // of all events: at least MinBytes
	// Map reserves n bytes of zeroed memory, Unmap releases it. MapFile maps a file of n bytes, so that what is written
	// outlives the process, and Lock takes a file for this process until it is closed, or fails at once; both are needed with Dir.
	Map     func(n int) ([]byte, error)
	Unmap   func([]byte)
	MapFile func(f *os.File, n int) ([]byte, error)
	Lock    func(f *os.File) error
	// Dir keeps the ring in a file there, "" in memory. What the process before left there is read too, for as long as this one
	// runs.
	Dir string
	// Process is what this process has to say to the next one that it cannot know from events. At most MaxProcess bytes.
	Process []byte
}

// MaxProcess is the most bytes of Options.Process.
const MaxProcess = stepsAt - processAt

// MinBytes is the least that so many tracks need.
func MinBytes(tracks int) int { return 2 * tracks * EventSize }

// maxSegment is the most events that a track takes at a time: 4 KiB of them.
const maxSegment = 64

// Recorder is the ring of a process, and what the one before left. Any goroutine may use it; a Track has one writer.
type Recorder struct {
	o  Options
	mu sync.RWMutex // held to read the rings, and to end them

	ring    []byte // whole segments; guarded by mu, but tracks write the segments that they have claimed
	segment int    // bytes of one
	claimed []atomic.Bool
	next    atomic.Uint64 // segments that were ever claimed
	tracks  []*Track
	clock   clock

	before  []byte   // the ring of the process before, which nobody writes; guarded by mu
	earlier timeline // of before
	process []byte   // what that one said
	lock    *os.File
}

// Open makes a recorder.
func Open(o Options) (*Recorder, error) {
	if o.Tracks < 1 || o.Bytes < MinBytes(o.Tracks) {
		return nil, fmt.Errorf("flight recorder: %d bytes for %d loops: want at least %d", o.Bytes, o.Tracks, MinBytes(o.Tracks))
	}
	if len(o.Process) > MaxProcess {
		return nil, fmt.Errorf("flight recorder: the process has %d bytes to say: want at most %d", len(o.Process), MaxProcess)
	}
	r := &Recorder{o: o}
	events := o.Bytes / EventSize
	// Twice as many segments as tracks, so that one that is not being written is always near.
	r.segment = min(maxSegment, events/(2*o.Tracks)) * EventSize
	segments := o.Bytes / r.segment
	r.claimed = make([]atomic.Bool, segments)
	var err error
	if o.Dir == "" {
		r.clock.begin(time.Now(), make([]byte, mostSteps*stepSize))
		r.ring, err = o.Map(segments * r.segment)
	} else {
		err = r.openFiles(segments * r.segment)
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("flight recorder: %w", err)
	}
	for range o.Tracks {
		r.tracks = append(r.tracks, &Track{r: r, segment: -1})
	}
	return r, nil
}

// claim takes the next segment that no track writes for one that has filled another; -1 for none. Events of the new one have
// the sequence numbers that follow the one it returns: no two events ever have the same.
func (r *Recorder) claim(filled int) (left []byte, segment int, sequence uint64) {
	if filled >= 0 {
		r.claimed[filled].Store(false)
	}
	for { // there are more segments than tracks
		n := r.next.Add(1) - 1
		i := int(n % uint64(len(r.claimed)))
		if r.claimed[i].CompareAndSwap(false, true) {
			return r.ring[i*r.segment : (i+1)*r.segment], i, n * uint64(r.segment/EventSize)
		}
	}
}

// Track is track i; nil of a nil recorder.
func (r *Recorder) Track(i int) *Track {
	if r == nil {
		return nil
	}
	return r.tracks[i]
}

// Before is what the process before said, and whether there is one.
func (r *Recorder) Before() (process []byte, ok bool) { return r.process, r.before != nil }

// From is the time of the oldest event that is still known; zero without one.
func (r *Recorder) From() time.Time {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var oldest [2]int64 // of the process before, and of this one
	var known [2]bool
	r.each(func(before bool, s *slot) {
		i := 1
		if before {
			i = 0
		}
		if at := s.stamp(); !known[i] || at < oldest[i] {
			oldest[i], known[i] = at, true
		}
	})
	switch {
	case known[0]:
		return r.earlier.time(oldest[0])
	case known[1]:
		return r.clock.timeline().time(oldest[1])
	}
	return time.Time{}
}

// Kernel writes what the kernel saw of an end to track i, whose only writer the caller is. After Close it does nothing.
func (r *Recorder) Kernel(i int, at time.Time, conn uint64, k *Kernel) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.ring) > 0 && i < len(r.tracks) {
		r.tracks[i].Kernel(at, conn, k)
	}
}

// Close releases the memory. Nobody may use a track afterwards, and Find finds nothing. Files stay.
func (r *Recorder) Close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ring := range [][]byte{r.ring, r.before} {
		switch {
		case len(ring) == 0:
		case r.o.Dir == "":
			r.o.Unmap(ring)
		default:
			r.o.Unmap(whole(ring))
		}
	}
	r.ring, r.before = nil, nil
	r.clock.end()
	if r.lock != nil {
		_ = r.lock.Close()
		r.lock = nil
	}
}

// The files of a directory: the ring, that of the process before, one that is being made, and the one that is locked.
const (
	ringFile = "flight.ring"
	oldFile  = "flight.old"
	newFile  = "flight.new"
	lockFile = "flight.lock"
)

// Head of a ring's file: what it is, in which version, up to processAt the length (16 bits) of Options.Process, from there its bytes, and
// from stepsAt the steps of the clock.
const (
	magic     = "longwire flight "
	version   = "2\n"
	headSize  = 4096
	processAt = 66
	stepsAt   = headSize - mostSteps*stepSize
)

// openFiles takes the directory, reads what the process before left there, and makes the ring's file, of size bytes.
func (r *Recorder) openFiles(size int) error {
	if err := os.MkdirAll(r.o.Dir, 0o700); err != nil {
		return err
	}
	var err error
	if r.lock, err = os.OpenFile(filepath.Join(r.o.Dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := r.o.Lock(r.lock); err != nil {
		return fmt.Errorf("%s is in use by another process (%w): give each gateway a directory of its own", r.o.Dir, err)
	}
	// The new file first: if it cannot be had, what the process before left stays where it is.
	name := filepath.Join(r.o.Dir, newFile)
	if err = r.create(name, size); err == nil {
		err = r.takeOver()
	}
	if err == nil {
		err = os.Rename(name, filepath.Join(r.o.Dir, ringFile))
	}
	if err != nil {
		_ = os.Remove(name)
	}
	return err
}

// create makes the ring's file and maps it.
func (r *Recorder) create(name string, size int) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(head(r.o.Process)); err != nil {
		return err
	}
	// All of it, so that a full disk is an error now and no signal later.
	zero := make([]byte, 1<<16)
	for left := size; left > 0; left -= len(zero) {
		if _, err := f.Write(zero[:min(left, len(zero))]); err != nil {
			return err
		}
	}
	b, err := r.o.MapFile(f, headSize+size)
	if err != nil {
		return fmt.Errorf("map %s: %w", name, err)
	}
	r.clock.begin(time.Now(), b[stepsAt:headSize])
	r.ring = b[headSize:]
	return nil
}

func head(process []byte) []byte {
	b := make([]byte, headSize)
	copy(b, magic+version)
	b[processAt-2], b[processAt-1] = byte(len(process)), byte(len(process)>>8)
	copy(b[processAt:], process)
	return b
}

// takeOver reads what the process before left, and sets it aside: there is one process before.
func (r *Recorder) takeOver() error {
	name := filepath.Join(r.o.Dir, ringFile)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() || fi.Size() < headSize {
		return corrupt(name)
	}
	b, err := r.o.MapFile(f, int(fi.Size()))
	if err != nil {
		return fmt.Errorf("map %s: %w", name, err)
	}
	ring, process, ok, current := parse(b)
	switch {
	case !ok:
		r.o.Unmap(b)
		return corrupt(name)
	case !current || len(ring) == 0:
		r.o.Unmap(b) // another version's: nothing can be said of it
	default:
		r.before, r.process, r.earlier = ring, process, readTimeline(b[stepsAt:headSize])
	}
	return os.Rename(name, filepath.Join(r.o.Dir, oldFile))
}

func corrupt(name string) error {
	return fmt.Errorf("%s is no flight recorder's file, or is damaged: remove it, or choose another directory", name)
}

// parse reads the bytes of a ring's file, which ring aliases. current: it is of this version.
func parse(b []byte) (ring, process []byte, ok, current bool) {
	if len(b) < headSize || string(b[:len(magic)]) != magic {
		return nil, nil, false, false
	}
	if string(b[len(magic):][:len(version)]) != version {
		return nil, nil, true, false
	}
	n := int(b[processAt-2]) | int(b[processAt-1])<<8
	if n > MaxProcess || (len(b)-headSize)%EventSize != 0 {
		return nil, nil, false, true
	}
	return b[headSize:], append([]byte{}, b[processAt:processAt+n]...), true, true
}
