package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire/client"
	"github.com/longwire/longwire/client/centrifuge"
)

// guest is somebody in the room who has no browser.
type guest struct {
	t *testing.T
	*centrifuge.Client
	states     chan client.State
	subscribed chan centrifuge.Subscribed
	heard      chan centrifuge.Publication
}

func enterRoom(t *testing.T, ctx context.Context, url, name string) *guest {
	t.Helper()
	g := &guest{t: t, states: make(chan client.State, 1000), subscribed: make(chan centrifuge.Subscribed, 100), heard: make(chan centrifuge.Publication, 100)}
	var err error
	g.Client, err = centrifuge.Dial(ctx, url, &centrifuge.Options{
		Data: []byte(`{"name":"` + name + `"}`),
		Socket: client.Options{
			Heartbeat:      client.Heartbeat{Interval: 200 * time.Millisecond, Timeout: 200 * time.Millisecond, MinTimeout: 200 * time.Millisecond},
			ConnectTimeout: 200 * time.Millisecond,
			Backoff:        client.BackoffOptions{Min: 10 * time.Millisecond, Max: 100 * time.Millisecond},
			Fuse:           client.Fuse{CoolDown: 100 * time.Millisecond, MaxCoolDown: 100 * time.Millisecond},
			OnState:        func(s client.Transition) { g.states <- s.To },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close(ctx) })
	_, err = g.Subscribe(ctx, "chat", &centrifuge.SubscribeOptions{Recoverable: true, Handler: centrifuge.Handler{
		Publication: func(_ string, p centrifuge.Publication) { g.heard <- p },
		Subscribed:  func(_ string, s centrifuge.Subscribed) { g.subscribed <- s },
	}})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// next is what a channel has next.
func next[T any](t *testing.T, ctx context.Context, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-ctx.Done():
		t.Fatal(context.Cause(ctx))
	}
	return v
}

func (g *guest) hears(ctx context.Context, from, text string, offset uint64) {
	g.t.Helper()
	p := next(g.t, ctx, g.heard)
	var m struct {
		ID, Text string
		At       int64
	}
	if err := json.Unmarshal(p.Data, &m); err != nil {
		g.t.Fatal(err)
	}
	if p.Info == nil || p.Info.User != from || m.Text != text || p.Offset != offset || m.ID != mine || time.Since(time.UnixMilli(m.At)).Abs() > time.Hour {
		g.t.Fatalf("hears %s of %+v at %d, want %s of %s at %d", p.Data, p.Info, p.Offset, text, from, offset)
	}
}

func words(text string) []byte { return []byte(`{"id":"` + mine + `","text":"` + text + `","more":1}`) }

// TestRoom is the story of the page, without one.
func TestRoom(t *testing.T) {
	addr, _ := start(t, "")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url := "ws://" + addr + "/connection/websocket"
	a := enterRoom(t, ctx, url+"?cable="+theirs, "Ada")
	b := enterRoom(t, ctx, url, "Bob")
	if s := next(t, ctx, a.subscribed); s.WasRecovering {
		t.Errorf("subscribed: %+v", s)
	}
	publish := func(text string) {
		t.Helper()
		if err := b.Publish(ctx, "chat", words(text)); err != nil {
			t.Fatal(err)
		}
	}
	publish("one")
	a.hears(ctx, "Bob", "one", 1)
	b.hears(ctx, "Bob", "one", 1)

	cable := func(do string) {
		t.Helper()
		resp, err := http.Post("http://"+addr+"/cable/"+theirs+"?do="+do, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
	}
	cable("pull")
	for next(t, ctx, a.states) != client.Backoff {
	}
	publish("two")
	publish("three")
	cable("plug")
	if s := next(t, ctx, a.subscribed); !s.WasRecovering || !s.Recovered {
		t.Errorf("subscribed: %+v", s)
	}
	a.hears(ctx, "Bob", "two", 2)
	a.hears(ctx, "Bob", "three", 3)

	// What is no message is nobody's.
	for _, data := range []string{`"text"`, `{}`, `{"id":"` + mine + `"}`, `{"id":"no","text":"hello"}`, string(words(" ")), string(words(strings.Repeat("é", maxText+1))), string(words(`\u0007`))} {
		var e *centrifuge.Error
		if err := b.Publish(ctx, "chat", []byte(data)); !errors.As(err, &e) || e.Code != 400 {
			t.Errorf("publish %s: %v, want error 400", data, err)
		}
	}
	if err := b.Publish(ctx, "elsewhere", words("hello")); err == nil {
		t.Error("there is another room than chat")
	}
	publish("four")
	a.hears(ctx, "Bob", "four", 4)

	for _, data := range []string{``, `{}`, `[]`, `{"name":""}`, `{"name":" "}`, `{"name":"a\nb"}`, `{"name":"` + strings.Repeat("x", maxName+1) + `"}`} {
		var e *client.CloseError
		if c, err := centrifuge.Dial(ctx, url, &centrifuge.Options{Data: []byte(data)}); !errors.As(err, &e) || e.Code != 4500 {
			t.Errorf("connect with %s: %v, want to be closed with 4500", data, err)
			if err == nil {
				_ = c.Close(ctx)
			}
		}
	}
	who, err := b.Presence(ctx, "chat")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, info := range who {
		names = append(names, info.User)
	}
	if slices.Sort(names); !slices.Equal(slices.Compact(names), []string{"Ada", "Bob"}) {
		t.Errorf("present are %q, want Ada and Bob", names)
	}
}

// A page of another site gets no connection.
func TestOtherSites(t *testing.T) {
	addr, _ := start(t, "")
	for origin, want := range map[string]int{"http://" + addr: http.StatusSwitchingProtocols, "http://elsewhere.example": http.StatusForbidden} {
		r, err := http.NewRequest(http.MethodGet, "http://"+addr+"/connection/websocket?cable="+mine, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": origin} {
			r.Header.Set(k, v)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _ = resp.Body.Close(); resp.StatusCode != want {
			t.Errorf("origin %s: %s, want %d", origin, resp.Status, want)
		}
	}
	r, err := http.NewRequest(http.MethodPost, "http://"+addr+"/cable/"+mine+"?do=pull", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusForbidden {
		t.Errorf("another site pulls a cable: %s", resp.Status)
	}
}
