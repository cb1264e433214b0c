package loop_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/loop/looptest"
	"github.com/longwire/longwire/internal/sys"
)

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name         string
		conns, loops int
		table        loop.Table
		limit, cpus  int
		want         string // Layout.String, or part of the error
	}{
		{"the article's million on 20,000 descriptors", 1_000_000, 0, loop.TableAuto, 20_000, 2,
			"1000000 conns on 2 to 53 loops, each with a table of 20000 descriptors (19073 conns)"},
		{"two loops are enough", 38_000, 0, loop.TableAuto, 20_000, 2,
			"38000 conns on 2 to 2 loops, each with a table of 20000 descriptors (19226 conns)"},
		{"fits into one table", 19_000, 0, loop.TableAuto, 20_000, 2,
			"19000 conns on 2 loops, 20000 descriptors in one table"},
		{"the last that fits", 20_000 - 256 - 512 - 6, 0, loop.TableAuto, 20_000, 2,
			"19226 conns on 2 loops, 20000 descriptors in one table"},
		{"one more", 20_000 - 256 - 512 - 6 + 1, 0, loop.TableAuto, 20_000, 2,
			"19227 conns on 2 to 2 loops, each with a table of 20000 descriptors (19226 conns)"},
		{"unlimited", 1_000_000, 0, loop.TableAuto, 1_048_576, 8,
			"1000000 conns on 8 loops, 1048576 descriptors in one table"},
		{"what a container gets", 1_048_576, 0, loop.TableAuto, 1_048_576, 2,
			"1048576 conns on 2 to 2 loops, each with a table of 1048576 descriptors (1047802 conns)"},
		{"private although it fits", 1000, 4, loop.TablePrivate, 20_000, 2,
			"1000 conns on 4 to 4 loops, each with a table of 20000 descriptors (19220 conns)"},
		{"the default is what one table holds", 0, 0, loop.TableAuto, 20_000, 2,
			"19226 conns on 2 loops, 20000 descriptors in one table"},
		{"the default is at most a million", 0, 0, loop.TableAuto, 4_000_000, 2,
			"1000000 conns on 2 loops, 4000000 descriptors in one table"},
		{"a shell's default", 0, 0, loop.TableAuto, 1024, 2,
			"250 conns on 2 loops, 1024 descriptors in one table"},
		{"shared and too small", 1_000_000, 0, loop.TableShared, 20_000, 2,
			"1000000 conns do not fit into one table of 20000 descriptors (774 are ours): raise the limit (ulimit -n), or allow private tables"},
		{"no room for any", 0, 0, loop.TableAuto, 256, 2,
			"256 descriptors hold no conn: raise the limit of open files (ulimit -n)"},
		{"too many for the limit", 1_000_000, 0, loop.TableAuto, 1024, 2,
			"with 1024 descriptors each: raise the limit (ulimit -n)"},
		{"more slots than an id can name", 5_000_000, 0, loop.TableAuto, 1 << 30, 2,
			"5000000 conns in one loop: at most 4193792"},
		{"more loops than an id can name", 0, 2000, loop.TableAuto, 1 << 20, 2, "2000 loops: want 1 to 1024"},
		{"negative loops", 0, -1, loop.TableAuto, 1 << 20, 2, "-1 loops: want 1 to 1024"},
		{"negative conns", -1, 0, loop.TableAuto, 1 << 20, 2, "plan loops"},
	} {
		y, err := loop.Plan(c.conns, c.loops, c.table, c.limit, c.cpus)
		got := y.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		if err != nil {
			continue
		}
		if y.Budget*y.MaxLoops < y.MaxConns || y.Budget+512 > loop.MaxSlots || y.Loops > y.MaxLoops {
			t.Errorf("%s: %+v", c.name, y)
		}
		if loops := y.MaxLoops; y.Private && y.Budget+512+256+3*loops > c.limit {
			t.Errorf("%s: a table of %d does not hold %+v", c.name, c.limit, y)
		}
	}
}

