package loop_test

import (
	"slices"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/loop"
)

// bells is a fake world whose one loop notes when its alarms ring. The times belong to its thread.
type bells struct {
	*fake
	start time.Duration
	rung  []time.Duration // since start
}

func newBells(t *testing.T, s script) *bells {
	b := &bells{fake: newFake(t, loop.Options{}, s)}
	b.sys.Settle()
	b.start = b.sys.Now()
	return b
}

func (b *bells) ring() { b.rung = append(b.rung, b.sys.Now()-b.start) }

func (b *bells) set(d time.Duration, ring func()) {
	b.t.Helper()
	b.on(b.only(), func(h *handler) { h.l.SetAlarm(d, ring) })
	b.sys.Settle()
}

func (b *bells) want(want ...time.Duration) {
	b.t.Helper()
	b.on(b.only(), func(*handler) {
		if !slices.Equal(b.rung, want) {
			b.t.Errorf("rung at %v, want %v", b.rung, want)
		}
	})
}

const us = time.Microsecond

func TestAlarm(t *testing.T) {
	t.Run("once, when it is due", func(t *testing.T) {
		b := newBells(t, script{})
		b.set(70*us, b.ring)
		b.sys.Advance(69 * us)
		b.want()
		b.sys.Advance(us)
		b.want(70 * us)
		waits := b.sys.Waits()
		b.sys.Advance(time.Hour)
		b.want(70 * us)
		if n := b.sys.Waits() - waits; n > 2 {
			t.Errorf("%d waits of a loop without an alarm", n)
		}
	})
	t.Run("due at once", func(t *testing.T) {
		b := newBells(t, script{})
		b.set(0, b.ring)
		b.want(0)
		b.set(-time.Hour, b.ring)
		b.want(0, 0)
	})
	t.Run("as late as can be", func(t *testing.T) {
		b := newBells(t, script{})
		b.set(1<<63-1, b.ring)
		b.sys.Advance(24 * time.Hour)
		b.want()
	})
	t.Run("replaced", func(t *testing.T) {
		b := newBells(t, script{})
		b.set(50*us, func() { t.Error("rung, though another was set instead") })
		b.set(90*us, b.ring)
		b.sys.Advance(time.Millisecond)
		b.want(90 * us)
		b.set(time.Second, func() { t.Error("rung, though an earlier one was set instead") })
		b.set(50*us, b.ring)
		b.sys.Advance(time.Minute)
		b.want(90*us, time.Millisecond+50*us)
	})
	t.Run("taken back", func(t *testing.T) {
		b := newBells(t, script{})
		b.set(50*us, func() { t.Error("rung, though it was taken back") })
		b.set(0, nil)
		waits := b.sys.Waits()
		b.sys.Advance(time.Hour)
		if n := b.sys.Waits() - waits; n > 1 {
			t.Errorf("%d waits of a loop without an alarm", n)
		}
	})
	t.Run("from itself", func(t *testing.T) {
		b := newBells(t, script{})
		var again func()
		again = func() {
			b.ring()
			if len(b.rung) < 4 {
				b.only().SetAlarm(250*us, again)
			}
		}
		b.set(250*us, again)
		b.sys.Advance(time.Hour)
		b.want(250*us, 500*us, 750*us, 1000*us)
	})
	t.Run("behind its time", func(t *testing.T) {
		b := newBells(t, script{})
		b.set(250*us, b.ring)
		b.sys.Jump(3 * time.Second)
		b.sys.Settle()
		b.want(3 * time.Second)
	})
}

// TestAlarmBesideTimers has an alarm and a conn's timer each come at its own time, in either order.
func TestAlarmBesideTimers(t *testing.T) {
	for _, at := range []time.Duration{30 * us, loop.Tick, 250*time.Millisecond + 7*us, time.Second + us} {
		var timer, start time.Duration
		var b *bells
		b = newBells(t, script{
			opened: func(h *handler, i uint32, _ loop.Opening) { h.l.SetTimer(i, 300*time.Millisecond) },
			timer:  func(*handler, uint32) { timer = b.sys.Now() - b.start },
		})
		p := b.dial()
		start = b.sys.Now() - b.start
		b.set(at, b.ring)
		b.sys.Advance(time.Minute)
		b.want(start + at)
		b.on(b.only(), func(*handler) {
			if late := timer - start - 300*time.Millisecond; late < -loop.Tick || late > loop.Tick {
				t.Errorf("alarm at %v: the timer is %v late", at, late)
			}
		})
		p.Close()
	}
}

// TestAlarmHasTheLoop does in an alarm what handlers do: write, end, dial.
func TestAlarmHasTheLoop(t *testing.T) {
	b := newBells(t, script{})
	p, q := b.dial(), b.dial()
	b.set(10*us, func() {
		l := b.only()
		l.Write(b.conn(0).slot, []byte("first "))
		l.Write(b.conn(0).slot, []byte("second"))
		l.Drop(b.conn(1).slot)
		if _, err := b.handlers[l].dial(b.at); err != nil {
			t.Error(err)
		}
	})
	b.sys.Advance(10 * us)
	wantRead(t, p, "first second")
	if !q.EOF() {
		t.Error("the conn that was dropped stands")
	}
	b.wantEnd(1, loop.EndLocal, nil)
	if n := b.count(); n != 4 { // a dial has two ends here
		t.Errorf("%d conns, want 4", n)
	}
}

// TestAlarmAtTheEnd: a loop that ends rings no more, not even for what is set while its conns end.
func TestAlarmAtTheEnd(t *testing.T) {
	rung := func() { t.Error("rung after the end") }
	b := newBells(t, script{closed: func(h *handler, _ uint32, _ loop.End) { h.l.SetAlarm(0, rung) }})
	b.dial()
	b.set(time.Millisecond, rung)
	if err := b.g.Close(); err != nil {
		t.Error(err)
	}
	b.sys.Advance(time.Hour)
	b.wantEnd(0, loop.EndStopped, nil)
}

// TestKernelAlarm has real kernels ring, and not before time.
func TestKernelAlarm(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		w := k.world(t, 1, script{})
		l := w.g.Loops()[0]
		early := make(chan time.Duration, 1)
		for _, d := range []time.Duration{0, 20 * us, 700 * us, 3 * time.Millisecond} {
			err := l.Call(func() {
				begin := l.Clock()
				l.SetAlarm(d, func() { early <- d - (l.Clock() - begin) })
			})
			if err != nil {
				t.Fatal(err)
			}
			if e := <-early; e > 0 {
				t.Errorf("an alarm of %v rang %v early", d, e)
			}
		}
	})
}
