package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	line "github.com/longwire/longwire/client"
	"github.com/longwire/longwire/client/centrifuge"
	"github.com/longwire/longwire/internal/token/tokentest"

	"github.com/longwire/longwire"
)

// happening is what a client tells of itself.
type happening struct {
	Client string `json:"client"`
	Event  string `json:"event"` // up, down, gone (for good), got
	Code   int    `json:"code"`
	Text   string `json:"text"`
	At     int64  `json:"at"` // Unix milliseconds
}

// TestComeBack disconnects clients of all kinds at once, and then drains the gateway while another one takes its place on
// the same port. All come back. Ours wait as long as the reason of the close says; the official SDK, which looks at
// the code alone, is not kept by it.
func TestComeBack(t *testing.T) {
	node := nodeWith(t, "ws", "centrifuge")
	if _, err := os.Stat("../clients/js/dist/index.js"); err != nil {
		t.Skip("clients/js is not built: npm run build there")
	}
	const each = 4
	config := longwire.Config{Addr: "127.0.0.1:0", MaxConns: 1000, MaxMemory: -1, Loops: 1, Log: slog.New(slog.DiscardHandler),
		Endpoints: []longwire.Endpoint{longwire.Centrifuge(centrifugePath), longwire.Plain("/ws")},
		Tokens:    longwire.TokenOptions{HMACSecret: []byte(tokenSecret)},
		Channels:  longwire.ChannelOptions{SubscribeForClient: true, SubscribeForAnonymous: true}}
	config.Sessions.ConnectRate = 50
	start := func() (*longwire.Gateway, error) {
		g, err := longwire.New(config)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = g.Close() })
		return g, g.Start()
	}
	g, err := start()
	if err != nil {
		t.Fatal(err)
	}
	config.Addr = g.Addr().String()

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	events := make(chan happening, 10_000)
	cmd := exec.CommandContext(ctx, node, "comeback.js", config.Addr, tokenSecret, strconv.Itoa(each))
	cmd.Dir, cmd.Stderr = "js", os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			var h happening
			if err := json.Unmarshal(s.Bytes(), &h); err != nil {
				t.Errorf("comeback.js says %s", s.Bytes())
				continue
			}
			events <- h
		}
	}()
	defer func() {
		cancel()
		<-read
		_ = cmd.Wait() // it was killed
	}()
	for k := range each {
		goClient(ctx, t, fmt.Sprintf("go-%d", k), config.Addr, events)
	}

	all := 4 * each
	down := make(map[string]happening)
	up := make(map[string]bool)
	got := make(map[string]string)
	// wait takes events until ok.
	wait := func(what string, ok func() bool) {
		t.Helper()
		for !ok() {
			select {
			case h := <-events:
				switch h.Event {
				case "down":
					if h.Code < 3000 && h.Code != 1001 { // 0: it connects for the first time
						continue
					}
					down[h.Client], up[h.Client] = h, false
				case "up":
					up[h.Client] = true
					if d, ok := down[h.Client]; ok {
						judge(t, d, h)
					}
				case "got":
					got[h.Client] = h.Text
				default:
					t.Errorf("client %s is gone: %d %s", h.Client, h.Code, h.Text)
				}
			case <-ctx.Done():
				t.Fatalf("it never came: %s; down %v, up %v, got %v", what, down, up, got)
			}
		}
	}
	upCount := func() (n int) {
		for _, is := range up {
			if is {
				n++
			}
		}
		return n
	}
	gets := func(g *longwire.Gateway, text string) {
		t.Helper()
		if _, err := g.Publish(ctx, "news", []byte(strconv.Quote(text)), longwire.PublishOptions{}); err != nil {
			t.Fatal(err)
		}
		wait(text+" to all", func() bool {
			n := 0
			for _, have := range got {
				if have == text {
					n++
				}
			}
			return n == all
		})
	}
	wait("all connect", func() bool { return upCount() == all })
	gets(g, "before")

	if err := g.Disconnect(ctx, longwire.Target{User: "ann"}, longwire.DisconnectAs{Code: 4100, Reason: "moved"}); err != nil {
		t.Fatal(err)
	}
	wait("all of ann's are back", func() bool { return len(down) == 3*each && upCount() == all })
	gets(g, "after the disconnect")
	for client, d := range down {
		if d.Code != 4100 || !strings.HasPrefix(d.Text, "moved, retry after ") {
			t.Errorf("%s was closed with %d %q, want 4100 with advice", client, d.Code, d.Text)
		}
	}

	clear(down)
	drained := make(chan error, 1)
	go func() { drained <- g.Drain(ctx, 2*time.Second) }()
	for free := false; !free && ctx.Err() == nil; runtime.Gosched() { // as it is once the drain has begun
		l, err := net.Listen("tcp", config.Addr)
		if free = err == nil; free {
			_ = l.Close()
		}
	}
	next, err := start()
	if err != nil {
		t.Fatal(err)
	}
	wait("all are back at the next gateway", func() bool { return len(down) == all && upCount() == all })
	gets(next, "after the drain")
	for client, d := range down {
		code, words := 3001, "shutdown"
		if strings.HasPrefix(client, "ours-plain") {
			code, words = 1001, "the server is going away"
		}
		if d.Code != code || !strings.HasPrefix(d.Text, words+", retry after ") {
			t.Errorf("%s was closed with %d %q, want %d with advice", client, d.Code, d.Text, code)
		}
	}
	if err := <-drained; err != nil {
		t.Errorf("Drain = %v", err)
	}
}

// judge holds a client's way back against what it was told.
func judge(t *testing.T, down, up happening) {
	t.Helper()
	found := regexp.MustCompile(`retry after (\d+) s`).FindStringSubmatch(down.Text)
	if found == nil {
		return // which is judged elsewhere
	}
	seconds, _ := strconv.Atoi(found[1])
	const slack = 50 // of clocks that are read one after the other
	waited := up.At - down.At
	t.Logf("%s: told %d s, back after %d ms", up.Client, seconds, waited)
	if !strings.HasPrefix(up.Client, "sdk") && waited < int64(seconds)*1000-slack {
		t.Errorf("%s was told to wait %d s and was back after %d ms", up.Client, seconds, waited)
	}
}

// goClient is one of package client/centrifuge.
func goClient(ctx context.Context, t *testing.T, name, addr string, events chan<- happening) {
	t.Helper()
	say := func(event, text string, code int) {
		events <- happening{Client: name, Event: event, Text: text, Code: code, At: time.Now().UnixMilli()}
	}
	c, err := centrifuge.Dial(ctx, "ws://"+addr+centrifugePath, &centrifuge.Options{Token: tokentest.HS256(tokenSecret, `{"sub":"ann"}`), Socket: line.Options{
		OnState: func(tr line.Transition) {
			var end *line.CloseError
			if errors.As(tr.Err, &end) && tr.To == line.Backoff {
				say("down", end.Reason, int(end.Code))
			}
		}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = c.Close(end)
	})
	_, err = c.Subscribe(ctx, "news", &centrifuge.SubscribeOptions{Handler: centrifuge.Handler{
		Subscribed:  func(string, centrifuge.Subscribed) { say("up", "", 0) },
		Publication: func(_ string, p centrifuge.Publication) { say("got", unquote(p.Data), 0) },
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func unquote(b []byte) (s string) {
	_ = json.Unmarshal(b, &s)
	return s
}
