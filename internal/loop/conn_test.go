package loop_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/loop/looptest"
)

func TestEcho(t *testing.T) {
	f := newFake(t, loop.Options{}, script{data: echo})
	p := f.dial()
	p.Write([]byte("hello"))
	wantRead(t, p, "hello")
	p.CloseWrite()
	f.sys.Settle()
	f.wantEnd(0, loop.EndEOF, nil)
	if !p.EOF() || p.WasReset() {
		t.Errorf("EOF %t, reset %t", p.EOF(), p.WasReset())
	}
	if r := f.conn(0); r.how != loop.Accepted || r.opened != true {
		t.Errorf("record %+v", r)
	}
}

// TestDataBeforeAccept: what is there when the conn is accepted is read without another round.
func TestDataBeforeAccept(t *testing.T) {
	f := newFake(t, loop.Options{}, script{data: echo})
	f.sys.Settle()
	waits := f.sys.Waits()
	f.on(f.only(), func(*handler) { // the loop is busy while the peer connects and speaks
		p := f.sys.Dial()
		p.Write([]byte("first"))
	})
	f.sys.Settle()
	if r := f.conn(0); string(r.data) != "first" {
		t.Errorf("got %q", r.data)
	}
	if n := f.sys.Waits() - waits; n > 3 {
		t.Errorf("%d waits", n)
	}
}

// TestCoalesce: whatever the callbacks of one iteration write to a conn leaves in one write.
func TestCoalesce(t *testing.T) {
	for name, c := range map[string]struct {
		s     script
		cause func(f *fake, p *looptest.Peer)
	}{
		"data": {
			s: script{data: func(h *handler, i uint32, b []byte) {
				for _, c := range b {
					h.l.Write(i, []byte{c})
				}
			}},
			cause: func(_ *fake, p *looptest.Peer) { p.Write([]byte("abc")) },
		},
		"opened": {
			s: script{opened: func(h *handler, i uint32, _ loop.Opening) {
				for _, c := range "abc" {
					h.l.Write(i, []byte{byte(c)})
				}
			}},
			cause: func(*fake, *looptest.Peer) {},
		},
		"posts": {
			s: script{post: writePost},
			cause: func(f *fake, _ *looptest.Peer) {
				id := f.conn(0).id
				f.on(f.only(), func(h *handler) { // they wait together
					for _, c := range "abc" {
						_ = f.g.Post(id, 1, []byte{byte(c)})
					}
				})
			},
		},
		"timer": {
			s: script{
				opened: func(h *handler, i uint32, _ loop.Opening) { h.l.SetTimer(i, time.Second) },
				timer: func(h *handler, i uint32) {
					for _, c := range "abc" {
						h.l.Write(i, []byte{byte(c)})
					}
				}},
			cause: func(f *fake, _ *looptest.Peer) { f.sys.Advance(1100 * time.Millisecond) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, loop.Options{}, c.s)
			p := f.dial()
			c.cause(f, p)
			wantRead(t, p, "abc")
			if w := p.Writes(); len(w) != 1 {
				t.Errorf("writes of %v bytes, want one", w)
			}
		})
	}
}

// TestWriteToOthers: what one conn's callback writes to others leaves in the same iteration, whichever
// callback it is.
func TestWriteToOthers(t *testing.T) {
	var ids []loop.ID
	tell := func(h *handler, what string) {
		for _, id := range ids {
			if i, ok := h.l.Find(id); ok {
				h.l.Write(i, []byte(what))
			}
		}
	}
	f := newFake(t, loop.Options{}, script{
		opened: func(h *handler, i uint32, _ loop.Opening) {
			tell(h, "opened ")
			ids = append(ids, h.l.ID(i))
		},
		data: func(h *handler, i uint32, b []byte) {
			switch string(b) {
			case "finish":
				h.l.Finish(i)
			case "drop":
				h.l.Drop(i)
			case "fill":
				h.l.Write(i, make([]byte, 100))
			case "timer":
				h.l.SetTimer(i, time.Second)
			}
		},
		drained: func(h *handler, i uint32) { tell(h, "drained ") },
		timer:   func(h *handler, i uint32) { tell(h, "timer ") },
		closed:  func(h *handler, i uint32, _ loop.End) { tell(h, "closed ") },
		post: func(h *handler, id loop.ID, _ uint8, payload []byte) {
			if i, ok := h.l.Find(id); ok {
				h.l.Drop(i)
			}
		},
	})
	watcher := f.dial()
	expect := func(what string) {
		t.Helper()
		wantRead(t, watcher, what)
	}
	next := func() *looptest.Peer {
		p := f.dial()
		expect("opened ")
		return p
	}
	p := next()
	p.Write([]byte("drop"))
	expect("closed ")

	p = next()
	p.Write([]byte("finish"))
	f.sys.Settle()
	p.Close()
	expect("closed ")

	p = next()
	p.Reset()
	expect("closed ")

	next()
	_ = f.g.Post(f.conn(f.count()-1).id, 0, nil) // Closed comes between posts and Wait
	expect("closed ")

	p = next()
	p.Write([]byte("timer"))
	f.sys.Advance(2 * time.Second)
	expect("timer ")
	p.Limit(10)
	p.Write([]byte("fill"))
	f.sys.Settle()
	p.Limit(-1)
	expect("drained ")

	// A write that fails at the end of the iteration ends a conn then, and that is told too.
	p.FailWrite(syscall.EPIPE)
	f.on(f.only(), func(h *handler) {
		i, _ := h.l.Find(f.conn(f.count() - 1).id)
		h.l.Write(i, []byte("x"))
	})
	expect("closed ")
}

