package loop_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/leaktest"
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/sys"
)

// kernel is a System under real sockets.
type kernel struct {
	name    string
	system  func() (loop.System, error)
	table   loop.Table
	backlog bool // StopAccepting serves all that the kernel has queued
	steady  bool // allocates nothing per message
}

// onKernels runs a test on each system.
func onKernels(t *testing.T, f func(t *testing.T, k kernel)) {
	for _, k := range kernels {
		t.Run(k.name, func(t *testing.T) { f(t, k) })
	}
}

func (k kernel) world(t *testing.T, loops int, s script) *world {
	t.Helper()
	system, err := k.system()
	if err != nil {
		t.Fatal(err)
	}
	return newWorld(t, loop.Options{System: system, Table: k.table, Loops: loops, MaxConns: 10_000}, s).start()
}

// client connects to the world; the test's end closes it.
func (w *world) client() *net.TCPConn {
	w.t.Helper()
	c, err := net.Dial("tcp", w.at.String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

func (w *world) untilEnded(n int) {
	w.until(func() bool { return len(w.records) > n && w.records[n].end != nil })
}

func say(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %s, %v, want %s", brief(string(b[:n])), err, brief(want))
	}
}

func hearEOF(t *testing.T, c net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Errorf("read %s, %v, want the end", brief(string(b)), err)
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

func TestMain(m *testing.M) { leaktest.Main(m, leaktest.Goroutines|leaktest.Descriptors) }

func TestKernelEcho(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		w := k.world(t, 2, script{data: echo})
		c := w.client()
		say(t, c, "hello")
		hear(t, c, "hello")
		big := pattern(3 << 20)
		go func() { _, _ = c.Write(big) }()
		hear(t, c, string(big))
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		hearEOF(t, c)
		w.untilEnded(0)
		w.wantEnd(0, loop.EndEOF, nil)
		if got := w.conn(0).data; !bytes.Equal(got[5:], big) {
			t.Error("what arrived is not what was sent")
		}
	})
}

func TestKernelReset(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		w := k.world(t, 1, script{data: func(h *handler, i uint32, b []byte) {
			if string(b) == "pause" {
				h.l.Pause(i)
			}
		}})
		for n, what := range []string{"talk", "pause"} {
			c := w.client()
			say(t, c, what)
			w.until(func() bool { return len(w.records) > n && len(w.records[n].data) > 0 })
			_ = c.SetLinger(0)
			_ = c.Close()
			w.untilEnded(n)
			w.wantEnd(n, loop.EndError, syscall.ECONNRESET)
		}
	})
}

func TestKernelFinish(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		big := pattern(5 << 20) // more than the socket takes
		w := k.world(t, 1, script{data: func(h *handler, i uint32, b []byte) {
			h.l.Write(i, big)
			h.l.Finish(i)
			h.l.Write(i, []byte("late"))
		}})
		c := w.client()
		say(t, c, "go")
		hear(t, c, string(big))
		say(t, c, "not asked for") // is swallowed, and resets nothing
		hearEOF(t, c)
		say(t, c, "not asked for")
		_ = c.Close()
		w.untilEnded(0)
		w.wantEnd(0, loop.EndLocal, nil)
		if d := w.conn(0).data; string(d) != "go" {
			t.Errorf("data %q", d)
		}
	})
}

func TestKernelDropAndAbort(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		w := k.world(t, 1, script{data: func(h *handler, i uint32, b []byte) {
			h.l.Write(i, []byte("bye"))
			if string(b) == "drop" {
				h.l.Drop(i)
			} else {
				h.l.Abort(i)
			}
		}})
		c := w.client()
		say(t, c, "drop")
		hear(t, c, "bye")
		hearEOF(t, c)
		w.untilEnded(0)
		w.wantEnd(0, loop.EndLocal, nil)
		c = w.client()
		say(t, c, "abort")
		if b, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read %q, %v, want a reset", b, err)
		}
		w.untilEnded(1)
		w.wantEnd(1, loop.EndLocal, nil)
	})
}