// TestShed: a kernel without descriptors pauses accepting, and neither spins nor forgets.
func TestShed(t *testing.T) {
	for _, c := range []struct {
		op  looptest.Op
		err error
	}{{looptest.Accept, syscall.EMFILE}, {looptest.Accept, syscall.ENFILE}, {looptest.Accept, syscall.ENOMEM}, {looptest.Add, syscall.ENOSPC}} {
		t.Run(fmt.Sprintf("%s %v", c.op, c.err), func(t *testing.T) {
			f := newFake(t, loop.Options{}, script{data: echo})
			old := f.dial()
			f.sys.Fail(c.op, c.err, -1)
			waits := f.sys.Waits()
			p, q := f.sys.Dial(), f.sys.Dial()
			f.sys.Advance(10 * time.Second)
			if n := f.sys.Waits() - waits; n > 60 {
				t.Errorf("%d waits in ten seconds", n)
			}
			if n := f.only().Stats.Shed.Load(); n < 1 || n > 25 {
				t.Errorf("shed %d times in ten seconds", n)
			}
			old.Write([]byte("still here"))
			wantRead(t, old, "still here")
			f.sys.Fail(c.op, nil, 0)
			f.sys.Advance(time.Second)
			if c.op == looptest.Add {
				p = f.dial() // the first ones were accepted and could not be watched
				q = f.dial()
			}
			for _, p := range []*looptest.Peer{p, q} {
				p.Write([]byte("hello"))
				wantRead(t, p, "hello")
			}
			waits = f.sys.Waits()
			f.sys.Advance(10 * time.Second)
			if n := f.sys.Waits() - waits; n > 2 {
				t.Errorf("%d waits in ten seconds of nothing", n)
			}
		})
	}
}

// TestShedOfSeveral: listeners of one loop, of which one cannot be watched again at first.
func TestShedOfSeveral(t *testing.T) {
	f := &fake{sys: looptest.New()}
	f.world = newWorld(t, loop.Options{System: f.sys, Loops: 1}, script{data: echo})
	second, err := f.g.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	f.start()
	f.sys.Fail(looptest.Accept, syscall.EMFILE, 1)
	f.sys.Dial()
	f.sys.Settle()
	f.sys.Fail(looptest.Add, syscall.ENOMEM, 1) // for one of the two
	f.sys.Advance(3 * time.Second)
	if f.count() != 1 {
		t.Errorf("%d conns, want the one that waited", f.count())
	}
	from := netip.MustParseAddrPort("10.9.9.9:99")
	for _, at := range []netip.AddrPort{f.at, second} {
		p := f.sys.DialFrom(from, at)
		p.Write([]byte("hello"))
		wantRead(t, p, "hello")
	}
	waits := f.sys.Waits()
	f.sys.Advance(10 * time.Second)
	if n := f.sys.Waits() - waits; n > 2 {
		t.Errorf("%d waits in ten seconds of nothing", n)
	}
	f.g.StopAccepting()
	f.sys.Settle() // a listener that is still watched would spin
}

func TestModifyFails(t *testing.T) {
	f := newFake(t, loop.Options{}, script{post: writePost})
	p := f.dial()
	p.Limit(0)
	f.sys.Fail(looptest.Modify, syscall.ENOMEM, 1)
	_ = f.g.Post(f.conn(0).id, 0, []byte("blocks"))
	f.sys.Settle()
	f.wantEnd(0, loop.EndError, syscall.ENOMEM)
}

func TestWaitFails(t *testing.T) {
	f := newFake(t, loop.Options{}, script{post: writePost})
	for range 3 {
		f.dial()
	}
	f.sys.Fail(looptest.Wait, syscall.EBADF, 1)
	<-f.g.Failed()
	for k := range 3 {
		f.wantEnd(k, loop.EndError, syscall.EBADF)
	}
	if err := f.g.Post(f.conn(0).id, 0, nil); err != loop.ErrStopped {
		t.Errorf("post to a failed loop: %v", err)
	}
	if err := f.g.Close(); !errors.Is(err, syscall.EBADF) || !strings.Contains(err.Error(), "loop 0") {
		t.Errorf("Close = %v", err)
	}
}

