package longwire

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/journal"
	"github.com/longwire/longwire/internal/sampling"
	"github.com/longwire/longwire/internal/waittest"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// journalled are the entries that a gateway told.
type journalled struct {
	mu   sync.Mutex
	list []Entry
}

func (j *journalled) take(entries []Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.list = append(j.list, entries...)
}

// all are the entries once there is one of an end for each of so many conns.
func (j *journalled) all(t *testing.T, ends int) (list []Entry) {
	t.Helper()
	waittest.Until(t, "the ends in the journal", func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		list = slices.Clone(j.list)
		n := 0
		for i := range list {
			if list[i].Flags&journal.FlagLast != 0 {
				n++
			}
		}
		return n >= ends
	})
	return list
}

const (
	remoteTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	remoteSpan  = "00f067aa0ba902b7"
)

// TestJournal has a session do what sessions do, and reads the entries.
func TestJournal(t *testing.T) {
	for _, parent := range []string{"", "00", "01"} {
		t.Run("parent "+parent, func(t *testing.T) {
			var j journalled
			var d ws.Dial
			if parent != "" {
				d.Header = "Traceparent: 00-" + remoteTrace + "-" + remoteSpan + "-" + parent + "\r\n"
			}
			w := newWorld(t, Config{Endpoints: []Endpoint{Centrifuge("/connection/websocket")}, Sessions: Sessions{Insecure: true}, Journal: Journal{Entries: j.take},
				Channels: ChannelOptions{Presence: true, HistorySize: 10, HistoryTTL: time.Minute}})
			p := w.dialWith("/connection/websocket", d)
			for _, c := range []string{
				`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"news"}}`, `{"id":3,"presence":{"channel":"news"}}`, `{"id":4,"presence_stats":{"channel":"news"}}`,
				`{"id":5,"history":{"channel":"news"}}`, `{"id":6,"subscribe":{"channel":"none:x"}}`, `{"id":7,"rpc":{"method":"sum","data":{}}}`, `{"id":8,"unsubscribe":{"channel":"news"}}`,
				`{"id":9,"publish":{"channel":"news","data":{"payload":"sesame"}}}`,
			} {
				p.send(ws.OpText, c)
				p.next()
			}
			p.Write(ws.AppendClose(nil, ws.Client, 1000, "", maskKey))
			w.sys.Settle()
			p.Close()
			list := j.all(t, 1)
			var got []string
			for i := range list {
				e := &list[i]
				s := e.Kind.String()
				if e.Text() != "" {
					s += " " + e.Text()
				}
				if e.Code != 0 {
					s += fmt.Sprint(" ", e.Code)
				}
				if e.Flags&journal.FlagFailed != 0 {
					s += " failed"
				}
				got = append(got, s)
			}
			want := []string{"upgrade", "connect", "subscribe news", "presence news", "presence_stats news", "history news", "subscribe none:x 102 failed", "rpc 108 failed",
				"unsubscribe news", "publish news", "closed 1000"}
			if !slices.Equal(got, want) {
				t.Fatalf("the journal has\n%q, want\n%q", got, want)
			}
			client := w.g.node.ID(list[0].Conn)
			spans := make(map[[8]byte]bool)
			for i := range list {
				e := &list[i]
				if e.Trace != list[0].Trace || e.Conn != list[0].Conn || e.Lines != uint32(i+1) || e.Took < 0 {
					t.Errorf("entry %d is %+v", i, e)
				}
				if d := w.g.Describe(e); d.Client != client || d.Endpoint != "/connection/websocket" {
					t.Errorf("entry %d is of %+v", i, d)
				}
				if spans[e.Span] || e.Span == ([8]byte{}) {
					t.Errorf("entry %d has the span %x", i, e.Span)
				}
				spans[e.Span] = true
				if e.Flags&journal.FlagFirst != 0 != (i == 0) || e.Flags&journal.FlagLast != 0 != (i == len(list)-1) {
					t.Errorf("entry %d has flags %b", i, e.Flags)
				}
				up := hex.EncodeToString(e.Parent[:])
				switch {
				case parent != "":
					if hex.EncodeToString(e.Trace[:]) != remoteTrace || up != remoteSpan || e.Flags&journal.FlagParent == 0 || e.Flags&journal.FlagSampled != 0 != (parent == "01") {
						t.Errorf("entry %d: %x of %s, flags %b", i, e.Trace, up, e.Flags)
					}
				case i == 0:
					if e.Parent != ([8]byte{}) {
						t.Errorf("the first has the parent %s", up)
					}
				case e.Parent != list[0].Span || e.Flags&journal.FlagParent != 0:
					t.Errorf("entry %d has the parent %s, not the upgrade", i, up)
				}
			}
			if a := w.g.Describe(&list[0]).Address; a != p.From.Addr().String() {
				t.Errorf("the address is %s, want %s", a, p.From.Addr())
			}
		})
	}
}

