package sampling

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// logger is one whose lines are read without their time.
func logger(o Options) (*slog.Logger, *bytes.Buffer, *Handler) {
	b := new(bytes.Buffer)
	h := New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(g []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(g) == 0 {
			return slog.Attr{}
		}
		return a
	}}), o)
	return slog.New(h), b, h
}

func hexOf(i ID) string { return hex.EncodeToString(i[:]) }

func TestHandlerByAttributes(t *testing.T) {
	log, b, h := logger(Options{Slow: 100 * time.Millisecond})
	log.Debug("general")
	log.Info("general")
	of := func(n uint64) *slog.Logger { return log.With(TraceKey, hexOf(id(n))) }
	of(1).Debug("one a")
	of(2).Debug("two a")
	log.Debug("one b", "k", 1, TraceKey, hexOf(id(1)))
	if got := b.String(); got != "level=INFO msg=general\n" {
		t.Fatalf("the log has\n%s", got)
	}
	of(1).Warn("one fails")
	of(2).Debug("two is quick", TookKey, 99*time.Millisecond)
	of(2).Debug("two is slow", TookKey, 100*time.Millisecond)
	of(1).Debug("one goes on")
	of(3).Debug("three")
	want := "INFO general, DEBUG one a, DEBUG one b, WARN one fails, DEBUG two a, DEBUG two is quick, DEBUG two is slow, DEBUG one goes on"
	var got []string
	for line := range strings.Lines(b.String()) {
		_, rest, _ := strings.Cut(line, "level=")
		level, rest, _ := strings.Cut(rest, " msg=")
		msg := strings.Trim(strings.TrimSpace(rest), `"`)
		msg, _, _ = strings.Cut(msg, `"`)
		msg, _, _ = strings.Cut(msg, ` trace=`)
		got = append(got, level+" "+msg)
	}
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("the log has %s\nwant %s", s, want)
	}
	if s := h.Stats(); s.Untraced != 1 || s.Below != 1 || s.Traced != 7 || s.Lines != 1 {
		t.Errorf("stats are %+v", s)
	}
}

// told is a Line that is reused.
type told struct {
	t Trace
	n int
}

var (
	mu    sync.Mutex
	spare []*told
	holds int
)

func (l *told) Trace() Trace { return l.t }
func (l *told) Hold() Line {
	mu.Lock()
	defer mu.Unlock()
	holds++
	var c *told
	if n := len(spare); n > 0 {
		c, spare = spare[n-1], spare[:n-1]
	} else {
		c = new(told)
	}
	*c = *l
	return c
}
func (l *told) Release() {
	mu.Lock()
	defer mu.Unlock()
	holds--
	*l = told{n: -1} // who writes it now writes nonsense
	spare = append(spare, l)
}
func (l *told) LogValue() slog.Value { return slog.GroupValue(slog.Int("n", l.n)) }

func say(t testing.TB, h slog.Handler, l *told) {
	r := slog.NewRecord(time.Time{}, slog.LevelDebug, "line", 0)
	r.AddAttrs(slog.Any("", l))
	if err := h.Handle(context.Background(), r); err != nil {
		t.Fatal(err)
	}
}