func TestStartFails(t *testing.T) {
	for _, op := range []looptest.Op{looptest.Enter, looptest.Map, looptest.Add} {
		f := &fake{sys: looptest.New()}
		f.world = newWorld(t, loop.Options{System: f.sys, Loops: 2}, script{})
		f.sys.Fail(op, syscall.EPERM, 1)
		if err := f.g.Start(); !errors.Is(err, syscall.EPERM) {
			t.Errorf("%s fails: Start = %v", op, err)
		}
		if err := f.g.Close(); err != nil {
			t.Error(err)
		}
		if n := f.sys.Open(); n != 0 {
			t.Errorf("%s fails: %d descriptors are left", op, n)
		}
	}
	for _, op := range []looptest.Op{looptest.NewWaker, looptest.NewChute} {
		s := looptest.New()
		s.Fail(op, syscall.EMFILE, 1)
		o := loop.Options{System: s, Loops: 3, NewHandler: func(*loop.Loop) loop.Handler { return nil }}
		if _, err := loop.NewGroup(o); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%s fails: NewGroup = %v", op, err)
		}
		if n := s.Open(); n != 0 {
			t.Errorf("%s fails: %d descriptors are left", op, n)
		}
	}
}

// small is a system whose private tables hold 223 conns each with three loops.
func small() (*looptest.System, int) { return looptest.NewLimited(1000), 1000 - 256 - 512 - 3*3 }

// TestGrow: a full loop's listener moves to another, which is started for it, and comes back when that one
// has been empty for a while and retires; and so once more.
func TestGrow(t *testing.T) {
	s, budget := small()
	f := newFake(t, loop.Options{System: s, Loops: 1, MaxConns: 3 * budget, Table: loop.TablePrivate}, script{data: echo})
	if y := f.g.Layout(); y.MaxLoops != 3 || y.Budget != budget {
		t.Fatalf("layout %v", y)
	}
	for round := range 2 {
		base := f.count()
		var peers []*looptest.Peer
		for range 3 * budget {
			peers = append(peers, f.dial())
		}
		if n := f.g.Active(); n != 3 {
			t.Errorf("%d loops for %d conns", n, len(peers))
		}
		for k, l := range f.g.Loops() {
			if n := int(l.Stats.Live.Load()); n != budget {
				t.Errorf("round %d: loop %d has %d conns, want %d", round, k, n, budget)
			}
		}
		for _, p := range peers {
			p.Write([]byte("x"))
			wantRead(t, p, "x")
		}
		old := f.conn(base + 2*budget).id // on the last loop
		for _, p := range peers {
			p.Close()
		}
		f.sys.Settle()
		waits := f.sys.Waits()
		f.sys.Advance(20 * time.Second)
		if n := f.sys.Waits() - waits; n > 50 {
			t.Errorf("%d waits in 20 s of nothing", n)
		}
		if n := f.g.Active(); n != 1 {
			t.Errorf("%d loops for no conn", n)
		}
		_ = f.g.Post(old, 0, nil)
		p := f.dial()
		if r := f.conn(f.count() - 1); r.loop != 0 {
			t.Errorf("after all have gone a conn comes to loop %d", r.loop)
		}
		p.Close()
		f.sys.Settle()
	}
	ids := make(map[loop.ID]bool)
	for k := range f.count() {
		if id := f.conn(k).id; ids[id] {
			t.Fatalf("id %v is used twice", id)
		} else {
			ids[id] = true
		}
	}
}

// TestKeepsListener: an empty extra loop stays while no other has room for its listener.
func TestKeepsListener(t *testing.T) {
	s, budget := small()
	f := newFake(t, loop.Options{System: s, Loops: 1, MaxConns: 3 * budget, Table: loop.TablePrivate}, script{})
	var peers []*looptest.Peer
	for range budget + 10 {
		peers = append(peers, f.dial())
	}
	for _, p := range peers[budget:] {
		p.Close()
	}
	waits := f.sys.Waits()
	f.sys.Advance(time.Minute)
	if n := f.sys.Waits() - waits; n > 100 {
		t.Errorf("%d waits in a minute of nothing", n)
	}
	if n := f.g.Active(); n != 2 {
		t.Errorf("%d loops are active, want 2: the first is full", n)
	}
	f.dial()
	if r := f.conn(f.count() - 1); r.loop != 1 {
		t.Errorf("accepted by loop %d", r.loop)
	}
}