// TestReadBudget: who sends without end does not keep others waiting.
func TestReadBudget(t *testing.T) {
	var order []string
	f := newFake(t, loop.Options{}, script{data: func(h *handler, i uint32, b []byte) {
		order = append(order, fmt.Sprintf("%d:%d", i, len(b)))
	}})
	fast, slow := f.dial(), f.dial()
	f.on(f.only(), func(*handler) {
		fast.Write(make([]byte, 1<<20))
		slow.Write([]byte("x"))
	})
	f.sys.Settle()
	at := slices.Index(order, "1:1")
	if at != 4 {
		t.Errorf("the other conn is served after %d reads of 64 KiB, want 4: %v", at, order)
	}
	if n := len(f.conn(0).data); n != 1<<20 {
		t.Errorf("%d bytes arrived", n)
	}
}

func TestPauseResume(t *testing.T) {
	f := newFake(t, loop.Options{}, script{
		data: func(h *handler, i uint32, b []byte) { h.l.Pause(i) },
		post: func(h *handler, id loop.ID, kind uint8, _ []byte) {
			if i, ok := h.l.Find(id); ok {
				if h.l.Resume(i); kind == 2 {
					h.l.Pause(i)
				}
			}
		},
	})
	p := f.dial()
	id := f.conn(0).id
	p.Write([]byte("one"))
	f.sys.Settle()
	p.Write([]byte("two"))
	waits := f.sys.Waits()
	f.sys.Settle()
	if n := f.sys.Waits() - waits; n != 0 {
		t.Errorf("a paused conn woke the loop %d times", n)
	}
	if r := f.conn(0); string(r.data) != "one" || p.Unread() != 3 {
		t.Errorf("data %q, %d unread", r.data, p.Unread())
	}
	_ = f.g.Post(id, 2, nil)
	f.sys.Settle()
	if p.Unread() != 3 {
		t.Error("read after Resume and Pause")
	}
	_ = f.g.Post(id, 1, nil)
	f.sys.Settle()
	if r := f.conn(0); string(r.data) != "onetwo" {
		t.Errorf("data %q", r.data)
	}
	// The end of a paused conn: a FIN waits until Resume, a reset does not.
	p.CloseWrite()
	f.sys.Settle()
	f.wantLive(0)
	_ = f.g.Post(id, 1, nil)
	f.sys.Settle()
	f.wantEnd(0, loop.EndEOF, nil)

	p = f.dial()
	p.Write([]byte("one"))
	f.sys.Settle()
	p.Write([]byte("lost"))
	p.Reset()
	f.sys.Settle()
	f.wantEnd(1, loop.EndError, syscall.ECONNRESET)
	if r := f.conn(1); string(r.data) != "one" {
		t.Errorf("data %q of a paused conn", r.data)
	}
}

// TestBlocked: what the socket does not take waits in order, Drained tells when it is written, and Queued
// how much it is.
func TestBlocked(t *testing.T) {
	var queued []int
	bang := false
	f := newFake(t, loop.Options{}, script{
		data: func(h *handler, i uint32, b []byte) {
			h.l.Write(i, b)
			queued = append(queued, h.l.Queued(i))
		},
		drained: func(h *handler, i uint32) {
			if !bang {
				h.l.Write(i, []byte("!"))
			}
			bang = true
		},
	})
	p := f.dial()
	p.Limit(10)
	p.Write([]byte("0123456789abcdef"))
	f.sys.Settle()
	p.Write([]byte("ghij"))
	f.sys.Settle()
	if !slices.Equal(queued, []int{0, 10}) {
		t.Errorf("Queued = %v after each write, want none and 10", queued)
	}
	if n := f.only().Stats.QueueBytes.Load(); n != 10 {
		t.Errorf("QueueBytes = %d", n)
	}
	for k, want := range []string{"0123456789", "abcdefghij", "!", ""} { // the "!" blocks too
		if got := string(p.Read()); got != want {
			t.Errorf("read %d: %q, want %q", k, got, want)
		}
	}
	if r := f.conn(0); r.drains != 2 {
		t.Errorf("%d times Drained, want 2", r.drains)
	}
	if n := f.only().Stats.QueueBytes.Load(); n != 0 {
		t.Errorf("QueueBytes = %d", n)
	}
}

