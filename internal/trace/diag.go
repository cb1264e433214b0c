package trace

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// watch is LevelDiag: the kernel tells of each socket that is destroyed, and shows those that are there.
type watch struct {
	port   uint16 // 0: those that Closing told of
	steps  bool
	handle func(*Event)
	idle   func()
	ends   *sys.Destroyed
	diag   *sys.Diag // with port

	told, lost  atomic.Uint64
	transitions [16][16]atomic.Uint64

	mu     sync.Mutex
	closed map[uint64]Life // guarded by mu: by cookie, what Closing told, until the kernel tells of its end

	known map[uint64]glimpse // of run: by cookie, connections of port
}

// glimpse is what a look at a socket found.
type glimpse struct {
	local, remote netip.AddrPort
	path          Path
	round         uint // of the last look that found it
}

// fading is how long the kernel may take from close to the end: it goes on trying to deliver what was written.
const fading = 5 * time.Minute

func openDiag(o Options, network *sys.Network) (source, error) {
	w := &watch{port: o.Port, steps: o.Steps, handle: o.Handle, idle: o.Idle, closed: make(map[uint64]Life), known: make(map[uint64]glimpse)}
	err := in(network, func() (err error) {
		if w.ends, err = sys.OpenDestroyed(); err != nil {
			return err
		}
		if w.port == 0 {
			return nil
		}
		if w.diag, err = sys.OpenDiag(); err != nil {
			return errors.Join(err, w.ends.Close())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (*watch) trackListener(int) error { return nil }
func (*watch) tag(int, [16]byte) error { return nil }
func (*watch) look(int) (Life, error)  { return Life{Level: LevelDiag}, nil }
func (*watch) descriptors() []int      { return nil }

func (w *watch) stats() (Stats, error) {
	s := Stats{Events: w.told.Load(), Lost: w.lost.Load()}
	for from := range w.transitions {
		for to := range w.transitions[from] {
			s.Transitions[from][to] = w.transitions[from][to].Load()
		}
	}
	return s, nil
}

func (w *watch) closing(fd int, id [16]byte, seen Seen) error {
	l, err := lastLook(fd, id, seen)
	if err != nil {
		return err
	}
	l.Level = LevelDiag
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.closed) >= closings {
		w.lost.Add(1)
		return nil
	}
	w.closed[l.Cookie] = l
	return nil
}

func (w *watch) close() error {
	err := w.ends.Close()
	if w.diag != nil {
		err = errors.Join(err, w.diag.Close())
	}
	return err
}

func (w *watch) run(ctx context.Context) error {
	var look, sweep time.Time // when the next is due
	var round uint
	for ctx.Err() == nil {
		now := time.Now()
		if w.diag != nil && !now.Before(look) {
			round++
			if err := w.survey(round); err != nil {
				return err
			}
			// A look at a million sockets takes a second: it may take a tenth of the time.
			look = time.Now().Add(max(time.Second, 10*time.Since(now)))
		}
		if !now.Before(sweep) {
			w.tellClosed(now.Add(-fading))
			sweep = now.Add(fading / 10)
		}
		quiet, err := w.hear()
		if err != nil {
			return err
		}
		if quiet {
			w.idle()
		}
	}
	for range closings {
		if quiet, err := w.hear(); quiet || err != nil {
			break
		}
	}
	w.tellClosed(time.Now())
	w.idle()
	return nil
}

// hear waits for a tick for what the kernel tells. quiet says that it told nothing.
func (w *watch) hear() (quiet bool, err error) {
	lost, err := w.ends.Read(time.Now().Add(tick), w.destroyed)
	if lost {
		w.lost.Add(1) // how many is not told
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true, nil
	}
	return false, err
}

// destroyed takes the kernel's word of an end.
func (w *watch) destroyed(s sys.Socket) {
	g, known := w.known[s.Cookie]
	delete(w.known, s.Cookie)
	w.mu.Lock()
	l, ours := w.closed[s.Cookie]
	delete(w.closed, s.Cookie)
	w.mu.Unlock()
	if !ours && !known && (w.port == 0 || s.Local.Port() != w.port) {
		return
	}
	l.Level, l.Cookie, l.Ended, l.Closed = LevelDiag, s.Cookie, true, time.Now()
	l.take(s.Info)
	l.Local, l.Remote = s.Local, s.Remote
	if known {
		l.Local, l.Remote, l.Path = g.local, g.remote, g.path.Then(s.State)
		if !ours {
			l.First = g.path.FirstFIN()
		}
		w.step(s.Cookie, &g, g.path.Last(), s.State)
	}
	w.told.Add(1)
	w.handle(ended(&l))
}

// survey compares the sockets that are there with those that were.
func (w *watch) survey(round uint) error {
	err := w.diag.Sockets(w.port, func(s sys.Socket) {
		g, ok := w.known[s.Cookie]
		if !ok {
			g = glimpse{local: s.Local, remote: s.Remote}
		}
		if from := g.path.Last(); from != s.State {
			g.path = g.path.Then(s.State)
			w.step(s.Cookie, &g, from, s.State)
		}
		g.round = round
		w.known[s.Cookie] = g
	})
	if err != nil {
		return fmt.Errorf("look at the sockets of port %d: %w", w.port, err)
	}
	for cookie, g := range w.known {
		if g.round+2 < round { // gone, and the kernel's word of it was lost
			delete(w.known, cookie)
			w.lost.Add(1)
		}
	}
	return nil
}

// step counts a step between two looks, and tells it. From no state is where a look found the connection.
func (w *watch) step(cookie uint64, g *glimpse, from, to sys.SocketState) {
	if from != 0 {
		w.transitions[from&15][to&15].Add(1)
	}
	if !w.steps {
		return
	}
	w.told.Add(1)
	w.handle(&Event{Kind: KindState, Time: time.Now(), Cookie: cookie, Local: g.local, Remote: g.remote, From: from, To: to})
}

// tellClosed tells of the sockets that were closed until then and of whose end the kernel has said nothing.
func (w *watch) tellClosed(until time.Time) {
	w.mu.Lock()
	var late []Life
	for cookie, l := range w.closed {
		if !l.Closed.After(until) {
			late = append(late, l)
			delete(w.closed, cookie)
		}
	}
	w.mu.Unlock()
	for i := range late {
		w.told.Add(1)
		w.handle(ended(&late[i]))
	}
}
