package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// Contention is the waiting for locks at one stack, from a mutex profile (who held the lock that others waited for) or a block
// profile (who waited).
type Contention struct {
	Frames []Frame // the callee first: Unlock of a holder, Lock of one that waits
	Holds  bool
	Count  int64
	Delay  time.Duration // of all that waited
}

// LockProfile is what one mutex or block profile has of locks. Waiting for channels is left out: that is often what a goroutine is for.
type LockProfile struct {
	At     time.Duration // since the beginning
	Span   time.Duration // that it covers; 0 says since the program's start
	Stacks []Contention
}

// Locks are the functions of package sync that take a lock, and those that give it back.
var (
	lockTakers = []string{"sync.(*Mutex).Lock", "sync.(*RWMutex).Lock", "sync.(*RWMutex).RLock", "internal/sync.(*Mutex).Lock", "internal/sync.(*Mutex).lockSlow", "sync.(*Mutex).lockSlow"}
	lockGivers = []string{"sync.(*Mutex).Unlock", "sync.(*RWMutex).Unlock", "sync.(*RWMutex).RUnlock", "internal/sync.(*Mutex).Unlock", "internal/sync.(*Mutex).unlockSlow", "sync.(*Mutex).unlockSlow", "sync.(*RWMutex).rUnlockSlow"}
)

// takesLock and givesLock say what a stack stands in: of package sync, nothing but that lock is above the caller.
func takesLock(frames []Frame) bool { return standsIn(frames, lockTakers) }
func givesLock(frames []Frame) bool { return standsIn(frames, lockGivers) }

func standsIn(frames []Frame, functions []string) bool {
	for _, f := range frames {
		if slices.Contains(functions, f.Function) {
			return true
		}
		if p := packageOf(f.Function); p != "runtime" && p != "sync" && p != "internal/sync" {
			return false
		}
	}
	return false
}

// ParseLocks reads a mutex or block profile in the pprof format. b is not retained.
func ParseLocks(b []byte, at time.Duration) (LockProfile, error) {
	p, err := parseProfile(b)
	if err != nil {
		return LockProfile{}, fmt.Errorf("read mutex or block profile: %w", err)
	}
	count, delay := -1, -1
	for i, t := range p.SampleType {
		switch {
		case t.Type == "contentions":
			count = i
		case t.Type == "delay" && t.Unit == "nanoseconds":
			delay = i
		}
	}
	if count < 0 || delay < 0 {
		return LockProfile{}, errors.New("read mutex or block profile: it counts no contentions: is it another kind of profile?")
	}
	l := LockProfile{At: at, Span: time.Duration(p.DurationNanos)}
	for _, s := range p.Sample {
		frames := framesOf(s)
		c := Contention{Frames: frames, Holds: givesLock(frames), Count: s.Value[count], Delay: time.Duration(s.Value[delay])}
		if (c.Holds || takesLock(frames)) && c.Count >= 0 && c.Delay >= 0 {
			l.Stacks = append(l.Stacks, c)
		}
	}
	return l, nil
}

// isLockProfile says whether a profile is one of contention.
func isLockProfile(p *profile.Profile) bool {
	return slices.ContainsFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == "contentions" })
}

// since is what came between two profiles of one kind.
func (l LockProfile) since(before LockProfile) LockProfile {
	d := LockProfile{At: l.At, Span: l.At - before.At}
	old := map[string]Contention{}
	for _, c := range before.Stacks {
		k := stackKey(c.Frames)
		o := old[k]
		o.Count, o.Delay = o.Count+c.Count, o.Delay+c.Delay
		old[k] = o
	}
	for _, c := range l.Stacks {
		k := stackKey(c.Frames)
		o := old[k]
		delete(old, k)
		if c.Count, c.Delay = c.Count-o.Count, c.Delay-o.Delay; c.Count > 0 && c.Delay > 0 {
			d.Stacks = append(d.Stacks, c)
		}
	}
	return d
}

// mutexPeriod reads the sampling period out of the text form of a mutex profile: 0 is off, -1 not known.
func mutexPeriod(b []byte) int {
	for line := range bytes.Lines(b[:min(len(b), 4096)]) {
		if v, ok := strings.CutPrefix(string(line), "sampling period="); ok {
			n := 0
			if _, err := fmt.Sscan(v, &n); err == nil {
				return n
			}
		}
	}
	return -1
}
