package flight

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// recorder is one in the Go heap, which is enough where nobody writes while it is read.
func recorder(t testing.TB, o Options) *Recorder {
	t.Helper()
	if o.Tracks == 0 {
		o.Tracks = 1
	}
	if o.Bytes == 0 {
		o.Bytes = o.Tracks * 1000 * EventSize
	}
	o.Map = func(n int) ([]byte, error) { return words8(n), nil }
	o.Unmap = func([]byte) {}
	if o.Lock == nil {
		o.Lock = func(*os.File) error { return nil }
	}
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

var start = time.Date(2026, 11, 22, 12, 3, 10, 0, time.UTC)

func at(d time.Duration) time.Time { return start.Add(d) }

var home, away = netip.MustParseAddrPort("192.0.2.7:5000"), netip.MustParseAddrPort("[2001:db8::9]:6000")

func TestEventsComeBack(t *testing.T) {
	r := recorder(t, Options{})
	k := r.Track(0)
	ended := Ended{
		Cause: 4, Detail: 7, Code: 1008, Age: 5 * time.Minute, Silent: 30 * time.Second, Pinged: 5 * time.Second, Ponged: true, Queued: 1234,
		Info: true, RTT: 1500 * time.Microsecond, Unacked: 70000, Timeouts: 6, Retransmits: 9, LastAck: 31 * time.Second,
	}
	kernel := Kernel{Verdict: 3, Level: 2, Err: 104, Retransmits: 6, Unacked: 77, RTT: 2 * time.Millisecond, Path: 0x147}
	k.Opened(at(0), 9, away, 3, 1500*time.Microsecond)
	k.Request(at(1), 9, []byte("req-1"))
	k.Trace(at(2), 9, [16]byte{1, 2}, [8]byte{3})
	k.Connected(at(3), 9, strings.Repeat("u", 40))
	k.Subscribed(at(4), 9, []byte("news"))
	k.Slow(at(5), 9, 70000)
	k.Left(at(6), 9, []byte("news"), 2500)
	k.Ended(at(8), 9, &ended)
	k.Answered(at(9), 9, 1001)
	k.Kernel(at(10), 9, &kernel)
	spans := r.Find(Query{Conn: 9})
	if len(spans) != 1 || len(spans[0].Events) != 10 {
		t.Fatalf("%d spans: %+v", len(spans), spans)
	}
	want := []Event{
		{Kind: KindOpened, Time: at(0), Conn: 9, Address: away, Endpoint: 3, Took: 1500 * time.Microsecond},
		{Kind: KindRequest, Time: at(1), Conn: 9, Text: "req-1"},
		{Kind: KindTrace, Time: at(2), Conn: 9, TraceID: [16]byte{1, 2}, SpanID: [8]byte{3}},
		{Kind: KindConnected, Time: at(3), Conn: 9, Text: strings.Repeat("u", TextSize)},
		{Kind: KindSubscribed, Time: at(4), Conn: 9, Text: "news"},
		{Kind: KindSlow, Time: at(5), Conn: 9, Bytes: 70000},
		{Kind: KindLeft, Time: at(6), Conn: 9, Text: "news", Code: 2500},
	}
	for i, w := range want {
		got := spans[0].Events[i]
		if !got.Time.Equal(w.Time) {
			t.Errorf("event %d at %v, want %v", i, got.Time, w.Time)
		}
		got.Time, w.Time, got.sequence, got.stamp = time.Time{}, time.Time{}, 0, 0
		if got != w {
			t.Errorf("event %d: %+v, want %+v", i, got, w)
		}
	}
	if e := spans[0].Ended(); e == nil || *e.Ended != ended {
		t.Errorf("ended: %+v, want %+v", e, ended)
	}
	if got := spans[0].Answered(); got != 1001 {
		t.Errorf("answered with %d, want 1001", got)
	}
	if got := spans[0].Kernel(); got == nil || *got != kernel {
		t.Errorf("kernel: %+v, want %+v", got, kernel)
	}
}

func TestRingKeepsTheLast(t *testing.T) {
	r := recorder(t, Options{Bytes: 10 * EventSize})
	for i := range 25 {
		r.Track(0).Slow(at(time.Duration(i)), uint64(i+1), i)
	}
	spans := r.Find(Query{})
	if len(spans) != 10 || spans[0].Conn != 25 || spans[9].Conn != 16 {
		t.Fatalf("%d spans, the first of conn %d", len(spans), spans[0].Conn)
	}
}

func TestFind(t *testing.T) {
	r := recorder(t, Options{Tracks: 2})
	a, b := r.Track(0), r.Track(1)
	a.Opened(at(0), 1, home, 0, 0)
	a.Connected(at(time.Second), 1, "ann")
	a.Ended(at(2*time.Second), 1, &Ended{Cause: 4, Pinged: -1})
	b.Opened(at(40*time.Second), 2, away, 0, 0)
	b.Connected(at(43*time.Second), 2, "ann")
	b.Opened(at(50*time.Second), 3, home, 0, 0)
	b.Request(at(50*time.Second), 3, []byte("r3"))
	b.Trace(at(50*time.Second), 3, [16]byte{7}, [8]byte{})
	b.Ended(at(51*time.Second), 3, &Ended{Cause: 5, Pinged: -1})
	for _, c := range []struct {
		name string
		q    Query
		want []uint64
	}{
		{"all, the latest first", Query{}, []uint64{3, 2, 1}},
		{"by conn", Query{Conn: 2}, []uint64{2}},
		{"by conns", Query{Conns: []uint64{1, 3, 9}}, []uint64{3, 1}},
		{"by user", Query{User: "ann"}, []uint64{2, 1}},
		{"by nobody", Query{User: "bob"}, nil},
		{"by address", Query{Address: home.Addr()}, []uint64{3, 1}},
		{"by address and port", Query{Address: home.Addr(), Port: 1}, nil},
		{"by request", Query{Request: "r3"}, []uint64{3}},
		{"by trace", Query{TraceID: [16]byte{7}}, []uint64{3}},
		{"by cause", Query{Cause: 4}, []uint64{1}},
		{"two conditions", Query{User: "ann", Address: away.Addr()}, []uint64{2}},
		{"two that exclude each other", Query{User: "ann", Cause: 5}, nil},
		{"since", Query{Since: at(45 * time.Second)}, []uint64{3}},
		{"limit", Query{Limit: 1}, []uint64{3}},
		{"another process's", Query{Conn: 2, Before: true}, nil},
	} {
		var got []uint64
		for _, s := range r.Find(c.q) {
			got = append(got, s.Conn)
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: conns %v, want %v", c.name, got, c.want)
		}
	}
	first := r.Find(Query{Conn: 1})[0]
	if first.Back == nil || *first.Back != (Back{After: 41 * time.Second, Conn: 2, Moved: true}) {
		t.Errorf("came back: %+v", first.Back)
	}
}

func TestNilTakesAll(t *testing.T) {
	var r *Recorder
	k := r.Track(3)
	k.Opened(at(0), 1, home, 0, 0)
	k.Request(at(0), 1, nil)
	k.Trace(at(0), 1, [16]byte{}, [8]byte{})
	k.Connected(at(0), 1, "")
	k.Slow(at(0), 1, 1)
	k.Ended(at(0), 1, &Ended{})
	k.Answered(at(0), 1, 1000)
	k.Kernel(at(0), 1, &Kernel{})
}

func TestWritingAllocatesNothing(t *testing.T) {
	k := recorder(t, Options{}).Track(0)
	channel := []byte("news")
	if n := testing.AllocsPerRun(100, func() {
		k.Opened(start, 1, home, 0, 0)
		k.Request(start, 1, channel)
		k.Trace(start, 1, [16]byte{1}, [8]byte{2})
		k.Connected(start, 1, "ann")
		k.Subscribed(start, 1, channel)
		k.Left(start, 1, channel, 2500)
		k.Slow(start, 1, 7)
		k.Ended(start, 1, &Ended{Pinged: -1})
		k.Answered(start, 1, 1000)
		k.Kernel(start, 1, &Kernel{})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTheNextProcessReadsIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "flight")
	open := func(name string) *Recorder {
		return recorder(t, Options{Dir: dir, Tracks: 2, Process: []byte(name), MapFile: heapFile(t)})
	}
	first := open("one")
	first.Track(1).Opened(at(0), 5, home, 0, 0)
	first.Track(1).Connected(at(1), 5, "ann")
	flush(t, first, dir)
	second := open("two")
	if got, ok := second.Before(); !ok || string(got) != "one" {
		t.Errorf("the process before says %q", got)
	}
	spans := second.Find(Query{User: "ann"})
	if len(spans) != 1 || !spans[0].Before || spans[0].Address() != home {
		t.Fatalf("%+v", spans)
	}
	if got := spans[0].Why(words); !strings.HasPrefix(got, "It was open when the process ended") {
		t.Errorf("why: %s", got)
	}
	flush(t, second, dir)
	third := open("three")
	if got, _ := third.Before(); string(got) != "two" || len(third.Find(Query{User: "ann"})) != 0 {
		t.Errorf("before is %q, and %d spans are of the process before that", got, len(third.Find(Query{})))
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, o := range []Options{{}, {Tracks: 2, Bytes: MinBytes(2) - 1}, {Tracks: 1, Bytes: MinBytes(1), Process: make([]byte, MaxProcess+1)}} {
		if _, err := Open(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Tracks: 1, Bytes: MinBytes(1), Dir: file}); err == nil {
		t.Error("a directory that is a file: no error")
	}
}

// A loop that tells little takes no room from one that tells much, whatever the order they come in.
func TestTracksShareTheRing(t *testing.T) {
	const tracks, events = 50, 6400
	r := recorder(t, Options{Tracks: tracks, Bytes: events * EventSize})
	for i := range tracks {
		r.Track(i).Slow(at(0), uint64(i+1), 0)
	}
	for i := range 3 * events {
		r.Track(7).Slow(at(time.Duration(i)), uint64(1000+i), i)
	}
	spans := r.Find(Query{Limit: 2 * events})
	quiet := 0
	for _, s := range spans {
		if s.Conn <= tracks {
			quiet++
		}
	}
	if quiet != tracks-1 { // that of track 7 is long gone
		t.Errorf("%d of %d quiet loops' events are there", quiet, tracks-1)
	}
	if busy := len(spans) - quiet; busy < events-tracks*maxSegment || spans[0].Conn != 1000+3*events-1 {
		t.Errorf("%d events of the busy loop, the last of conn %d", busy, spans[0].Conn)
	}
	if from := r.From(); !from.Equal(at(0)) {
		t.Errorf("from %v", from)
	}
}

// The ring is never larger than it may be, and hardly smaller.
func TestBytes(t *testing.T) {
	for _, c := range []struct{ tracks, bytes int }{{1, MinBytes(1)}, {3, MinBytes(3)}, {3, MinBytes(3) + 63}, {1, 16 << 20}, {53, 16 << 20}, {1024, 16 << 20}, {53, 1 << 20}, {7, 1_000_003}} {
		r := recorder(t, Options{Tracks: c.tracks, Bytes: c.bytes})
		if n := len(r.ring); n > c.bytes || n <= c.bytes-maxSegment*EventSize || len(r.claimed) < 2*c.tracks {
			t.Errorf("%d bytes for %d tracks: the ring has %d in %d segments", c.bytes, c.tracks, n, len(r.claimed))
		}
	}
}

// A clock that is set back does not turn a life around.
func TestOrderIsNotTheClocks(t *testing.T) {
	r := recorder(t, Options{Tracks: 2})
	k := r.Track(0)
	r.Track(1).Kernel(at(-time.Hour), 1, &Kernel{})
	k.Opened(at(time.Hour), 1, home, 0, 0)
	k.Connected(at(time.Minute), 1, "ann")
	k.Ended(at(0), 1, &Ended{Pinged: -1})
	var got []Kind
	for _, e := range r.Find(Query{})[0].Events {
		got = append(got, e.Kind)
	}
	if want := []Kind{KindOpened, KindConnected, KindEnded, KindKernel}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestNamesAreCutBetweenCharacters(t *testing.T) {
	r := recorder(t, Options{})
	for i, c := range []struct{ name, want string }{
		{strings.Repeat("a", 35) + "\u00e9", strings.Repeat("a", 35)},
		{strings.Repeat("a", 34) + "\u00e9", strings.Repeat("a", 34) + "\u00e9"},
		{strings.Repeat("a", 33) + "\U0001f600", strings.Repeat("a", 33)},
		{"a\xffb", "a\ufffdb"},
		{"3f0e1c9a-5b1d-4d8e-9a52-0a4f2f0f7f11", "3f0e1c9a-5b1d-4d8e-9a52-0a4f2f0f7f11"},
	} {
		r.Track(0).Connected(at(0), uint64(i+1), c.name)
		spans := r.Find(Query{User: c.name})
		if len(spans) != 1 || spans[0].User() != c.want {
			t.Errorf("%q: %d spans, %+v; want the user %q", c.name, len(spans), spans, c.want)
		}
	}
}

func TestAfterClose(t *testing.T) {
	r := recorder(t, Options{})
	r.Track(0).Slow(at(0), 1, 1)
	r.Close()
	if got := r.Find(Query{}); len(got) != 0 || !r.From().IsZero() {
		t.Errorf("%+v", got)
	}
}

// What is no ring is refused when it is found, and what another version left is set aside.
func TestBadFiles(t *testing.T) {
	good := append(head([]byte("before")), make([]byte, 10*EventSize)...)
	change := func(at int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[at:], b)
		return c
	}
	for _, c := range []struct {
		name string
		b    []byte
		want string // in the error
	}{
		{"good", good, ""},
		{"no events", good[:headSize], ""},
		{"another version", change(len(magic), '9'), ""},
		{"empty", nil, "is no flight recorder's file"},
		{"half a head", good[:100], "is no flight recorder's file"},
		{"another file", change(0, []byte("#!/bin/sh")...), "is no flight recorder's file"},
		{"half an event", good[:len(good)-1], "is damaged"},
		{"too much said", change(processAt-2, 0xff, 0xff), "is damaged"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, ringFile), c.b, 0o600); err != nil {
			t.Fatal(err)
		}
		o := Options{Tracks: 1, Bytes: MinBytes(1), Dir: dir, MapFile: heapFile(t), Unmap: func([]byte) {}, Lock: func(*os.File) error { return nil }}
		r, err := Open(o)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			} else {
				r.Close()
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: %v", c.name, err)
		}
		if left, _ := os.ReadFile(filepath.Join(dir, ringFile)); !bytes.Equal(left, c.b) {
			t.Errorf("%s: the file was touched", c.name)
		}
	}
}

// A file that could not be made leaves nothing behind, and what the process before left stays where the next one looks.
func TestNoRoom(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ringFile), head(nil), 0o600); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left on device")
	_, err := Open(Options{
		Tracks: 1, Bytes: MinBytes(1), Dir: dir, Unmap: func([]byte) {}, Lock: func(*os.File) error { return nil },
		MapFile: func(*os.File, int) ([]byte, error) { return nil, full },
	})
	if !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	if e, _ := filepath.Glob(filepath.Join(dir, "*.*")); len(e) != 2 || filepath.Base(e[0]) != lockFile || filepath.Base(e[1]) != ringFile {
		t.Errorf("left behind: %v", e)
	}
}