// TestFull: when no loop has room, Admit is told so.
func TestFull(t *testing.T) {
	s, budget := small()
	f := newFake(t, loop.Options{System: s, Loops: 1, MaxConns: 3 * budget, Table: loop.TablePrivate}, script{
		admit: func(h *handler, full bool) []byte {
			if full {
				return []byte("busy")
			}
			return nil
		},
	})
	for range 3 * budget {
		f.dial()
	}
	// Refusals have a reserve of their own; beyond it they are best effort.
	for k := range 600 {
		p := f.sys.Dial()
		p.Write([]byte("GET /"))
		f.sys.Settle()
		if k < 512 {
			wantRead(t, p, "busy")
			if !p.EOF() || p.WasReset() || p.Gone() {
				t.Fatalf("refusal %d: EOF %t, reset %t, gone %t", k, p.EOF(), p.WasReset(), p.Gone())
			}
		} else if !p.Gone() {
			t.Fatalf("refusal %d is kept", k)
		}
	}
	if f.count() != 3*budget {
		t.Errorf("%d conns opened", f.count())
	}
	f.sys.Advance(2 * time.Second)
	if n := f.g.Live(); n != 3*budget {
		t.Errorf("%d conns live when the refused are gone, want %d", n, 3*budget)
	}
	c, _ := f.sys.Pipe()
	if err := f.g.Adopt(c, []byte("x")); err != loop.ErrFull {
		t.Errorf("Adopt = %v", err)
	}
	_ = c.Close()
}

// TestExtraLoopFails: a loop that is needed and does not start is asked for now and then, not with every
// connection.
func TestExtraLoopFails(t *testing.T) {
	s, budget := small()
	f := newFake(t, loop.Options{System: s, Loops: 1, MaxConns: 3 * budget, Table: loop.TablePrivate}, script{
		admit: func(_ *handler, full bool) []byte {
			if full {
				return []byte("busy")
			}
			return nil
		},
	})
	for range budget - 1 {
		f.dial()
	}
	f.sys.Fail(looptest.Enter, syscall.EPERM, 2)
	f.dial() // the last that has room starts the next loop
	for range 10 {
		wantRead(t, f.sys.Dial(), "busy")
	}
	if n := f.g.Active(); n != 1 {
		t.Errorf("%d loops", n)
	}
	f.sys.Advance(time.Second)
	wantRead(t, f.sys.Dial(), "busy") // the second failure
	f.sys.Advance(time.Second)
	f.dial()
	if n := f.g.Active(); n != 2 {
		t.Errorf("%d loops", n)
	}
}

func TestRefuse(t *testing.T) {
	f := newFake(t, loop.Options{}, script{admit: func(h *handler, full bool) []byte {
		if full {
			t.Error("full")
		}
		return []byte("no")
	}})
	a, b := f.sys.Dial(), f.sys.Dial()
	a.Write([]byte("GET / HTTP/1.1\r\n"))
	wantRead(t, a, "no")
	wantRead(t, b, "no")
	a.Write([]byte("more"))
	f.sys.Settle()
	if !a.EOF() || a.WasReset() {
		t.Errorf("EOF %t, reset %t", a.EOF(), a.WasReset())
	}
	a.Close()
	f.sys.Settle()
	if !a.Gone() || b.Gone() {
		t.Error("the first closed, the second did not")
	}
	f.sys.Advance(2 * time.Second)
	if !b.Gone() {
		t.Error("a refused conn stays")
	}
	if f.count() != 0 || f.g.Live() != 0 {
		t.Errorf("%d opened, %d live", f.count(), f.g.Live())
	}
	if st := &f.only().Stats; st.Accepted.Load() != 2 || st.Refused.Load() != 2 || st.Closed.Load() != 0 {
		t.Errorf("accepted %d, refused %d, closed %d", st.Accepted.Load(), st.Refused.Load(), st.Closed.Load())
	}
}