// TestJournalEnds has conns end otherwise than well.
func TestJournalEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(w *world, p *peer)
		last string // of the journal: kind, cause, code, flags
	}{
		{"FIN", func(_ *world, p *peer) { p.Close() }, "closed client_fin 0 false"},
		{"RST", func(_ *world, p *peer) { p.Reset() }, "closed reset 0 true"},
		{"unmasked", func(_ *world, p *peer) { p.Write(ws.AppendFrame(nil, ws.Server, ws.OpText, []byte("x"), maskKey)) }, "closed protocol_error 1002 true"},
		{"silence", func(w *world, _ *peer) { w.sys.Advance(31 * time.Second) }, "closed heartbeat_timeout 1008 true"},
		{"application", func(_ *world, p *peer) { _ = p.conn.Close(4001, "") }, "closed application 4001 false"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var j journalled
			w := newWorld(t, Config{Journal: Journal{Entries: j.take}})
			p := w.dial("/echo")
			c.end(w, p)
			w.sys.Settle()
			w.sys.Advance(10 * time.Second) // for what waits for the client's close frame
			p.Close()
			list := j.all(t, 1)
			e := &list[len(list)-1]
			d := w.g.Describe(e)
			if got := fmt.Sprint(e.Kind, " ", d.Cause, " ", e.Code, " ", e.Flags&journal.FlagFailed != 0); got != c.last || d.Client != p.conn.ID() {
				t.Errorf("%s of %s, want %s of %s", got, d.Client, c.last, p.conn.ID())
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		var j journalled
		w := newWorld(t, Config{Journal: Journal{Entries: j.take}})
		p := w.raw()
		p.Write([]byte("GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nTraceparent: 00-" + remoteTrace + "-" + remoteSpan + "-01\r\nSec-WebSocket-Version: 12\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"))
		w.sys.Settle()
		p.Close()
		list := j.all(t, 1)
		e := &list[0]
		if d := w.g.Describe(e); len(list) != 1 || e.Kind != journal.KindUpgrade || e.Flags&(journal.FlagFailed|journal.FlagFirst|journal.FlagLast) != journal.FlagFailed|journal.FlagFirst|journal.FlagLast ||
			hex.EncodeToString(e.Trace[:]) != remoteTrace || d.Cause != "refused" || d.Detail != "version" || d.Endpoint != "" {
			t.Errorf("%+v, %+v", list, d)
		}
	})
}

// TestJournalOff: where nobody wants to know, there is no journal.
func TestJournalOff(t *testing.T) {
	w := newWorld(t, Config{})
	if w.g.journal != nil || w.g.Notes() {
		t.Error("there is a journal that nobody reads")
	}
	w.g.Note("", &Entry{})
	if n, lost := w.g.JournalStats(); n != 0 || lost != 0 {
		t.Errorf("%d entries, %d lost", n, lost)
	}
}

// sampled is a gateway on a real kernel whose log is sampled, none of those to which nothing happens.
func sampled(t *testing.T, c Config, o sampling.Options) (*Gateway, *waittest.Log, *sampling.Handler) {
	b := new(waittest.Log)
	h := sampling.New(slog.NewJSONHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}), o)
	c.Log = slog.New(h)
	c.Loops, c.MaxConns, c.MaxMemory = 2, 1000, -1
	return startGateway(t, c), b, h
}