// TestRandomTraffic has peers send and read at random, pauses and resumes the conns at random, and wants all
// bytes echoed and the ends seen: readiness that is missed once is missed for ever.
func TestRandomTraffic(t *testing.T) {
	noise := make([]byte, 1<<20)
	for k := range noise {
		noise[k] = byte(k * k >> 7)
	}
	for seed := range uint64(15) {
		r := rand.New(rand.NewPCG(seed, 9))
		loops := rand.New(rand.NewPCG(seed, 10))
		f := newFake(t, loop.Options{ReadBuffer: 16 << 10}, script{
			data: func(h *handler, i uint32, b []byte) {
				h.l.Write(i, b)
				if loops.IntN(10) == 0 {
					h.l.Pause(i)
				}
			},
			post: func(h *handler, id loop.ID, kind uint8, _ []byte) {
				i, ok := h.l.Find(id)
				switch {
				case !ok:
				case kind == 0:
					h.l.Pause(i)
				default:
					h.l.Resume(i)
				}
			},
		})
		type traffic struct {
			p         *looptest.Peer
			id        loop.ID
			sent, got bytes.Buffer
			over      bool
		}
		var all []*traffic
		for range 6 {
			p := f.dial()
			all = append(all, &traffic{p: p, id: f.conn(f.count() - 1).id})
		}
		for range 150 {
			x := all[r.IntN(len(all))]
			switch n := r.IntN(12); {
			case n < 4 && !x.over:
				sizes := []int{1, 100, 16<<10 - 1, 16 << 10, 16<<10 + 1, 32 << 10, 300_000}
				at := r.IntN(len(noise) / 2)
				b := noise[at : at+sizes[r.IntN(len(sizes))]]
				x.sent.Write(b)
				x.p.Write(b)
			case n == 4 && !x.over && r.IntN(8) == 0:
				x.over = true
				x.p.CloseWrite()
			case n == 5:
				x.p.Limit(r.IntN(1 << (4 + r.IntN(16))))
			case n == 6:
				x.got.Write(x.p.Read())
			case n == 7:
				x.got.Write(x.p.ReadN(r.IntN(100_000)))
			case n < 10:
				_ = f.g.Post(x.id, uint8(n-8), nil)
			case n == 10:
				f.sys.Settle()
			case n == 11:
				f.sys.Advance(100 * time.Millisecond)
			}
		}
		for k, x := range all {
			x.p.Limit(-1)
			for quiet := 0; quiet < 3; { // a callback may pause it once more
				_ = f.g.Post(x.id, 1, nil)
				b := x.p.Read()
				x.got.Write(b)
				if quiet++; len(b) > 0 || x.p.Unread() > 0 {
					quiet = 0
				}
			}
			// Of who has sent a FIN, what the socket did not take is dropped at the end.
			if got := x.got.Bytes(); !bytes.HasPrefix(x.sent.Bytes(), got) || !x.over && len(got) != x.sent.Len() {
				t.Errorf("seed %d: conn %d: %d bytes echoed of %d", seed, k, len(got), x.sent.Len())
			}
			if x.over {
				f.wantEnd(k, loop.EndEOF, nil)
			} else {
				f.wantLive(k)
			}
			if r := f.conn(k); !bytes.Equal(r.data, x.sent.Bytes()) {
				t.Errorf("seed %d: conn %d: %d bytes arrived of %d", seed, k, len(r.data), x.sent.Len())
			}
		}
		f.finish()
	}
}

// TestBacklogStaysBounded: a consumer that is always a bit behind does not make its queue grow.
func TestBacklogStaysBounded(t *testing.T) {
	f := newFake(t, loop.Options{}, script{post: writePost})
	p := f.dial()
	id := f.conn(0).id
	p.Limit(1000)
	var sent, got bytes.Buffer
	step := func(k int) {
		b := bytes.Repeat([]byte{byte('a' + k%26)}, 1000)
		sent.Write(b)
		if err := f.g.Post(id, 0, b); err != nil {
			t.Fatal(err)
		}
		f.sys.Settle()
	}
	step(0)
	step(1)
	step(2)
	for k := range 1000 {
		step(k)
		got.Write(p.Read())
	}
	f.on(f.only(), func(h *handler) {
		i, _ := h.l.Find(id)
		if n := cap(h.l.Buffer(i)); n > 64<<10 {
			t.Errorf("a backlog of %d bytes holds a buffer of %d", h.l.Queued(i), n)
		}
	})
	p.Limit(-1)
	got.Write(p.Read())
	if !bytes.Equal(got.Bytes(), sent.Bytes()) {
		t.Errorf("%d bytes arrived of %d, or in another order", got.Len(), sent.Len())
	}
}