func FuzzRing(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(magic + version))
	e := make([]byte, EventSize)
	e[0], e[24] = 1, byte(KindEnded)
	f.Add(append(head([]byte("x")), e...))
	e = bytes.Clone(e)
	e[24], e[25] = byte(KindConnected), 255
	f.Add(append(head(nil), e...))
	stepped := head(nil)
	stepped[stepsAt], stepped[stepsAt+15] = 1, 0x80
	f.Add(append(stepped, e...))
	f.Fuzz(func(t *testing.T, b []byte) {
		ring, process, ok, current := parse(b)
		if !ok || !current {
			return
		}
		if len(process) > MaxProcess {
			t.Errorf("%d bytes of the process", len(process))
		}
		aligned := words8(len(ring))
		copy(aligned, ring)
		r := &Recorder{before: aligned, earlier: readTimeline(b[stepsAt:headSize])}
		for _, s := range r.Find(Query{}) {
			if s.Why(words) == "" {
				t.Error("no sentence")
			}
			_ = s.User() + s.Request()
		}
	})
}

// BenchmarkFind asks a recorder that is full, with one event in four of each kind that a conn has.
func BenchmarkFind(b *testing.B) {
	const events = 1 << 20
	r := recorder(b, Options{Tracks: 2, Bytes: events * EventSize})
	channel := []byte("news")
	for i := range events / 4 {
		k, conn := r.Track(i%2), uint64(i+1)
		k.Opened(at(time.Duration(i)), conn, home, 0, 0)
		k.Connected(at(time.Duration(i)), conn, fmt.Sprint("user", i))
		k.Subscribed(at(time.Duration(i)), conn, channel)
		k.Ended(at(time.Duration(i)), conn, &Ended{Cause: 1, Pinged: -1})
	}
	for _, c := range []struct {
		name string
		q    Query
		want int
	}{
		{"user", Query{User: fmt.Sprint("user", events/8)}, 1},
		{"conn", Query{Conn: events / 8}, 1},
		{"address", Query{Address: home.Addr(), Limit: 10}, 10},
		{"all", Query{}, 100},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if got := len(r.Find(c.q)); got != c.want {
					b.Fatalf("%d spans, want %d", got, c.want)
				}
			}
		})
	}
}

func BenchmarkEnded(b *testing.B) {
	k := recorder(b, Options{Bytes: 16 << 20}).Track(0)
	e := Ended{Cause: 1, Pinged: -1}
	for b.Loop() {
		k.Ended(start, 1, &e)
	}
}