// TestJournalSampled: of many clients those in whose life something fails have all of their lines in the log, and the others none.
// No token, no payload and no whole address is there.
func TestJournalSampled(t *testing.T) {
	const clients, bad = 60, 3
	g, log, h := sampled(t, Config{Endpoints: []Endpoint{Centrifuge("/connection/websocket")}, Sessions: Sessions{Insecure: true}, MaskAddresses: true,
		Tokens: TokenOptions{HMACSecret: []byte("s")}}, sampling.Options{Level: slog.LevelInfo, Slow: time.Hour})
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			c := wstest.Dial(t, g.Addr().String(), "/connection/websocket", ws.Dial{Header: fmt.Sprintf("Traceparent: 00-%032x-%s-00\r\nCookie: session=sesame\r\n", n+1, remoteSpan)})
			ask := func(text string) {
				c.Send(ws.OpText, text)
				c.Next()
			}
			ask(`{"id":1,"connect":{"data":{"secret":"sesame"}}}`)
			ask(`{"id":2,"subscribe":{"channel":"news","token":""}}`)
			if n < bad {
				ask(`{"id":3,"subscribe":{"channel":"none:x","token":"sesame.sesame.sesame"}}`)
			}
			ask(`{"id":4,"unsubscribe":{"channel":"news"}}`)
			ask(`{"id":5,"publish":{"channel":"other","data":{"text":"sesame"}}}`)
			_ = c.Close()
		})
	}
	wg.Wait()
	waittest.Until(t, "the ends", func() bool { return g.Stats().Conns == 0 })
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	text := log.String()
	for _, secret := range []string{"sesame", "127.0.0.1"} {
		// The listener's own address is no client's.
		for line := range strings.Lines(text) {
			if strings.Contains(line, secret) && !strings.Contains(line, `"msg":"listening"`) {
				t.Errorf("%s is in %s", secret, line)
			}
		}
	}
	for n := range clients {
		var got []string
		for line := range strings.Lines(text) {
			if strings.Contains(line, fmt.Sprintf(`"trace":"%032x"`, n+1)) {
				_, msg, _ := strings.Cut(line, `"msg":"`)
				msg, _, _ = strings.Cut(msg, `"`)
				got = append(got, msg)
				if msg == "closed" && !strings.Contains(line, fmt.Sprintf(`"lines":%d}`, len(got))) {
					t.Errorf("the last line of %d is %s", len(got), line)
				}
			}
		}
		want := []string(nil)
		if n < bad {
			want = []string{"upgrade", "connect", "subscribe", "subscribe", "unsubscribe", "publish", "closed"}
		}
		if !slices.Equal(got, want) {
			t.Errorf("client %d has the lines %q, want %q", n, got, want)
		}
	}
	if s := h.Stats(); s.Dropped != 6*(clients-bad) || s.Lines != 0 || s.Expired+s.Crowded != 0 {
		t.Errorf("stats are %+v", s)
	}
	if _, lost := g.JournalStats(); lost != 0 {
		t.Errorf("%d entries were lost", lost)
	}
}

