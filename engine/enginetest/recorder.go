package enginetest

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/longwire/longwire/engine"
)

// event is what a handler was given of a channel.
type event struct {
	kind  string // "publication", "join" or "leave"
	pub   *engine.Publication
	epoch string
	info  *engine.ClientInfo
}

// String tells events apart.
func (e event) String() string {
	if e.kind == "publication" {
		return fmt.Sprintf("%q at %d in %q", e.pub.Data, e.pub.Offset, e.epoch)
	}
	return e.kind + " of " + e.info.Client
}

// recorder is a handler that notes what it is given, and what it must not be given.
type recorder struct {
	mu       sync.Mutex
	events   map[string][]event // by channel
	controls []string
	busy     map[string]bool // a delivery of the channel is going on
	closed   bool            // Close of the engine has returned
	faults   []error
	changed  chan struct{} // closed when something was noted
}

func newRecorder() *recorder {
	return &recorder{events: make(map[string][]event), busy: make(map[string]bool), changed: make(chan struct{})}
}

func (r *recorder) Publication(channel string, p *engine.Publication, epoch string) {
	r.note(channel, event{kind: "publication", pub: p, epoch: epoch})
}

func (r *recorder) Join(channel string, info *engine.ClientInfo) {
	r.note(channel, event{kind: "join", info: info})
}

func (r *recorder) Leave(channel string, info *engine.ClientInfo) {
	r.note(channel, event{kind: "leave", info: info})
}

func (r *recorder) Control(data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		r.faults = append(r.faults, errors.New("control after close"))
	}
	r.controls = append(r.controls, string(data))
	r.wake()
}

func (r *recorder) note(channel string, e event) {
	r.mu.Lock()
	if r.closed {
		r.faults = append(r.faults, fmt.Errorf("%v in %q after close", e, channel))
	}
	if r.busy[channel] {
		r.faults = append(r.faults, fmt.Errorf("%v in %q while another delivery of the channel goes on", e, channel))
	}
	r.busy[channel] = true
	r.mu.Unlock()
	runtime.Gosched() // gives a second delivery the chance to come
	r.mu.Lock()
	r.busy[channel] = false
	r.events[channel] = append(r.events[channel], e)
	r.wake()
	r.mu.Unlock()
}

// wake lets those who wait look again.
func (r *recorder) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// close makes every call from now on a fault.
func (r *recorder) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
}

func (r *recorder) fault() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.faults...)
}

// of is what came of a channel, in a slice of the caller's.
func (r *recorder) of(channel string) []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]event(nil), r.events[channel]...)
}

// controlled is how often data came.
func (r *recorder) controlled(data string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.controls {
		if c == data {
			n++
		}
	}
	return n
}

// wait asks f after each delivery until it has nothing to complain of.
func (r *recorder) wait(patience time.Duration, f func() error) error {
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-deadline:
			return fmt.Errorf("after %v still: %w", patience, err)
		}
	}
}
