package journal

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// patience is how long a test waits for what has to come.
const patience = 10 * time.Second

// sink collects entries, and can be held up.
type sink struct {
	mu   sync.Mutex
	got  []Entry
	hold chan struct{} // not nil: handle waits until it is closed
	in   chan struct{} // has a value once handle waits
}

func (s *sink) handle(entries []Entry) {
	if s.hold != nil {
		select {
		case s.in <- struct{}{}:
		default:
		}
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, entries...)
}

func (s *sink) wait(t *testing.T, n int) []Entry {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		got := s.got
		s.mu.Unlock()
		if len(got) >= n {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d entries came, want %d", len(got), n)
		}
	}
}

func write(t *Track, conn uint64, code uint32) bool {
	e := t.Next()
	if e == nil {
		return false
	}
	*e = Entry{Kind: KindPublish, Conn: conn, Code: code}
	t.Done()
	return true
}

// TestJournal has several writers write more than the rings hold, and compares what came with what was taken.
func TestJournal(t *testing.T) {
	const tracks, each = 3, 20_000
	var s sink
	j := New(Options{Tracks: tracks, Size: 64, Gather: 100 * time.Microsecond, Handle: s.handle})
	j.Start()
	var wg sync.WaitGroup
	taken := make([][]uint32, tracks+1)
	for i := range tracks {
		wg.Go(func() {
			track := j.Track(i)
			for n := range uint32(each) {
				if write(track, uint64(i), n) {
					taken[i] = append(taken[i], n)
				}
			}
		})
	}
	wg.Go(func() {
		for n := range uint32(1000) {
			j.Put(&Entry{Kind: KindHook, Conn: tracks, Code: n})
		}
	})
	wg.Wait()
	j.Close()
	stats := j.Stats()
	if int(stats.Entries) != len(s.got) || stats.Entries+stats.Lost != tracks*each+1000 {
		t.Errorf("stats are %+v, %d came of %d", stats, len(s.got), tracks*each+1000)
	}
	came := make([][]uint32, tracks+1)
	for i := range s.got {
		e := &s.got[i]
		came[e.Conn] = append(came[e.Conn], e.Code)
	}
	for i := range tracks {
		if len(came[i]) != len(taken[i]) {
			t.Fatalf("track %d: %d came, %d were taken", i, len(came[i]), len(taken[i]))
		}
		for n := range came[i] {
			if came[i][n] != taken[i][n] {
				t.Fatalf("track %d: entry %d is %d, want %d", i, n, came[i][n], taken[i][n])
			}
		}
	}
}

// TestJournalBlocked holds the reader up: writers lose entries, which are counted, and never wait.
func TestJournalBlocked(t *testing.T) {
	s := sink{hold: make(chan struct{}), in: make(chan struct{}, 1)}
	j := New(Options{Tracks: 1, Size: 8, Handle: s.handle})
	j.Start()
	track := j.Track(0)
	write(track, 1, 0)
	<-s.in
	written := 1
	for n := range uint32(100) {
		if write(track, 1, n) {
			written++
		}
	}
	if written != 8 {
		t.Errorf("%d entries were taken, want 8", written)
	}
	close(s.hold)
	s.wait(t, 8)
	if !write(track, 1, 0) {
		t.Error("there is no room although all was handed on")
	}
	j.Close()
	if got := j.Stats(); got != (Stats{Entries: 9, Lost: 93}) {
		t.Errorf("stats are %+v, want 9 handed on and 93 lost", got)
	}
}

// TestJournalSleeps writes entries with pauses in which the reader falls asleep: each must wake it.
func TestJournalSleeps(t *testing.T) {
	var s sink
	j := New(Options{Tracks: 1, Gather: time.Microsecond, Handle: s.handle})
	j.Start()
	defer j.Close()
	for n := range 200 {
		for deadline := time.Now().Add(patience); !j.asleep.Load(); time.Sleep(10 * time.Microsecond) {
			if time.Now().After(deadline) {
				t.Fatal("it does not fall asleep")
			}
		}
		if n%2 == 0 {
			write(j.Track(0), 1, uint32(n))
		} else {
			j.Put(&Entry{Code: uint32(n)})
		}
		s.wait(t, n+1)
	}
}

