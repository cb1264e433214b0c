package session

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/channel"
	"github.com/longwire/longwire/internal/journal"
)

// TestCalls: the host is told of each command, how long it took and what came of it.
func TestCalls(t *testing.T) {
	given := journal.Context{Trace: [16]byte{1}, Span: [8]byte{2}, Sampled: true}
	var contexts []journal.Context
	var b *bench
	o := Options{Insecure: true, Calls: true, Hooks: Hooks{
		RPC: func(_ context.Context, c Client, method string, _ []byte) ([]byte, error) {
			contexts = append(contexts, c.Context)
			b.clock.Add(int64(3 * time.Second))
			switch method {
			case "bad":
				return nil, &Error{Code: 400, Message: "no"}
			case "worse":
				return nil, &Disconnect{Code: 4500, Reason: "no"}
			}
			return []byte("{}"), nil
		},
		Connect: func(_ context.Context, c Client, _ ConnectRequest) (ConnectReply, error) {
			contexts = append(contexts, c.Context)
			return ConnectReply{User: "u7", Channels: []string{"mine"}}, nil
		}}}
	b = newBench(t, setup{o: o, channels: open})
	b.context = given
	c := b.accept(JSON)
	c.send(`{"id":1,"connect":{}}`)
	c.send(`{"id":2,"subscribe":{"channel":"news"}}`, `{"id":3,"publish":{"channel":"news","data":1}}`, `{"id":4,"presence":{"channel":"news"}}`)
	c.send(`{"id":5,"presence_stats":{"channel":"news"}}`, `{"id":6,"history":{"channel":"news"}}`, `{"id":7,"rpc":{"method":"sum"}}`)
	c.send(`{"id":8,"rpc":{"method":"bad"}}`, `{"id":9,"unsubscribe":{"channel":"news"}}`, `{"id":10,"subscribe":{"channel":"none:x"}}`)
	c.send(`{"id":11,"rpc":{"method":"worse"}}`)
	p := b.accept(Plain)
	for _, s := range []string{`{"type":"subscribe","channel":"a"}`, `{"type":"publish","channel":"a","data":1}`, `{"type":"unsubscribe","channel":"a"}`, `{"type":"subscribe","channel":"none:y"}`} {
		b.table.PlainMessage(p.i, []byte(s))
	}
	var got []string
	spans := make(map[uint64]bool)
	for _, x := range b.called {
		got = append(got, fmt.Sprintf("%s %s %d", x.Method, x.Subject, x.Code))
		if server := string(x.Subject) == "mine"; server != (x.Began == 0) || server != (x.Span == 0) || spans[x.Span] {
			t.Errorf("%s %s began at %d, span %x", x.Method, x.Subject, x.Began, x.Span)
		}
		spans[x.Span] = true
	}
	want := []string{"connect u7 0", "subscribe mine 0", "subscribe news 0", "publish news 0", "presence news 0", "presence_stats news 0", "history news 0",
		"rpc sum 0", "rpc  400", "unsubscribe news 0", "subscribe none:x 102", "rpc  4500", "subscribe a 0", "publish a 0", "unsubscribe a 0", "subscribe none:y 102"}
	if !slices.Equal(got, want) {
		t.Errorf("the host was told\n%q, want\n%q", got, want)
	}
	if len(contexts) != 4 {
		t.Fatalf("hooks were told %v", contexts)
	}
	for n, at := range []int{0, 7, 8, 11} {
		if x := b.called[at]; contexts[n] != (journal.Context{Trace: given.Trace, Span: journal.SpanID(x.Span), Sampled: true}) {
			t.Errorf("the hook of %s was told %v, its command is %x", x.Method, contexts[n], x.Span)
		}
	}
}

// TestCallsOff: where nobody wants to know, nobody is told.
func TestCallsOff(t *testing.T) {
	b := newBench(t, setup{o: Options{Insecure: true, Hooks: Hooks{RPC: func(_ context.Context, c Client, _ string, _ []byte) ([]byte, error) {
		if c.Context != (journal.Context{}) {
			return nil, fmt.Errorf("there is a context: %v", c.Context)
		}
		return []byte("{}"), nil
	}}}, channels: channel.Options{}})
	c := b.accept(JSON)
	c.send(`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"news"}}`, `{"id":3,"rpc":{}}`)
	if len(b.called) != 0 || len(c.got) != 3 || c.got[2].Error != nil {
		t.Errorf("%d calls, replies %+v", len(b.called), c.got)
	}
}