// TestJournalLines: each kind of entry is a line that can be read.
func TestJournalLines(t *testing.T) {
	b := new(waittest.Log)
	g := startGateway(t, Config{Endpoints: []Endpoint{Centrifuge("/c"), Echo("/echo")}, MaxConns: 10, MaxMemory: -1,
		Log: slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	client := g.node.ID(1 << 32)
	note := func(k journal.Kind, f func(e *Entry)) {
		e := Entry{At: time.Now().UnixNano(), Kind: k, Endpoint: journal.NoEndpoint}
		f(&e)
		g.Note(client, &e)
	}
	note(journal.KindHook, func(e *Entry) {
		e.SetName("publish")
		e.SetOutcome("timeout")
		journal.SetText(e, "news")
		e.Took, e.Flags = int64(time.Second), journal.FlagFailed
	})
	note(journal.KindHTTP, func(e *Entry) {
		e.SetName("POST")
		journal.SetText(e, "/api/publish")
		e.Code = 200
	})
	note(journal.KindSlow, func(e *Entry) { e.Code, e.Endpoint = 600_000, 0 })
	note(journal.KindUnsubscribed, func(e *Entry) {
		e.Code, e.Endpoint = 2500, 0
		journal.SetText(e, "news")
	})
	note(journal.KindConnect, func(e *Entry) {
		e.Endpoint, e.Trace = 0, [16]byte{15: 1}
		journal.SetText(e, "user 7")
		e.SetAddress(netip.MustParseAddrPort("192.0.2.0:0"))
	})
	note(journal.KindRPC, func(e *Entry) { journal.SetText(e, "sum") })
	g.KernelEnded(tag(1<<32), time.Now(), KernelEnd{Err: 110})
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{
		"msg=hook client=" + client + " hook=publish channel=news outcome=timeout took=1s",
		"msg=http client=" + client + " method=POST route=/api/publish code=200 took=0s",
		"msg=slow client=" + client + " path=/c bytes=600000",
		"msg=unsubscribed client=" + client + " path=/c channel=news code=2500",
		"msg=connect client=" + client + " trace=00000000000000000000000000000001 addr=192.0.2.0 path=/c user=\"user 7\" took=0s",
		"msg=rpc client=" + client + " method=sum took=0s",
		"level=INFO msg=kernel client=" + client,
		" errno=110\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}

// TestRecentEnds: what the kernel tells is in the trace of its conn, whether the client brought that or not.
func TestRecentEnds(t *testing.T) {
	r := recentEnds{traces: make(map[uint64][16]byte)}
	ended := func(conn uint64, f journal.Flags) {
		r.join([]Entry{{Kind: journal.KindEnded, Conn: conn, Trace: [16]byte{byte(conn), 1}, Flags: f}})
	}
	told := func(conn uint64) [16]byte {
		list := []Entry{{Kind: journal.KindKernel, Conn: conn, Trace: [16]byte{9}}}
		r.join(list)
		return list[0].Trace
	}
	ended(1, journal.FlagParent)
	ended(2, 0)
	if told(1) != ([16]byte{1, 1}) || told(2) != ([16]byte{9}) || told(3) != ([16]byte{9}) {
		t.Errorf("the kernel's word is in %x, %x and %x", told(1), told(2), told(3))
	}
	for n := range uint64(2 * len(r.order)) {
		ended(100+n, journal.FlagParent)
	}
	if len(r.traces) != len(r.order) || told(1) != ([16]byte{9}) {
		t.Errorf("%d traces are kept, want %d", len(r.traces), len(r.order))
	}
}

// TestJournalKernelOnly: the log has what the kernel told, and nothing else about conns.
func TestJournalKernelOnly(t *testing.T) {
	b := new(waittest.Log)
	g := startGateway(t, Config{MaxConns: 10, MaxMemory: -1, Journal: Journal{KernelOnly: true}, Log: slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	c := wstest.Dial(t, g.Addr().String(), "/ws", ws.Dial{})
	if _, err := c.Write(ws.AppendFrame(nil, ws.Server, ws.OpText, []byte("x"), maskKey)); err != nil { // a fault, which is at info else
		t.Fatal(err)
	}
	_, _, _ = c.Next()
	_ = c.Close()
	waittest.Until(t, "the end", func() bool { return g.Stats().Conns == 0 })
	g.KernelEnded(tag(7), time.Now(), KernelEnd{})
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); strings.Count(text, "msg=kernel") != 1 || strings.Contains(text, "msg=closed") || strings.Contains(text, "msg=upgrade") || g.Notes() {
		t.Errorf("the log has\n%s", text)
	}
}

// TestJournalAllocates: a line that is dropped costs nothing, from the entry to the handler.
func TestJournalAllocates(t *testing.T) {
	g, _, _ := sampled(t, Config{}, sampling.Options{Level: slog.LevelInfo})
	line := &entryLine{g: g}
	n, e := uint64(0), Entry{}
	some := func() {
		n++
		for i := range 4 {
			e = Entry{Kind: journal.KindPublish, Trace: [16]byte{15: byte(n % 64), 0: 1}}
			switch i {
			case 0:
				e.Flags = journal.FlagFirst
			case 3:
				e.Flags = journal.FlagLast
			}
			g.write(line, &e)
		}
	}
	for range 1000 {
		some()
	}
	// Under the race detector pools drop what they like.
	if n := testing.AllocsPerRun(1000, some); n > 0 && !raceEnabled {
		t.Errorf("four lines that are dropped cost %v allocations", n)
	}
}

// TestHookContext: hooks are told where they stand in their client's trace.
func TestHookContext(t *testing.T) {
	got := make(chan Client, 1)
	var j journalled
	g := startGateway(t, Config{Endpoints: []Endpoint{Centrifuge("/c")}, MaxConns: 10, MaxMemory: -1, Loops: 1,
		Journal: Journal{Entries: j.take, Sampled: func([16]byte) bool { return true }},
		Hooks: Hooks{Connect: func(_ context.Context, c Client, _ ConnectRequest) (ConnectReply, error) {
			got <- c
			return ConnectReply{User: "u"}, nil
		}}})
	c := wstest.Dial(t, g.Addr().String(), "/c", ws.Dial{})
	c.Send(ws.OpText, `{"id":1,"connect":{}}`)
	_, _, _ = c.Next()
	x := (<-got).Context
	_ = c.Close()
	list := j.all(t, 1)
	if len(list) != 3 || list[1].Kind != journal.KindConnect || list[1].Text() != "u" || x != (TraceContext{Trace: list[1].Trace, Span: list[1].Span, Sampled: true}) {
		t.Errorf("the hook was told %v, the journal has %+v", x, list)
	}
}

// BenchmarkLine is what a line costs the journal's goroutine: written, and held back and dropped.
func BenchmarkLine(b *testing.B) {
	for _, share := range []sampling.Share{1, 0} {
		b.Run(map[sampling.Share]string{1: "written", 0: "dropped"}[share], func(b *testing.B) {
			h := sampling.New(slog.NewJSONHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug}), sampling.Options{Level: slog.LevelInfo, Share: share})
			g, err := New(Config{Endpoints: []Endpoint{Centrifuge("/c")}, MaxConns: 10, MaxMemory: -1, Log: slog.New(h)})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = g.Close() }()
			line, e, n := &entryLine{g: g}, Entry{Kind: journal.KindPublish, At: time.Now().UnixNano(), Took: 30_000}, uint64(0)
			journal.SetText(&e, "news:today")
			b.ReportAllocs()
			for b.Loop() {
				e.Conn, e.Flags = n/8, 0
				switch e.Trace, _ = g.traces.Trace(e.Conn); n % 8 {
				case 0:
					e.Flags = journal.FlagFirst
				case 7:
					e.Flags = journal.FlagLast
				}
				g.write(line, &e)
				n++
			}
		})
	}
}