// TestLargeReply: a handler that writes a lot in one callback does not pile it up.
func TestLargeReply(t *testing.T) {
	f := newFake(t, loop.Options{}, script{data: func(h *handler, i uint32, b []byte) {
		for k := range 100 {
			h.l.Write(i, bytes.Repeat([]byte{byte(k)}, 10_000))
		}
	}})
	p := f.dial()
	p.Write([]byte("go"))
	if got := p.Read(); len(got) != 1_000_000 || got[0] != 0 || got[999_999] != 99 {
		t.Errorf("%d bytes", len(got))
	}
	if w := p.Writes(); slices.Max(w) > 80_000 {
		t.Errorf("writes of %v", w)
	}
	// The same to one that stops reading in the middle.
	p.Limit(300_000)
	p.Write([]byte("go"))
	var got []byte
	for {
		b := p.Read()
		if len(b) == 0 {
			break
		}
		got = append(got, b...)
	}
	if len(got) != 1_000_000 || !slices.IsSorted(got) {
		t.Errorf("%d bytes, in order: %t", len(got), slices.IsSorted(got))
	}
}

func TestFinish(t *testing.T) {
	// bye has the handler end the conn on its first bytes.
	bye := func(h *handler, i uint32, _ []byte) {
		h.l.Write(i, []byte("bye"))
		h.l.Finish(i)
		h.l.Write(i, []byte("late"))
		h.l.Finish(i)
	}
	t.Run("queued bytes before the FIN", func(t *testing.T) {
		f := newFake(t, loop.Options{}, script{data: func(h *handler, i uint32, b []byte) {
			h.l.Write(i, bytes.Repeat([]byte("x"), 100))
			bye(h, i, b)
		}})
		p := f.dial()
		p.Limit(60)
		p.Write([]byte("."))
		f.sys.Settle()
		if p.EOF() {
			t.Error("FIN before what was queued")
		}
		wantRead(t, p, strings.Repeat("x", 60))
		wantRead(t, p, strings.Repeat("x", 40)+"bye")
		if !p.EOF() {
			t.Error("no FIN after what was queued")
		}
		f.wantLive(0)
		p.CloseWrite()
		f.sys.Settle()
		f.wantEnd(0, loop.EndLocal, nil)
		if p.WasReset() {
			t.Error("reset")
		}
		if r := f.conn(0); r.drains != 0 {
			t.Error("Drained after Finish")
		}
	})
	t.Run("the peer does not answer", func(t *testing.T) {
		f := newFake(t, loop.Options{}, script{data: bye})
		p := f.dial()
		p.Write([]byte("."))
		wantRead(t, p, "bye")
		f.sys.Advance(1900 * time.Millisecond)
		f.wantLive(0)
		f.sys.Advance(400 * time.Millisecond)
		f.wantEnd(0, loop.EndLocal, nil)
	})
	t.Run("the peer does not read", func(t *testing.T) {
		f := newFake(t, loop.Options{}, script{data: bye})
		p := f.dial()
		p.Limit(0)
		p.Write([]byte("."))
		f.sys.Advance(1900 * time.Millisecond)
		f.wantLive(0)
		p.Limit(-1) // at last; now it has another two seconds for its FIN
		f.sys.Advance(1900 * time.Millisecond)
		f.wantLive(0)
		f.sys.Advance(400 * time.Millisecond)
		f.wantEnd(0, loop.EndLocal, nil)
		wantRead(t, p, "bye")

		p = f.dial()
		p.Limit(0)
		p.Write([]byte("."))
		f.sys.Advance(2300 * time.Millisecond)
		f.wantEnd(1, loop.EndLocal, nil)
	})
	t.Run("the peer goes on sending", func(t *testing.T) {
		f := newFake(t, loop.Options{}, script{data: bye})
		p := f.dial()
		p.Write([]byte("."))
		wantRead(t, p, "bye")
		for range 10 {
			p.Write(make([]byte, 100_000))
			f.sys.Settle()
		}
		if n := p.Unread(); n != 0 || p.WasReset() {
			t.Errorf("%d unread, reset %t", n, p.WasReset())
		}
		if r := f.conn(0); string(r.data) != "." {
			t.Errorf("the handler got %d bytes after Finish", len(r.data))
		}
		p.CloseWrite()
		f.sys.Settle()
		f.wantEnd(0, loop.EndLocal, nil)
		if p.WasReset() {
			t.Error("reset")
		}
	})
	t.Run("in every callback", func(t *testing.T) {
		end := func(h *handler, i uint32) { h.l.Write(i, []byte("bye")); h.l.Finish(i) }
		for name, s := range map[string]script{
			"opened": {opened: func(h *handler, i uint32, _ loop.Opening) { end(h, i) }},
			"timer": {
				opened: func(h *handler, i uint32, _ loop.Opening) { h.l.SetTimer(i, time.Second) },
				timer:  end,
			},
			"data":    {data: func(h *handler, i uint32, b []byte) { end(h, i) }},
			"nothing": {data: func(h *handler, i uint32, b []byte) { h.l.Finish(i) }},
			"paused":  {data: func(h *handler, i uint32, b []byte) { h.l.Pause(i); end(h, i) }},
			"drained": {
				opened:  func(h *handler, i uint32, _ loop.Opening) { h.l.Write(i, make([]byte, 1000)) },
				drained: end,
			},
		} {
			t.Run(name, func(t *testing.T) {
				f := newFake(t, loop.Options{}, s)
				var p *looptest.Peer
				f.on(f.only(), func(*handler) {
					if p = f.sys.Dial(); name == "drained" {
						p.Limit(500)
					}
				})
				p.Write([]byte("."))
				f.sys.Advance(1100 * time.Millisecond)
				for len(p.Read()) > 0 {
				}
				if !p.EOF() || p.WasReset() {
					t.Errorf("EOF %t, reset %t", p.EOF(), p.WasReset())
				}
				p.Close()
				f.sys.Settle()
				f.wantEnd(0, loop.EndLocal, nil)
			})
		}
	})
	t.Run("reset while lingering", func(t *testing.T) {
		f := newFake(t, loop.Options{}, script{data: bye})
		p := f.dial()
		p.Write([]byte("."))
		f.sys.Settle()
		p.Reset()
		f.sys.Settle()
		f.wantEnd(0, loop.EndLocal, nil)
	})
	t.Run("a timer of the same tick", func(t *testing.T) {
		// One timer finishes both conns; the other's, due in the same tick, must not end its linger.
		var ids []loop.ID
		f := newFake(t, loop.Options{}, script{
			opened: func(h *handler, i uint32, _ loop.Opening) {
				ids = append(ids, h.l.ID(i))
				h.l.SetTimer(i, time.Second)
			},
			timer: func(h *handler, i uint32) {
				for _, id := range ids {
					if i, ok := h.l.Find(id); ok {
						h.l.Finish(i)
					}
				}
			},
		})
		f.dial()
		f.dial()
		f.sys.Advance(1100 * time.Millisecond)
		f.wantLive(0)
		f.wantLive(1)
		f.sys.Advance(2300 * time.Millisecond)
		f.wantEnd(0, loop.EndLocal, nil)
		f.wantEnd(1, loop.EndLocal, nil)
		if n := f.conn(0).timers + f.conn(1).timers; n != 1 {
			t.Errorf("%d timers fired, want 1", n)
		}
	})
}