func TestHandlerOfLines(t *testing.T) {
	_, b, h := logger(Options{Slow: time.Second})
	line := new(told) // one for all, as a writer would do
	for n := range 10 {
		for trace := range uint64(100) {
			*line = told{n: int(trace)*100 + n, t: Trace{ID: id(trace), First: n == 0, Last: n == 9, Failed: trace%10 == 3 && n == 5}}
			if trace%10 == 4 && n == 9 {
				line.t.Took = time.Second // the last is slow
			}
			say(t, h, line)
		}
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	seen := make(map[string]bool)
	for _, l := range lines {
		seen[l] = true
	}
	for trace := range 100 {
		for n := range 10 {
			want := trace%10 == 3 || trace%10 == 4
			if got := seen[fmt.Sprintf("level=DEBUG msg=line n=%d", trace*100+n)]; got != want {
				t.Errorf("line %d of trace %d is there: %v, want %v", n, trace, got, want)
			}
		}
	}
	if len(lines) != 200 || holds != 0 {
		t.Errorf("%d lines, want 200; %d are still held", len(lines), holds)
	}
	if s := h.Stats(); s.Traced != 200 || s.Dropped != 800 || s.Lines != 0 {
		t.Errorf("stats are %+v", s)
	}
}

// TestHandlerParts: two conns of one trace. That one of them ends well does not take the other's lines.
func TestHandlerParts(t *testing.T) {
	_, b, h := logger(Options{})
	for n, x := range []Trace{{First: true}, {First: true}, {}, {Last: true}, {Failed: true}, {Last: true}} {
		x.ID = id(7)
		say(t, h, &told{n: n, t: x})
	}
	if got := strings.Count(b.String(), "\n"); got != 6 {
		t.Errorf("%d lines, want all 6:\n%s", got, b)
	}
}

// TestHandlerShare: a trace in the share has all of its lines, at once.
func TestHandlerShare(t *testing.T) {
	_, b, h := logger(Options{Share: 0.2})
	in := 0
	for trace := range uint64(1000) {
		if (Share(0.2)).Has(id(trace)) {
			in++
		}
		for n := range 3 {
			say(t, h, &told{n: n, t: Trace{ID: id(trace), First: n == 0, Last: n == 2}})
		}
	}
	if got := strings.Count(b.String(), "\n"); got != 3*in || in < 100 || in > 300 {
		t.Errorf("%d lines of %d traces", got, in)
	}
}

// TestHandlerAllocates: what is dropped costs nothing.
func TestHandlerAllocates(t *testing.T) {
	_, _, h := logger(Options{})
	line := new(told)
	n := uint64(0)
	some := func() {
		n++
		for i := range 4 {
			*line = told{t: Trace{ID: id(n % 64), First: i == 0, Last: i == 3}}
			say(t, h, line)
		}
	}
	for range 1000 {
		some()
	}
	if n := testing.AllocsPerRun(1000, some); n > 0 {
		t.Errorf("four lines that are dropped cost %v allocations", n)
	}
}

func TestHandlerGroups(t *testing.T) {
	log, b, _ := logger(Options{})
	// What stands in a group is the application's own.
	log.WithGroup("g").Info("in a group", TraceKey, hexOf(id(1)))
	log.With(TraceKey, "not hexadecimal").Info("no id")
	log.With(TraceKey, strings.Repeat("z", 32)).Info("no id either")
	log.With(TraceKey, hexOf(id(1))).WithGroup("g").Info("held", TookKey, time.Hour)
	if got := strings.Count(b.String(), "\n"); got != 3 {
		t.Errorf("the log has %d lines, want 3:\n%s", got, b)
	}
}

// broken is a handler that fails.
type broken struct{ slog.Handler }

func (broken) Handle(context.Context, slog.Record) error { return errors.New("disk full") }

func TestHandlerErrors(t *testing.T) {
	h := New(broken{slog.NewTextHandler(io.Discard, nil)}, Options{})
	if err := h.Handle(context.Background(), slog.NewRecord(time.Time{}, slog.LevelInfo, "x", 0)); err == nil {
		t.Error("the error of a line is gone")
	}
	say(t, h, &told{t: Trace{ID: id(1)}})
	r := slog.NewRecord(time.Time{}, slog.LevelError, "x", 0)
	r.AddAttrs(slog.String(TraceKey, hexOf(id(1))))
	if err := h.Handle(context.Background(), r); err == nil {
		t.Error("the error of a traced line is gone")
	}
}

// stuck is a handler whose reader does nothing.
type stuck struct {
	slog.Handler
	in, out chan struct{}
}

func (s stuck) Handle(context.Context, slog.Record) error {
	s.in <- struct{}{}
	<-s.out
	return nil
}

// TestHandlerStuck: who asks for the numbers of a log that nobody reads gets them.
func TestHandlerStuck(t *testing.T) {
	s := stuck{slog.NewTextHandler(io.Discard, nil), make(chan struct{}), make(chan struct{})}
	h := New(s, Options{})
	done := make(chan error, 1)
	go func() {
		r := slog.NewRecord(time.Time{}, slog.LevelError, "x", 0)
		r.AddAttrs(slog.String(TraceKey, hexOf(id(1))))
		done <- h.Handle(context.Background(), r)
	}()
	<-s.in
	if got := h.Stats(); got.Traced != 1 { // it would hang
		t.Errorf("stats are %+v", got)
	}
	close(s.out)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestHandlerParallel(t *testing.T) {
	log, b, h := logger(Options{Bounds: Bounds{Traces: 10, Lines: 5}})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for n := range 500 {
				l := log.With(TraceKey, hexOf(id(uint64(n%30))))
				l.Debug("line", "g", g)
				if n%50 == 0 {
					l.Error("fails")
				}
			}
		})
	}
	wg.Wait()
	h.Flush()
	s := h.Stats()
	if got := strings.Count(b.String(), "\n"); uint64(got) != s.Traced || s.Traced+s.Dropped+s.Expired+s.Crowded+uint64(s.Lines) != 4*(500+10) {
		t.Errorf("%d lines were written, stats are %+v", got, s)
	}
}

// BenchmarkDropped is a line that is held back, and dropped when its trace is over: a quarter of four.
func BenchmarkDropped(b *testing.B) {
	h := New(slog.NewJSONHandler(io.Discard, nil), Options{})
	line, n := new(told), uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		*line = told{t: Trace{ID: id(n / 4), First: n%4 == 0, Last: n%4 == 3}}
		say(b, h, line)
		n++
	}
}

// BenchmarkWritten is the same line in the share that is written.
func BenchmarkWritten(b *testing.B) {
	h := New(slog.NewJSONHandler(io.Discard, nil), Options{Share: 1})
	line, n := new(told), uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		*line = told{t: Trace{ID: id(n / 4), First: n%4 == 0, Last: n%4 == 3}}
		say(b, h, line)
		n++
	}
}
