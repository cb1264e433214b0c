package hook

import (
	"log/slog"
	"sync"
	"time"
)

// State is what a breaker does with calls.
type State uint8

// The states.
const (
	Closed   State = iota // calls are made
	Open                  // none is made
	HalfOpen              // one at a time is made: the trial
)

// String is the state's name in logs.
func (s State) String() string { return [...]string{"closed", "open", "half-open"}[s] }

// verdict is what one call says about the backend.
type verdict uint8

const (
	unknown verdict = iota
	healthy
	failed
)

// breaker keeps calls from a backend that fails.
type breaker struct {
	limit int           // failures in a row that open it
	open  time.Duration // until a trial
	now   func() time.Time
	log   *slog.Logger

	mu       sync.Mutex
	state    State
	term     uint64 // counts the changes of state
	failures int    // in a row, while closed
	since    time.Time
	trial    bool // while half-open: it runs
}

// ready reports whether enter would let a call in now. It changes nothing.
func (b *breaker) ready() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state {
	case Open:
		return b.due()
	case HalfOpen:
		return !b.trial
	}
	return true
}

// due reports whether the time for a trial has come. The caller holds mu.
func (b *breaker) due() bool { return b.now().Sub(b.since) >= b.open }

// enter lets a call in, or not. Who is let in calls leave with pass, once.
func (b *breaker) enter() (pass uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state {
	case Open:
		if !b.due() {
			return 0, false
		}
		b.change(HalfOpen)
		b.trial = true
		b.log.Info("hook breaker half-open: a trial")
	case HalfOpen:
		if b.trial {
			return 0, false
		}
		b.trial = true
	}
	return b.term, true
}

// leave tells how a call went. One that began before the last change of state says nothing about now.
func (b *breaker) leave(pass uint64, v verdict, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if pass != b.term {
		return
	}
	if b.state == HalfOpen {
		b.trial = false // without a verdict, the next call is the trial
	}
	switch {
	case v == healthy && b.state == HalfOpen:
		b.change(Closed)
		b.log.Info("hook breaker closed")
	case v == healthy:
		b.failures = 0
	case v == failed:
		if b.failures++; b.state == HalfOpen || b.failures >= b.limit {
			b.change(Open)
			b.log.Warn("hook breaker open", slog.Duration("for", b.open), slog.Any("error", err))
		}
	}
}

// change changes the state. The caller holds mu.
func (b *breaker) change(s State) {
	b.state, b.since, b.failures = s, b.now(), 0
	b.term++
}

// current is the state, which is Open until a call comes as a trial.
func (b *breaker) current() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}