func TestDrop(t *testing.T) {
	f := newFake(t, loop.Options{}, script{
		data: func(h *handler, i uint32, b []byte) {
			h.l.Write(i, []byte("last"))
			h.l.Drop(i)
			h.l.Write(i, []byte("late"))
			h.l.Drop(i)
			h.l.SetTimer(i, time.Second)
			h.l.Pause(i)
			h.l.Resume(i)
			if _, ok := h.l.Find(h.l.ID(i)); ok {
				t.Error("a dropped conn is found")
			}
			if err := h.l.PassTo(i, 0, []byte("x")); err == nil {
				t.Error("a dropped conn was passed")
			}
		},
		post: func(h *handler, id loop.ID, _ uint8, payload []byte) {
			i, _ := h.l.Find(id)
			h.l.Write(i, payload)
			h.l.Drop(i)
		},
	})
	p := f.dial()
	p.Write([]byte("."))
	wantRead(t, p, "last")
	f.wantEnd(0, loop.EndLocal, nil)
	if !p.EOF() || p.WasReset() {
		t.Errorf("EOF %t, reset %t", p.EOF(), p.WasReset())
	}
	p = f.dial()
	_ = f.g.Post(f.conn(1).id, 0, []byte("posted"))
	wantRead(t, p, "posted")
	f.wantEnd(1, loop.EndLocal, nil)
}

func TestAbort(t *testing.T) {
	f := newFake(t, loop.Options{}, script{
		data: func(h *handler, i uint32, b []byte) {
			h.l.Write(i, []byte("never"))
			h.l.Abort(i)
			h.l.Abort(i)
			h.l.Drop(i)
			h.l.Write(i, make([]byte, 200_000))
		},
		opened: func(h *handler, i uint32, o loop.Opening) {
			if h.w.count() == 2 {
				h.l.Abort(i)
			}
		},
	})
	p := f.dial()
	p.Write([]byte("."))
	f.sys.Settle()
	if !p.WasReset() {
		t.Error("no reset")
	}
	wantRead(t, p, "")
	f.wantEnd(0, loop.EndLocal, nil)
	p = f.dial()
	if !p.WasReset() {
		t.Error("no reset")
	}
	f.wantEnd(1, loop.EndLocal, nil)
}