// TestKernelBlocked: a peer that does not read, and then does.
func TestKernelBlocked(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		chunk := pattern(64 << 10)
		chunks := 0
		w := k.world(t, 1, script{data: func(h *handler, i uint32, b []byte) {
			for h.l.Queued(i) == 0 {
				h.l.Write(i, chunk)
				h.l.Flush(i)
				chunks++
			}
		}})
		c := w.client()
		got := 0
		for range 3 {
			say(t, c, "more")
			for {
				b := make([]byte, len(chunk))
				if _, err := io.ReadFull(c, b); err != nil || !bytes.Equal(b, chunk) {
					t.Fatalf("after %d chunks: %v", got, err)
				}
				got++
				over := false
				w.on(w.g.Loops()[0], func(h *handler) { over = got == chunks && h.l.Queued(w.conn(0).slot) == 0 })
				if over {
					break
				}
			}
		}
		w.until(func() bool { return w.records[0].drains >= 3 })
	})
}

// TestKernelBrokenPipe: what the peer sent before it closed in the middle of our writing is delivered.
func TestKernelBrokenPipe(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		w := k.world(t, 1, script{data: func(h *handler, i uint32, b []byte) {
			if string(b) == "hello" {
				h.l.Write(i, []byte("never read"))
			}
		}})
		c := w.client()
		say(t, c, "hello")
		w.until(func() bool { return len(w.records) > 0 && len(w.records[0].data) == 5 })
		// Our answer has to be there, unread, so that the peer's kernel resets on close.
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Read(func(uintptr) bool { return true }); err != nil {
			t.Fatal(err)
		}
		w.on(w.g.Loops()[0], func(h *handler) {
			gone := make(chan struct{})
			go func() { // not on this thread, where c's descriptor means nothing
				defer close(gone)
				_, _ = io.WriteString(c, "last words")
				_ = c.Close()
			}()
			<-gone
			i, ok := h.l.Find(w.conn(0).id)
			if !ok {
				t.Error("gone")
			}
			h.l.Write(i, []byte("x"))
		})
		w.untilEnded(0)
		if r := w.conn(0); string(r.data) != "hellolast words" || r.end.Kind == loop.EndLocal {
			t.Errorf("data %q, end %v", r.data, *r.end)
		}
	})
}

func TestKernelClose(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		w := k.world(t, 2, script{data: echo, post: writePost})
		var cs []net.Conn
		for range 10 {
			c := w.client()
			say(t, c, "x")
			hear(t, c, "x")
			cs = append(cs, c)
		}
		for n := range cs {
			if err := w.g.Post(w.conn(n).id, 0, []byte("going away")); err != nil {
				t.Error(err)
			}
		}
		if err := w.g.Close(); err != nil {
			t.Error(err)
		}
		for n, c := range cs {
			hear(t, c, "going away")
			hearEOF(t, c)
			w.wantEnd(n, loop.EndStopped, nil)
		}
		if _, err := net.Dial("tcp", w.at.String()); err == nil {
			t.Error("connected after Close")
		}
	})
}

func TestKernelStopAccepting(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		if !k.backlog {
			t.Skip("what the kernel has queued for package net cannot be told from nothing")
		}
		w := k.world(t, 3, script{data: echo})
		release := make(chan struct{})
		for _, l := range w.g.Loops() {
			_ = l.Call(func() { <-release })
		}
		var cs []net.Conn
		for range 100 {
			c := w.client() // connects to the backlog
			say(t, c, "x")
			cs = append(cs, c)
		}
		stopped := make(chan struct{})
		go func() { w.g.StopAccepting(); close(stopped) }()
		close(release)
		<-stopped
		for _, c := range cs {
			hear(t, c, "x")
		}
		if _, err := net.Dial("tcp", w.at.String()); err == nil {
			t.Error("connected after StopAccepting")
		}
	})
}