// TestJournalFallsAsleep writes entries right when the reader may be about to fall asleep: none must wait for the next.
func TestJournalFallsAsleep(t *testing.T) {
	var seen atomic.Uint64
	j := New(Options{Tracks: 1, Gather: time.Nanosecond, Handle: func(e []Entry) { seen.Add(uint64(len(e))) }})
	j.Start()
	defer j.Close()
	for n := range uint64(20_000) {
		for spin := rand.IntN(2000); spin > 0 && !j.asleep.Load(); spin-- {
		}
		write(j.Track(0), 1, 0)
		for deadline := time.Now().Add(patience); seen.Load() <= n; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("entry %d waits for another", n)
			}
		}
	}
}

// TestJournalOrder: what a goroutine put before a loop wrote comes first, so that a hook's call is not behind its command.
func TestJournalOrder(t *testing.T) {
	var s sink
	j := New(Options{Tracks: 1, Handle: s.handle})
	for n := range uint32(10) {
		j.Put(&Entry{Kind: KindHook, Code: n})
		write(j.Track(0), 1, n)
	}
	j.Start()
	j.Close()
	hooks := 0
	for i := range s.got {
		if s.got[i].Kind == KindHook {
			hooks++
		} else if int(s.got[i].Code) >= hooks {
			t.Errorf("the command %d came before its hook's call", s.got[i].Code)
		}
	}
	if len(s.got) != 20 {
		t.Errorf("%d entries came, want 20", len(s.got))
	}
}

func TestJournalAllocates(t *testing.T) {
	j := New(Options{Tracks: 1, Handle: func([]Entry) {}})
	j.Start()
	defer j.Close()
	track := j.Track(0)
	write(track, 1, 0) // makes the ring
	channel := []byte("news:today")
	if n := testing.AllocsPerRun(1000, func() {
		if e := track.Next(); e != nil {
			*e = Entry{Kind: KindSubscribe, Conn: 7}
			SetText(e, channel)
			track.Done()
		}
	}); n != 0 {
		t.Errorf("an entry costs %v allocations", n)
	}
}

func TestNil(t *testing.T) {
	var j *Journal
	j.Start()
	j.Put(&Entry{})
	if e := j.Track(3).Next(); e != nil {
		t.Error("a nil journal takes entries")
	}
	if got := j.Stats(); got != (Stats{}) {
		t.Errorf("a nil journal has stats %+v", got)
	}
	j.Close()
}

func TestEntry(t *testing.T) {
	if n := unsafe.Sizeof(Entry{}); n > 304 {
		t.Errorf("an entry has %d bytes", n)
	}
	var e Entry
	if e.Text() != "" || e.Name() != "" || e.Outcome() != "" || e.AddrPort().IsValid() {
		t.Errorf("an empty entry says something: %+v", e)
	}
	long := strings.Repeat("ä", TextSize)
	for _, c := range []struct{ text, want string }{
		{"news", "news"},
		{long, long[:TextSize] + "…"},
		{"x" + long, "x" + long[:TextSize-2] + "…"}, // not half of a character
		{"a\xffb", "a\ufffdb"},
		{strings.Repeat("y", TextSize), strings.Repeat("y", TextSize)},
	} {
		if SetText(&e, c.text); e.Text() != c.want {
			t.Errorf("%q is %q, want %q", c.text, e.Text(), c.want)
		}
	}
	e.SetName(strings.Repeat("n", 100))
	e.SetOutcome(strings.Repeat("o", 100))
	if len(e.Name()) != nameSize || len(e.Outcome()) != outcomeSize {
		t.Errorf("name %q, outcome %q", e.Name(), e.Outcome())
	}
	for _, a := range []string{"192.0.2.7:80", "[2001:db8::1]:443", "192.0.2.0:0"} {
		if e.SetAddress(netip.MustParseAddrPort(a)); e.AddrPort().String() != a {
			t.Errorf("%s is %s", a, e.AddrPort())
		}
	}
	for k := range kinds {
		if k.String() == "" || strings.Contains(k.String(), " ") {
			t.Errorf("kind %d is called %q", k, k)
		}
	}
	if Kind(200).String() != "none" || KindEnded.Call() || KindKernel.Call() || !KindHook.Call() || !KindUpgrade.Call() {
		t.Error("kinds are not what they are")
	}
}
