package hook

import (
	"context"
	"net/http"
	"testing"

	"github.com/longwire/longwire/internal/session"
)

// TestObserve: who wants to know is told of each call, and the backend where in the client's trace it stands.
func TestObserve(t *testing.T) {
	context1 := session.TraceContext{Trace: [16]byte{1}, Span: [8]byte{2}, Sampled: true}
	for _, propagate := range []bool{true, false} {
		for _, c := range []struct {
			name    string
			answer  http.HandlerFunc
			context session.TraceContext
			outcome string
			failed  bool
		}{
			{"well", body(`{"result":{}}`), context1, "ok", false},
			{"denied", body(`{"error":{"code":1000,"message":"no"}}`), context1, "error", false},
			{"broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, context1, "status", true},
			{"no trace", body(`{"result":{}}`), session.TraceContext{}, "ok", false},
		} {
			var parents []string
			var got []Call
			b := newBackend(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
				parents = append(parents, r.Header.Get("Traceparent"))
				c.answer(w, r)
			}), Options{Propagate: propagate, Observe: func(x *Call) { got = append(got, *x) }})
			by := client
			by.Context = c.context
			_, _ = b.Hooks().Publish(context.Background(), by, session.PublishRequest{Channel: "news", Data: []byte("1")})
			if len(got) != 1 || len(parents) != 1 {
				t.Fatalf("%s: %d calls, %d requests", c.name, len(got), len(parents))
			}
			x := got[0]
			if x.Method != "publish" || x.Outcome != c.outcome || x.Failed != c.failed || x.Client != "c1" || x.Channel != "news" || x.Took <= 0 || x.Began.IsZero() {
				t.Errorf("%s: %+v", c.name, x)
			}
			want := ""
			if c.context != (session.TraceContext{}) {
				if x.Parent != c.context.Span || x.Context.Trace != c.context.Trace || x.Context.Span == c.context.Span || x.Context.Span == ([8]byte{}) || !x.Context.Sampled {
					t.Errorf("%s: the call is at %v below %x", c.name, x.Context, x.Parent)
				}
				if propagate {
					want = x.Context.String()
				}
			}
			if parents[0] != want {
				t.Errorf("%s, propagate %v: the backend was told %q, want %q", c.name, propagate, parents[0], want)
			}
		}
	}
}