// TestKernelPortTaken: another group does not share the port by accident.
func TestKernelPortTaken(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		w := k.world(t, 2, script{})
		s, err := k.system()
		if err != nil {
			t.Fatal(err)
		}
		g, err := loop.NewGroup(loop.Options{System: s, MaxConns: 10, NewHandler: func(*loop.Loop) loop.Handler { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Listen(w.at); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("Listen = %v", err)
		}
		_ = g.Close()
	})
}

// TestKernelPassAndAdopt takes a conn out of its loop and back again and again; no byte is lost.
func TestKernelPassAndAdopt(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		w := k.world(t, 2, script{
			opened: func(h *handler, i uint32, o loop.Opening) { h.l.Write(i, o.Data) },
			data: func(h *handler, i uint32, b []byte) {
				if err := h.l.PassTo(i, h.w.g.Outlet(), b); err != nil {
					t.Error(err)
				}
			},
		})
		carry := pattern(60_000)
		var wg sync.WaitGroup
		wg.Go(func() {
			b := make([]byte, sys.MaxPassed)
			for {
				c, n, err := w.g.Strays(b)
				if err != nil {
					return
				}
				if _, err := c.Write(append([]byte("stray:"), b[:n]...)); err != nil {
					t.Error(err)
				}
				line := make([]byte, 5)
				if _, err := io.ReadFull(c, line); err != nil {
					t.Error(err)
				}
				if err := w.g.Adopt(c, append(line, carry...)); err != nil {
					t.Error(err)
				}
			}
		})
		c := w.client()
		for n := range 20 {
			word := fmt.Sprintf("%05d", n)
			say(t, c, word)
			hear(t, c, "stray:"+word)
			say(t, c, "back.")
			hear(t, c, "back."+string(carry))
		}
		_ = c.Close()
		w.untilEnded(20)
		for n := range 20 {
			w.untilEnded(n) // another loop than the last one's may have it
			w.wantEnd(n, loop.EndPassed, nil)
		}
		w.wantEnd(20, loop.EndEOF, nil)
		_ = w.g.Close()
		wg.Wait()
	})
}

// TestKernelStray: a conn that left is an ordinary net.Conn.
func TestKernelStray(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		w := k.world(t, 1, script{data: func(h *handler, i uint32, b []byte) {
			h.l.Pause(i) // what comes now is the stray's to read
			h.l.Write(i, []byte("from the loop "))
			h.l.Flush(i)
			if err := h.l.PassTo(i, h.w.g.Outlet(), b); err != nil {
				t.Error(err)
			}
		}})
		c := w.client()
		say(t, c, "a")
		b := make([]byte, 100)
		s, n, err := w.g.Strays(b)
		if err != nil || string(b[:n]) != "a" {
			t.Fatalf("%q, %v", b[:n], err)
		}
		say(t, s, "from the stray")
		hear(t, c, "from the loop from the stray")
		say(t, c, "one")
		hear(t, s, "one")
		if err := s.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Error(err)
		}
		if _, err := s.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read after the deadline: %v", err)
		}
		if err := s.SetReadDeadline(time.Time{}); err != nil {
			t.Error(err)
		}
		if err := s.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
		hearEOF(t, c)
		say(t, c, "two")
		_ = c.CloseWrite()
		hear(t, s, "two")
		hearEOF(t, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err == nil {
			t.Error("closed twice")
		}
		if err := w.g.Adopt(s, []byte("x")); err == nil {
			t.Error("a closed conn was adopted")
		}
	})
}