func TestAdoptFake(t *testing.T) {
	for _, table := range []loop.Table{loop.TableShared, loop.TablePrivate} {
		f := newFake(t, loop.Options{Loops: 2, Table: table, MaxConns: 1000, ReadBuffer: 4096}, script{
			opened: func(h *handler, i uint32, o loop.Opening) { h.l.Write(i, []byte("welcome ")) },
			data:   echo,
		})
		c, p := f.sys.Pipe()
		carry := strings.Repeat("state", 2000) // more than the loop's read buffer
		p.Write([]byte("early"))
		if err := f.g.Adopt(c, []byte(carry)); err != nil {
			t.Fatal(err)
		}
		wantRead(t, p, "welcome early")
		if r := f.conn(0); r.how != loop.Adopted || r.carry != carry {
			t.Errorf("how %d, %d bytes came along", r.how, len(r.carry))
		}
		p.Close()
		f.sys.Settle()
		f.wantEnd(0, loop.EndEOF, nil)

		c, _ = f.sys.Pipe()
		if err := f.g.Adopt(c, nil); err == nil {
			t.Error("adopted with no data")
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Errorf("after Adopt failed, the caller's conn: %v", err)
		}
		_ = c.Close()
		a, _ := net.Pipe()
		if err := f.g.Adopt(a, []byte("x")); !errors.Is(err, sys.ErrUnsupported) {
			t.Errorf("Adopt of a pipe: %v", err)
		}
		_ = f.g.Close()
		if err := f.g.Adopt(a, []byte("x")); err != loop.ErrStopped {
			t.Errorf("Adopt after Close: %v", err)
		}
	}
}

// TestAdoptAtRetirement: a conn that is dropped into the chute of a loop between its last look there and its
// retirement is not lost.
func TestAdoptAtRetirement(t *testing.T) {
	s, budget := small()
	f := newFake(t, loop.Options{System: s, Loops: 1, MaxConns: 3 * budget, Table: loop.TablePrivate}, script{data: echo})
	var peers []*looptest.Peer
	for range budget + 1 {
		peers = append(peers, f.dial())
	}
	for _, p := range peers { // both are empty, so that the extra one can give its listener back
		p.Close()
	}
	f.sys.Settle()
	for range budget / 2 { // and it has more room
		f.on(f.only(), func(h *handler) { _, _ = h.dial(netip.MustParseAddrPort("192.0.2.1:80")) })
	}
	extra := f.g.Loops()[1]
	c, p := f.sys.Pipe()
	held := make(chan struct{})
	_ = extra.Call(func() { <-held })
	f.sys.Jump(time.Minute)
	_ = extra.Call(func() { // in the iteration that knows the new time
		if err := f.g.Adopt(c, []byte("x")); err != nil {
			t.Error(err)
		}
	})
	close(held)
	p.Write([]byte("hello"))
	wantRead(t, p, "hello")
	if r := f.conn(f.count() - 1); r.loop != 1 || f.g.Active() != 2 {
		t.Errorf("adopted by loop %d, %d are active", r.loop, f.g.Active())
	}
	p.Close()
	f.sys.Advance(10 * time.Second)
	if n := f.g.Active(); n != 1 {
		t.Errorf("%d loops are active", n)
	}
}

