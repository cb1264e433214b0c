package stress

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestDialects has each dialect read what servers of its protocol say, and its own commands be JSON.
func TestDialects(t *testing.T) {
	for _, c := range []struct {
		d       dialect
		message string
		want    []event
	}{
		{centrifugeDialect{}, "{}", []event{{kind: eventPing}}},
		{centrifugeDialect{}, `{"id":17,"rpc":{}}`, []event{{kind: eventReply, id: 17}}},
		{centrifugeDialect{}, "{\"id\":1,\"connect\":{\"client\":\"x\"}}\n{\"id\":2,\"subscribe\":{}}\r\n", []event{{kind: eventReply, id: 1}, {kind: eventReply, id: 2}}},
		{centrifugeDialect{}, `{"id":17,"error":{"code":108,"message":"no"}}`, []event{{kind: eventError, id: 17, code: 108}}},
		{centrifugeDialect{}, `{"error":{"code":108,"message":"no"},"id":17}`, []event{{kind: eventError, id: 17, code: 108}}},
		{centrifugeDialect{}, `{"push":{"channel":"a","pub":{"data":5}}}`, []event{{kind: eventPublication, data: []byte("5}}}")}}},
		{centrifugeDialect{}, `{"push":{"channel":"a","join":{}}}`, []event{{kind: eventOther}}},
		{centrifugeDialect{}, "hello", []event{{kind: eventUnknown}}},
		{plainDialect{}, `{"type":"subscribed","id":2}`, []event{{kind: eventReply, id: 2}}},
		{plainDialect{}, `{"type":"pong","ts":17,"now":3}`, []event{{kind: eventReply, id: 17}}},
		{plainDialect{}, `{"type":"error","id":17,"code":103}`, []event{{kind: eventError, id: 17, code: 103}}},
		{plainDialect{}, `{"type":"message","channel":"a","data":5}`, []event{{kind: eventPublication, data: []byte("5}")}}},
		{plainDialect{}, `{"type":"leave"}`, []event{{kind: eventOther}}},
		{plainDialect{}, `5`, []event{{kind: eventUnknown}}},
	} {
		var got []event
		c.d.read([]byte(c.message), func(e event) { got = append(got, e) })
		same := len(got) == len(c.want)
		for i := 0; same && i < len(got); i++ {
			g, w := got[i], c.want[i]
			same = g.kind == w.kind && g.id == w.id && g.code == w.code && bytes.Equal(g.data, w.data)
		}
		if !same {
			t.Errorf("%T: %q is %+v, want %+v", c.d, c.message, got, c.want)
		}
	}
}

// fuzzDialect checks that whatever a server says, what is made of it lies within the message.
func fuzzDialect(f *testing.F, d dialect) {
	seeds(f)
	f.Fuzz(func(t *testing.T, message []byte) {
		before := bytes.Clone(message)
		lines, n := bytes.Count(message, newline)+1, 0
		d.read(message, func(e event) {
			n++
			if e.code < 0 || !bytes.HasSuffix(message, e.data) && !bytes.Contains(message, e.data) || e.data != nil && e.kind != eventPublication {
				t.Errorf("%q: %+v", message, e)
			}
		})
		if n > lines {
			t.Errorf("%q: %d events of %d lines", message, n, lines)
		}
		if !bytes.Equal(before, message) {
			t.Errorf("%q was changed to %q", before, message)
		}
	})
}

func FuzzCentrifugeDialect(f *testing.F) { fuzzDialect(f, centrifugeDialect{}) }
func FuzzPlainDialect(f *testing.F)      { fuzzDialect(f, plainDialect{}) }

// FuzzStamp has stamps and names travel in the commands of both dialects, which are JSON whatever is in them.
func FuzzStamp(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, run uint64, due, sent int64, size int, name string) {
		if run >>= 1; due < 0 || sent < 0 || size > 1<<12 {
			return
		}
		want := stamp{run, due, sent}
		data := appendStamp(nil, want, size)
		if !json.Valid(data) || size > 120 && len(data) != size {
			t.Errorf("%+v of %d bytes: %s", want, size, data)
		}
		if got, ok := readStamp(data, run); !ok || got != want {
			t.Errorf("%s: %+v, %v; want %+v", data, got, ok, want)
		}
		if _, ok := readStamp(data, run+1); ok {
			t.Errorf("%s: another run's is taken for ours", data)
		}
		for _, d := range []dialect{centrifugeDialect{}, plainDialect{}} {
			for _, b := range [][]byte{d.hello(nil, name), d.subscribe(nil, 2, name), d.publish(nil, 17, name, data), d.request(nil, 17, max(0, size))} {
				if len(b) > 0 && !json.Valid(b) {
					t.Errorf("%T: %q is no JSON", d, b)
				}
			}
			var command struct {
				Channel   string
				Subscribe struct{ Channel string }
			}
			if err := json.Unmarshal(d.subscribe(nil, 2, name), &command); err != nil || utf8.ValidString(name) && command.Channel+command.Subscribe.Channel != name {
				t.Errorf("%T: %q became %+v (%v)", d, name, command, err)
			}
		}
	})
}

func FuzzReadStamp(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte, run uint64) {
		s, ok := readStamp(b, run)
		if ok && (s.run != run || s.due < 0 || s.sent < 0) || !ok && s != (stamp{}) {
			t.Errorf("%q: %+v, %v", b, s, ok)
		}
	})
}

func FuzzMetrics(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text string) {
		s, ok := parseMetrics(strings.NewReader(text))
		empty := s.Goroutines == nil && s.Heap == nil && s.GCs == nil && s.GCPause == nil
		if !ok && (!empty || s.Resident > 0 || s.CPU > 0) || ok && !strings.Contains(text, "go_") && !strings.Contains(text, "process_") {
			t.Errorf("%q: %+v, %v", text, s, ok)
		}
		for _, v := range []*float64{s.Goroutines, s.Heap, s.GCs, s.GCPause, &s.CPU} {
			if v != nil && !(*v >= 0 && *v <= 1e18) {
				t.Errorf("%q: %+v", text, s)
			}
		}
	})
}