func TestKernelDial(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }()
		to := ln.Addr().(*net.TCPAddr).AddrPort()
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = io.Copy(struct{ io.Writer }{c}, c) // not through the pipes that splice keeps
				_ = c.Close()
			}
		}()
		w := k.world(t, 1, script{
			opened: func(h *handler, i uint32, o loop.Opening) { h.l.Write(i, []byte("ping")) },
			data: func(h *handler, i uint32, b []byte) {
				if bytes.HasSuffix(h.conns[i].data, []byte("early ping")) {
					h.l.Finish(i)
				}
			},
		})
		l := w.g.Loops()[0]
		w.on(l, func(h *handler) {
			i, err := h.dial(to)
			if err != nil {
				t.Error(err)
				return
			}
			h.l.Write(i, []byte("early "))
		})
		w.untilEnded(0)
		w.wantEnd(0, loop.EndLocal, nil)

		// Nobody listens there.
		gone, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		nobody := gone.Addr().(*net.TCPAddr).AddrPort()
		_ = gone.Close()
		w.on(l, func(h *handler) {
			if _, err := h.dial(nobody); err != nil {
				t.Error(err)
			}
		})
		w.untilEnded(1)
		w.wantEnd(1, loop.EndError, syscall.ECONNREFUSED)

		// Dialled and dropped at once, and dialled when the loop ends.
		w.on(l, func(h *handler) {
			i, _ := h.dial(to)
			h.l.Abort(i)
			_, _ = h.dial(to)
		})
		w.untilEnded(2)
		w.wantEnd(2, loop.EndLocal, nil)
	})
}

// TestKernelWakes: a loop that sleeps is woken by each post. A lost wake-up is a deadlock.
func TestKernelWakes(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		answers := make(chan uint8)
		w := k.world(t, 2, script{post: func(_ *handler, _ loop.ID, kind uint8, _ []byte) { answers <- kind }})
		for n := range 3000 {
			l := w.g.Loops()[n%2]
			if err := l.Post(0, uint8(n%200), nil); err != nil {
				t.Fatal(err)
			}
			if got := <-answers; got != uint8(n%200) {
				t.Fatalf("post %d came as %d", n, got)
			}
		}
	})
}

// TestKernelLoad has a few hundred clients do random things at once. Afterwards the process has the
// goroutines, threads and descriptors that it had.
func TestKernelLoad(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		const clients, rounds = 300, 2
		fds, goroutines := sys.OpenDescriptors(), runtime.NumGoroutine()
		var closed atomic.Int64
		w := k.world(t, 3, script{
			opened: func(h *handler, i uint32, _ loop.Opening) { h.l.SetTimer(i, time.Minute) },
			data: func(h *handler, i uint32, b []byte) {
				switch b[0] {
				case 'F':
					h.l.Write(i, []byte("fin"))
					h.l.Finish(i)
				case 'D':
					h.l.Drop(i)
				case 'A':
					h.l.Abort(i)
				default:
					h.l.Write(i, b)
					h.l.SetTimer(i, time.Minute)
				}
			},
			post:   writePost,
			closed: func(*handler, uint32, loop.End) { closed.Add(1) },
		})
		var wg sync.WaitGroup
		for n := range clients {
			r := rand.New(rand.NewPCG(uint64(n), 5))
			wg.Go(func() {
				for range rounds {
					if err := misbehave(w.at, r); err != nil {
						t.Error(err)
						return
					}
					// A post to whom it may concern.
					if n := w.count(); n > 0 {
						_ = w.g.Post(w.conn(r.IntN(n)).id, 1, nil)
					}
				}
			})
		}
		wg.Wait()
		_ = w.g.Close()
		if n := closed.Load(); n != int64(w.count()) {
			t.Errorf("%d conns, %d Closed", w.count(), n)
		}
		if n := sys.OpenDescriptors(); n > fds {
			t.Errorf("%d descriptors after Close, %d before", n, fds)
		}
		if !leaktest.Settles(goroutines) {
			t.Errorf("%d goroutines after Close, %d before", runtime.NumGoroutine(), goroutines)
		}
	})
}