// TestAdoptWhileRetiring is the same as a race.
func TestAdoptWhileRetiring(t *testing.T) {
	s, budget := small()
	f := newFake(t, loop.Options{System: s, Loops: 1, MaxConns: 3 * budget, Table: loop.TablePrivate}, script{data: echo})
	for round := range 20 {
		var peers []*looptest.Peer
		for f.g.Active() < 2 || len(peers) < budget+1 {
			peers = append(peers, f.dial())
		}
		for _, p := range peers[budget:] {
			p.Close() // the extra loop is empty, the first full
		}
		f.sys.Settle()
		c, p := f.sys.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { f.sys.Advance(6 * time.Second) })
		wg.Go(func() {
			if err := f.g.Adopt(c, []byte("x")); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		p.Write([]byte("hello"))
		wantRead(t, p, "hello")
		p.Close()
		for _, p := range peers[:budget] {
			p.Close()
		}
		f.sys.Advance(20 * time.Second)
		if n := f.g.Active(); n != 1 {
			t.Fatalf("round %d: %d loops for no conn", round, n)
		}
	}
}

func TestPassToFake(t *testing.T) {
	for _, table := range []loop.Table{loop.TableShared, loop.TablePrivate} {
		f := newFake(t, loop.Options{Table: table, MaxConns: 1000}, script{data: func(h *handler, i uint32, b []byte) {
			if err := h.l.PassTo(i, h.w.g.Outlet(), b); err != nil {
				h.l.Write(i, []byte("stays"))
			}
		}})
		p := f.dial()
		f.sys.Fail(looptest.Pass, sys.ErrWouldBlock, 1)
		p.Write([]byte("first"))
		wantRead(t, p, "stays")
		p.Write([]byte("second"))
		f.sys.Settle()
		f.wantEnd(0, loop.EndPassed, nil)
		p.Write([]byte("for the other"))
		f.sys.Settle() // the loop does not watch it any more
		b := make([]byte, 100)
		c, n, err := f.g.Strays(b)
		if err != nil || string(b[:n]) != "second" {
			t.Fatalf("Strays: %q, %v", b[:n], err)
		}
		if n, err = c.Read(b); err != nil || string(b[:n]) != "for the other" {
			t.Errorf("read %q, %v", b[:n], err)
		}
		if p.EOF() {
			t.Error("EOF")
		}
		_ = c.Close()
		if !p.EOF() || p.WasReset() {
			t.Errorf("EOF %t, reset %t after Close", p.EOF(), p.WasReset())
		}
		if n := f.only().Stats.Passed.Load(); n != 1 {
			t.Errorf("passed %d", n)
		}
		done := make(chan error)
		go func() { _, _, err := f.g.Strays(b); done <- err }()
		_ = f.g.Close()
		if err := <-done; err == nil {
			t.Error("Strays goes on after Close")
		}
	}
}

// TestStopAccepting: what is queued is served, what comes later is refused by the kernel, and no table
// keeps the port.
func TestStopAccepting(t *testing.T) {
	s, budget := small()
	for _, o := range []loop.Options{
		{Loops: 2},
		{System: s, Loops: 1, MaxConns: 3 * budget, Table: loop.TablePrivate},
	} {
		f := newFake(t, o, script{data: echo})
		var peers []*looptest.Peer
		f.on(f.only(), func(*handler) {
			for range 20 {
				peers = append(peers, f.sys.Dial())
			}
			// The loops are told while connections wait.
			done := make(chan struct{})
			go func() { f.g.StopAccepting(); close(done) }()
			t.Cleanup(func() { <-done })
		})
		for f.sys.Listening() > 0 {
			f.sys.Settle()
		}
		for k, p := range peers {
			p.Write([]byte("x"))
			if got := p.Read(); string(got) != "x" {
				t.Errorf("conn %d got %q", k, got)
			}
		}
		if p := f.sys.Dial(); !p.WasReset() {
			t.Error("accepted after StopAccepting")
		}
		c, p := f.sys.Pipe()
		if err := f.g.Adopt(c, []byte("x")); err != nil {
			t.Error(err)
		}
		p.Write([]byte("x"))
		wantRead(t, p, "x")
		f.g.StopAccepting()
	}
}

// TestStopAcceptingWhileStarting: a loop that starts while the listeners are closed does not keep them.
func TestStopAcceptingWhileStarting(t *testing.T) {
	for range 30 {
		s, budget := small()
		f := newFake(t, loop.Options{System: s, Loops: 1, MaxConns: 3 * budget, Table: loop.TablePrivate}, script{})
		for range budget {
			f.sys.Dial()
		}
		f.sys.Settle()
		c, _ := f.sys.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { f.g.StopAccepting() })
		wg.Go(func() {
			if err := f.g.Adopt(c, []byte("x")); err != nil { // starts the second loop
				t.Error(err)
			}
		})
		wg.Wait()
		if n := f.sys.Listening(); n != 0 {
			t.Fatalf("%d listeners are open", n)
		}
		_ = f.g.Close()
	}
}