func TestEnds(t *testing.T) {
	t.Run("EOF after data", func(t *testing.T) {
		f := newFake(t, loop.Options{}, script{data: echo})
		p := f.dial()
		f.on(f.only(), func(*handler) { p.Write([]byte("last")); p.CloseWrite() })
		wantRead(t, p, "last")
		f.wantEnd(0, loop.EndEOF, nil)
	})
	t.Run("EOF of a conn for which something waits", func(t *testing.T) {
		f := newFake(t, loop.Options{}, script{post: writePost})
		a, b := f.dial(), f.dial()
		_ = a
		id := f.conn(1).id
		f.on(f.only(), func(h *handler) { // b's FIN and bytes for b in one iteration
			b.CloseWrite()
			i, _ := h.l.Find(id)
			h.l.Write(i, []byte("answer"))
		})
		wantRead(t, b, "answer")
	})
	t.Run("reset", func(t *testing.T) {
		f := newFake(t, loop.Options{}, script{})
		p := f.dial()
		p.Reset()
		f.sys.Settle()
		f.wantEnd(0, loop.EndError, syscall.ECONNRESET)
	})
	t.Run("data, then reset", func(t *testing.T) {
		f := newFake(t, loop.Options{}, script{})
		p := f.dial()
		f.on(f.only(), func(*handler) { p.Write([]byte("last")); p.Reset() })
		f.sys.Settle()
		f.wantEnd(0, loop.EndError, syscall.ECONNRESET)
		if r := f.conn(0); string(r.data) != "last" {
			t.Errorf("data %q", r.data)
		}
	})
	t.Run("read fails", func(t *testing.T) {
		f := newFake(t, loop.Options{}, script{})
		p := f.dial()
		p.FailRead(syscall.ETIMEDOUT)
		f.sys.Settle()
		f.wantEnd(0, loop.EndError, syscall.ETIMEDOUT)
	})
	t.Run("a write blocked, then reset", func(t *testing.T) {
		f := newFake(t, loop.Options{}, script{post: writePost})
		p := f.dial()
		p.Limit(10)
		_ = f.g.Post(f.conn(0).id, 0, make([]byte, 100))
		f.sys.Settle()
		p.Read()
		p.Limit(10)
		p.Reset()
		f.sys.Settle()
		f.wantEnd(0, loop.EndError, syscall.ECONNRESET)
	})
	t.Run("Close", func(t *testing.T) {
		f := newFake(t, loop.Options{}, script{post: writePost})
		var peers []*looptest.Peer
		for range 5 {
			peers = append(peers, f.dial())
		}
		peers[4].Limit(0)
		for k := range 5 {
			_ = f.g.Post(f.conn(k).id, 0, []byte("going away"))
		}
		if err := f.g.Close(); err != nil {
			t.Error(err)
		}
		for k, p := range peers {
			f.wantEnd(k, loop.EndStopped, nil)
			if k < 4 {
				wantRead(t, p, "going away")
			}
			if !p.EOF() || p.WasReset() {
				t.Errorf("peer %d: EOF %t, reset %t", k, p.EOF(), p.WasReset())
			}
		}
		if err := f.g.Post(f.conn(0).id, 0, nil); err != loop.ErrStopped {
			t.Errorf("post after Close: %v", err)
		}
		if err := f.g.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
}

// TestBrokenPipe: when a write fails, what the peer said last is delivered before Closed, wherever the
// write was.
func TestBrokenPipe(t *testing.T) {
	say := func() {} // has the peer say why it goes
	broken := func(h *handler, i uint32, b []byte) {
		say()
		say = func() {}
		h.l.Write(i, b)
	}
	for name, s := range map[string]script{
		"data": {data: broken},
		"flushed in data": {data: func(h *handler, i uint32, b []byte) {
			keep := string(b)
			broken(h, i, b)
			h.l.Flush(i)
			h.l.Write(i, b)
			if string(b) != keep {
				t.Errorf("the handler's bytes changed under it: %q", b)
			}
		}},
		"large, in data": {data: func(h *handler, i uint32, b []byte) {
			for range 10 {
				broken(h, i, make([]byte, 30_000))
			}
		}},
		"post": {post: func(h *handler, id loop.ID, _ uint8, b []byte) {
			i, _ := h.l.Find(id)
			broken(h, i, b)
		}},
		"flushed in a post": {post: func(h *handler, id loop.ID, _ uint8, b []byte) {
			i, _ := h.l.Find(id)
			broken(h, i, b)
			h.l.Flush(i)
			h.l.Flush(i)
		}},
		"timer": {
			opened: func(h *handler, i uint32, _ loop.Opening) { h.l.SetTimer(i, time.Second) },
			timer:  func(h *handler, i uint32) { broken(h, i, []byte("x")) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, loop.Options{}, s)
			p := f.dial()
			p.FailWrite(syscall.EPIPE)
			say = func() { p.Write([]byte("why")) }
			switch {
			case s.data != nil:
				p.Write([]byte("one"))
			case s.post != nil:
				_ = f.g.Post(f.conn(0).id, 0, []byte("x"))
			default:
				f.sys.Advance(1100 * time.Millisecond)
			}
			f.sys.Settle()
			f.wantEnd(0, loop.EndError, syscall.EPIPE)
			if r := f.conn(0); !strings.HasSuffix(string(r.data), "why") {
				t.Errorf("data %q, want it to end with why", r.data)
			}
		})
	}
}

// TestBrokenByAnother: a callback that writes to a conn whose pipe is broken keeps its own bytes.
func TestBrokenByAnother(t *testing.T) {
	var other loop.ID
	f := newFake(t, loop.Options{}, script{
		opened: func(h *handler, i uint32, _ loop.Opening) { other = cmp.Or(other, h.l.ID(i)) },
		data: func(h *handler, i uint32, b []byte) {
			if string(b) != "mine" {
				return
			}
			if j, ok := h.l.Find(other); ok {
				h.l.Write(j, []byte("x"))
				h.l.Flush(j)
			}
			h.l.Write(i, b)
		},
	})
	a, b := f.dial(), f.dial()
	a.FailWrite(syscall.ECONNRESET)
	f.on(f.only(), func(*handler) { b.Write([]byte("mine")); a.Write([]byte("last words")) })
	wantRead(t, b, "mine")
	f.wantEnd(0, loop.EndError, syscall.ECONNRESET)
	if r := f.conn(0); string(r.data) != "last words" {
		t.Errorf("data %q", r.data)
	}
}

func TestStalePosts(t *testing.T) {
	var found int
	f := newFake(t, loop.Options{}, script{post: func(h *handler, id loop.ID, kind uint8, b []byte) {
		if _, ok := h.l.Find(id); ok {
			found++
		}
	}})
	p := f.dial()
	old := f.conn(0).id
	p.Reset()
	f.sys.Settle()
	f.dial() // the slot's next user
	if id := f.conn(1).id; id.Slot() != old.Slot() || id == old {
		t.Fatalf("the second conn is %v after %v: the test wants the same slot", id, old)
	}
	for _, id := range []loop.ID{old, 0, ^loop.ID(0) >> 10, ^loop.ID(0), 1 << 60} {
		if err := f.g.Post(id, 0, nil); err != nil {
			t.Errorf("post to %v: %v", id, err)
		}
	}
	f.sys.Settle()
	if found != 0 {
		t.Errorf("%d stale ids were found", found)
	}
	_ = f.g.Post(f.conn(1).id, 0, nil)
	f.sys.Settle()
	if found != 1 {
		t.Error("a good id was not found")
	}
	f.wantLive(1)
}

// TestStaleEvents: an event of a batch for a conn that an earlier one ended does not reach the slot's, or
// the descriptor's, next user.
func TestStaleEvents(t *testing.T) {
	var ids []loop.ID
	f := newFake(t, loop.Options{}, script{
		opened: func(h *handler, i uint32, _ loop.Opening) { ids = append(ids, h.l.ID(i)) },
		data: func(h *handler, i uint32, b []byte) {
			if string(b) != "drop all" {
				return
			}
			for _, id := range ids {
				if j, ok := h.l.Find(id); ok {
					h.l.Drop(j)
				}
			}
		},
	})
	a, b, c := f.dial(), f.dial(), f.dial()
	f.on(f.only(), func(*handler) { // one batch: a's order, the next conn, then what b and c said
		a.Write([]byte("drop all"))
		f.sys.Dial()
		b.Write([]byte("for the old conn"))
		c.Write([]byte("for the old conn"))
	})
	f.sys.Settle()
	for k := range 3 {
		f.wantEnd(k, loop.EndLocal, nil)
	}
	f.wantLive(3)
	if r := f.conn(3); len(r.data) != 0 {
		t.Errorf("the next conn got %q", r.data)
	}
}

func TestTimers(t *testing.T) {
	var at []time.Duration
	f := newFake(t, loop.Options{}, script{
		opened: func(h *handler, i uint32, _ loop.Opening) {
			h.l.SetTimer(i, time.Hour)
			h.l.SetTimer(i, 250*time.Millisecond)
		},
		timer: func(h *handler, i uint32) {
			at = append(at, h.l.Now())
			switch len(at) {
			case 1:
				h.l.SetTimer(i, 2*time.Minute) // more than two turns of the wheel
			case 2:
				h.l.SetTimer(i, time.Second)
				h.l.ClearTimer(i)
			}
		},
		data: func(h *handler, i uint32, _ []byte) { h.l.SetTimer(i, 1<<63-1) },
	})
	start := f.sys.Now()
	p := f.dial()
	waits := f.sys.Waits()
	f.sys.Advance(time.Hour)
	if len(at) != 2 {
		t.Fatalf("fired at %v", at)
	}
	for k, want := range []time.Duration{250 * time.Millisecond, 250*time.Millisecond + 2*time.Minute} {
		if got := at[k] - start; got < want || got > want+3*loop.Tick {
			t.Errorf("timer %d fired after %v, want %v", k, got, want)
		}
	}
	if n := f.sys.Waits() - waits; n > 10 {
		t.Errorf("%d waits for two timers", n)
	}
	p.Write([]byte("for ever"))
	f.sys.Advance(24 * time.Hour)
	if len(at) != 2 {
		t.Error("the longest timer fired")
	}
}

func TestDial(t *testing.T) {
	to := netip.MustParseAddrPort("192.0.2.1:80")
	f := newFake(t, loop.Options{}, script{
		opened: func(h *handler, i uint32, o loop.Opening) { h.l.Write(i, []byte("hi")) },
		data:   echo,
	})
	dial := func(then func(h *handler, i uint32)) *looptest.Peer {
		t.Helper()
		f.on(f.only(), func(h *handler) {
			i, err := h.dial(to)
			if err != nil {
				t.Error(err)
			} else if then != nil {
				then(h, i)
			}
		})
		p := f.sys.Dialling()
		if p == nil {
			t.Fatal("nobody dials")
		}
		return p
	}
	p := dial(nil)
	p.Accept()
	wantRead(t, p, "hi")
	p.Write([]byte("echo"))
	wantRead(t, p, "echo")
	p.Close()
	f.sys.Settle()
	f.wantEnd(0, loop.EndEOF, nil)

	dial(nil).Refuse(syscall.ECONNREFUSED)
	f.sys.Settle()
	f.wantEnd(1, loop.EndError, syscall.ECONNREFUSED)
	if f.conn(1).opened {
		t.Error("Opened")
	}

	// What is written before it stands waits; Pause does not keep it from connecting.
	p = dial(func(h *handler, i uint32) { h.l.Write(i, []byte("early ")); h.l.Pause(i) })
	p.Accept()
	wantRead(t, p, "early hi")
	f.wantLive(2)

	p = dial(func(h *handler, i uint32) { h.l.Pause(i) })
	p.Accept()
	wantRead(t, p, "hi")
	p.Close()
	f.sys.Settle()
	f.wantLive(3)
	f.on(f.only(), func(h *handler) { h.l.Resume(f.conn(3).slot) })
	f.sys.Settle()
	f.wantEnd(3, loop.EndEOF, nil)

	dial(func(h *handler, i uint32) { h.l.Drop(i) })
	f.sys.Settle()
	f.wantEnd(4, loop.EndLocal, nil)
	dial(func(h *handler, i uint32) { h.l.Finish(i) })
	f.sys.Settle()
	f.wantEnd(5, loop.EndLocal, nil)

	f.sys.Fail(looptest.Connect, syscall.EADDRNOTAVAIL, 1)
	f.on(f.only(), func(h *handler) {
		if _, err := h.dial(to); err != syscall.EADDRNOTAVAIL {
			t.Errorf("dial: %v", err)
		}
	})
	f.sys.Fail(looptest.Add, syscall.ENOMEM, 1)
	dial(nil)
	f.sys.Settle()
	f.wantEnd(6, loop.EndError, syscall.ENOMEM)
}

// TestEmptied: a loop that was large and is empty gives back what it had, and serves on.
func TestEmptied(t *testing.T) {
	emptied := 0
	f := newFake(t, loop.Options{}, script{data: echo, emptied: func(*handler) { emptied++ }})
	for round := range 2 {
		var peers []*looptest.Peer
		for range 1100 {
			peers = append(peers, f.sys.Dial())
		}
		for _, p := range peers {
			p.Write([]byte("x"))
		}
		f.sys.Settle()
		for _, p := range peers {
			wantRead(t, p, "x")
			p.Close()
		}
		f.sys.Settle()
		if emptied != round+1 {
			t.Errorf("Emptied %d times in round %d", emptied, round)
		}
	}
	f.on(f.only(), func(h *handler) {
		if n := loop.Queues(h.l); n != 0 {
			t.Errorf("%d queues", n)
		}
	})
}

// TestWriteInClosed: what is written to a conn that is over is dropped, and takes no queue along.
func TestWriteInClosed(t *testing.T) {
	f := newFake(t, loop.Options{}, script{closed: func(h *handler, i uint32, _ loop.End) { h.l.Write(i, []byte("too late")) }})
	f.dial() // the loop is never empty
	for range 100 {
		f.dial().Close()
		f.sys.Settle()
	}
	f.on(f.only(), func(h *handler) {
		if n := loop.Queues(h.l); n > 2 {
			t.Errorf("%d queues for no conn with a queue", n)
		}
	})
}

// TestDialFromClosed: a handler that dials again whenever a conn ends does not outlive its loop.
func TestDialFromClosed(t *testing.T) {
	f := newFake(t, loop.Options{}, script{closed: func(h *handler, i uint32, _ loop.End) {
		_, _ = h.dial(netip.MustParseAddrPort("192.0.2.1:80"))
	}})
	p := f.dial()
	p.Reset()
	f.sys.Dialling().Refuse(syscall.ECONNREFUSED)
	f.sys.Dialling().Accept()
	if f.count() != 3 {
		t.Fatalf("%d conns", f.count())
	}
}