// misbehave is one connection of a client of TestKernelLoad.
func misbehave(at netip.AddrPort, r *rand.Rand) error {
	nc, err := net.Dial("tcp", at.String())
	if err != nil {
		return err
	}
	c := nc.(*net.TCPConn)
	defer func() { _ = c.Close() }()
	for range r.IntN(5) {
		msg := pattern(1 + r.IntN(3000)*r.IntN(20))
		msg[0] = 'e'
		for k := range msg {
			if msg[k] == 'F' || msg[k] == 'D' || msg[k] == 'A' {
				msg[k] = 'x'
			}
		}
		sent := make(chan error, 1)
		go func() { _, err := c.Write(msg); sent <- err }()
		got := make([]byte, len(msg))
		_, err := io.ReadFull(c, got)
		if err = errors.Join(err, <-sent); err != nil {
			return fmt.Errorf("echo: %w", err)
		}
		if !bytes.Equal(got, msg) {
			return errors.New("echo: other bytes")
		}
	}
	switch r.IntN(7) {
	case 0: // a FIN
	case 1:
		_ = c.CloseWrite()
		_, err = io.Copy(io.Discard, c)
	case 2:
		_ = c.SetLinger(0)
	case 3: // gone with an answer on its way
		_, _ = c.Write(pattern(100)[:1])
	case 4:
		_, _ = c.Write([]byte("F"))
		var b []byte
		if b, err = io.ReadAll(c); err == nil && string(b) != "fin" {
			err = fmt.Errorf("finish: %q", b)
		}
	case 5:
		_, _ = c.Write([]byte("D"))
		_, err = io.Copy(io.Discard, c)
	case 6:
		_, _ = c.Write([]byte("A"))
		if _, err = io.Copy(io.Discard, c); errors.Is(err, syscall.ECONNRESET) {
			err = nil
		}
	}
	return err
}

// TestKernelThreads: a group's threads end with it.
func TestKernelThreads(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		run := func() {
			w := k.world(t, 4, script{data: echo})
			c := w.client()
			say(t, c, "x")
			hear(t, c, "x")
			_ = c.Close()
			_ = w.g.Close()
		}
		for range 3 {
			run()
		}
		before := threads(t)
		for range 20 {
			run()
		}
		if n := threads(t); n > before+20 { // 80 loops have run
			t.Errorf("%d threads, %d before", n, before)
		}
	})
}

// TestKernelSteadyState: an echo allocates nothing.
func TestKernelSteadyState(t *testing.T) {
	onKernels(t, func(t *testing.T, k kernel) {
		if !k.steady {
			t.Skip("this system allocates")
		}
		system, err := k.system()
		if err != nil {
			t.Fatal(err)
		}
		g, err := loop.NewGroup(loop.Options{System: system, Table: k.table, Loops: 1, MaxConns: 1000,
			NewHandler: func(l *loop.Loop) loop.Handler { return bare{l} }})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = g.Close() }()
		at, err := g.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Start(); err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		msg, got := pattern(500), make([]byte, 500)
		rounds := func(n int) {
			for range n {
				if _, err := c.Write(msg); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(c, got); err != nil {
					t.Fatal(err)
				}
			}
		}
		rounds(100)
		const n = 3000
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		rounds(n)
		runtime.ReadMemStats(&after)
		if a := after.Mallocs - before.Mallocs; a > n/50 { // the runtime itself allocates now and then
			t.Errorf("%d echoes allocate %d times", n, a)
		}
	})
}

// bare echoes and nothing else.
type bare struct{ l *loop.Loop }

func (bare) Admit(netip.AddrPort, bool) []byte { return nil }
func (b bare) Opened(i uint32, _ loop.Opening) { b.l.SetTimer(i, time.Minute) }
func (b bare) Data(i uint32, p []byte)         { b.l.Write(i, p); b.l.SetTimer(i, time.Minute) }
func (bare) Timer(uint32)                      {}
func (bare) Drained(uint32)                    {}
func (bare) Closed(uint32, loop.End)           {}
func (bare) Post(loop.ID, uint8, []byte)       {}
func (bare) Lost([]byte)                       {}
func (bare) Emptied()                          {}
func (bare) Stopped()                          {}