func TestCallsAtTheEnd(t *testing.T) {
	for range 50 {
		f := newFake(t, loop.Options{Loops: 2}, script{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				// Whoever is told that a call is taken gets its answer.
				_ = f.g.Ask(context.Background(), func(*loop.Loop) {})
			})
			wg.Go(func() { f.g.StopAccepting() })
			wg.Go(func() { _ = f.g.Close() })
		}
		wg.Wait()
		if f.stopped != 2 {
			t.Fatalf("%d loops were Stopped", f.stopped)
		}
	}
}

func TestAsk(t *testing.T) {
	f := newFake(t, loop.Options{Loops: 3}, script{})
	var mu sync.Mutex
	seen := make(map[int]bool)
	err := f.g.Ask(context.Background(), func(l *loop.Loop) {
		mu.Lock()
		defer mu.Unlock()
		seen[l.Index()] = true
	})
	if err != nil || len(seen) != 3 {
		t.Errorf("%d loops answered, %v", len(seen), err)
	}
	hold := make(chan struct{})
	_ = f.only().Call(func() { <-hold })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.g.Ask(ctx, func(*loop.Loop) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("Ask = %v", err)
	}
	close(hold)
}

// TestGroupStress: everything at once, for the race detector and for deadlocks between the group's
// lock and the loops.
func TestGroupStress(t *testing.T) {
	s, budget := small()
	f := newFake(t, loop.Options{System: s, Loops: 1, MaxConns: 3 * budget, Table: loop.TablePrivate}, script{data: echo, post: writePost})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for k := range 150 {
				switch (k + w) % 5 {
				case 0:
					c, p := f.sys.Pipe()
					if err := f.g.Adopt(c, []byte("x")); err != nil {
						_ = c.Close()
					}
					if k%2 == 0 {
						p.Close()
					}
				case 1:
					_ = f.g.Ask(context.Background(), func(l *loop.Loop) { l.Each(func(i uint32) { l.Write(i, []byte("all")) }) })
				case 2:
					f.g.Running(func(l *loop.Loop) {
						n := 0
						l.Each(func(i uint32) {
							if n++; n%3 == 0 {
								l.Drop(i)
							}
						})
					})
				case 3:
					f.sys.Advance(2 * time.Second)
				case 4:
					for range 60 {
						p := f.sys.Dial()
						p.Write([]byte("x"))
					}
				}
			}
		})
	}
	wg.Wait()
	f.g.StopAccepting()
	f.sys.Settle()
}

// A conn that is adopted and cannot be watched is opened and closed all the same: whoever dropped it into the
// chute counts on its end.
func TestAdoptUnwatched(t *testing.T) {
	f := newFake(t, loop.Options{}, script{})
	c, p := f.sys.Pipe()
	f.sys.Fail(looptest.Add, syscall.ENOSPC, 1)
	if err := f.g.Adopt(c, []byte("carried")); err != nil {
		t.Fatal(err)
	}
	f.sys.Settle()
	if r := f.conn(0); r.carry != "carried" {
		t.Errorf("opened with %q", r.carry)
	}
	f.wantEnd(0, loop.EndError, syscall.ENOSPC)
	if !p.Gone() {
		t.Error("the socket is open")
	}
}

// A conn that is passed to a loop whose table is full never comes in; who counted it is told with what it carried.
func TestAdoptLost(t *testing.T) {
	var carried []string
	f := newFake(t, loop.Options{}, script{lost: func(_ *handler, data []byte) { carried = append(carried, string(data)) }})
	c, p := f.sys.Pipe()
	f.sys.Fail(looptest.Receive, syscall.EMFILE, 1)
	if err := f.g.Adopt(c, []byte("carried")); err != nil {
		t.Fatal(err)
	}
	f.sys.Settle()
	if len(carried) != 1 || carried[0] != "carried" {
		t.Errorf("lost %q, want what it carried", carried)
	}
	if !p.Gone() {
		t.Error("the socket is open")
	}
}
