package flight

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
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
	o.Map = func(n int) ([]byte, error) { return copyWords(make([]uint64, n/8), nil), nil }
	o.Unmap = func([]byte) {}
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
		Cause: 4, Detail: 7, Code: 1008, Age: 5 * time.Minute, Silent: 30 * time.Second, Pinged: 5 * time.Second, Queued: 1234, Errno: 110,
		Info: true, RTT: 1500 * time.Microsecond, Unacked: 2, Retransmits: 6, Lost: 9, Received: 31 * time.Second,
	}
	kernel := Kernel{Verdict: 3, Level: 2, Err: 104, Retransmits: 6, Unacked: 77, RTT: 2 * time.Millisecond, Path: 0x147}
	k.Opened(at(0), 9, away, 3, 1500*time.Microsecond)
	k.Request(at(1), 9, []byte("req-1"))
	k.Trace(at(2), 9, [16]byte{1, 2}, [8]byte{3})
	k.Connected(at(3), 9, strings.Repeat("u", 40))
	k.Subscribed(at(4), 9, []byte("news"))
	k.Slow(at(5), 9, 70000)
	k.Left(at(6), 9, []byte("news"), 2500)
	k.Pinged(at(7), 9)
	k.Ended(at(8), 9, &ended)
	k.Kernel(at(9), 9, &kernel)
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
		{Kind: KindPinged, Time: at(7), Conn: 9},
	}
	for i, w := range want {
		got := spans[0].Events[i]
		if !got.Time.Equal(w.Time) {
			t.Errorf("event %d at %v, want %v", i, got.Time, w.Time)
		}
		got.Time, w.Time = time.Time{}, time.Time{}
		if got != w {
			t.Errorf("event %d: %+v, want %+v", i, got, w)
		}
	}
	if e := spans[0].Ended(); e == nil || *e.Ended != ended {
		t.Errorf("ended: %+v, want %+v", e, ended)
	}
	if got := spans[0].Kernel(); got == nil || *got != kernel {
		t.Errorf("kernel: %+v, want %+v", got, kernel)
	}
}

func TestRingKeepsTheLast(t *testing.T) {
	r := recorder(t, Options{Bytes: 10 * EventSize})
	for i := range 25 {
		r.Track(0).Pinged(at(time.Duration(i)), uint64(i+1))
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
	k.Pinged(at(0), 1)
	k.Ended(at(0), 1, &Ended{})
	k.Kernel(at(0), 1, &Kernel{})
}

func TestWritingAllocatesNothing(t *testing.T) {
	k := recorder(t, Options{}).Track(0)
	channel := []byte("news")
	if n := testing.AllocsPerRun(100, func() {
		k.Opened(start, 1, home, 0, 0)
		k.Connected(start, 1, "ann")
		k.Subscribed(start, 1, channel)
		k.Ended(start, 1, &Ended{Pinged: -1})
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
	if string(second.Before()) != "one" {
		t.Errorf("the process before is called %q", second.Before())
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
	if string(third.Before()) != "two" || len(third.Find(Query{User: "ann"})) != 0 {
		t.Errorf("before is %q, and %d spans are of the process before that", third.Before(), len(third.Find(Query{})))
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, o := range []Options{{}, {Tracks: 2, Bytes: EventSize}, {Tracks: 1, Bytes: EventSize, Process: make([]byte, 65)}} {
		if _, err := Open(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Tracks: 1, Bytes: EventSize, Dir: file}); err == nil {
		t.Error("a directory that is a file: no error")
	}
}

func FuzzRing(f *testing.F) {
	f.Add([]byte{})
	f.Add(append([]byte(magic), make([]byte, headSize)...))
	whole := append([]byte(magic), make([]byte, headSize-len(magic))...)
	whole[nameAt], whole[nameAt+1] = 1, 'x'
	e := make([]byte, EventSize)
	e[0], e[24] = 1, byte(KindEnded)
	f.Add(append(bytes.Clone(whole), e...))
	e = bytes.Clone(e)
	e[24], e[25] = byte(KindConnected), 255
	f.Add(append(bytes.Clone(whole), e...))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, _, ok := parseRing(b)
		if !ok {
			return
		}
		r := &Recorder{before: []*Track{k}}
		for _, s := range r.Find(Query{}) {
			if s.Why(words) == "" {
				t.Error("no sentence")
			}
		}
	})
}
