package profile_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	pprofile "github.com/google/pprof/profile"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/api"
	"github.com/longwire/longwire/internal/hook"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// subsystems are the labels of all goroutines, with the functions that they stand in.
func subsystems(t *testing.T) map[string]string {
	t.Helper()
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 0); err != nil {
		t.Fatal(err)
	}
	p, err := pprofile.Parse(&b)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for _, s := range p.Sample {
		var stack []string
		for _, l := range s.Location {
			for _, line := range l.Line {
				stack = append(stack, line.Function.Name)
			}
		}
		for _, label := range s.Label["subsystem"] {
			found[label] += strings.Join(stack, " ") + "\n"
		}
	}
	return found
}

// TestLabels holds a gateway in everything that it does, and has the goroutine profile tell its parts apart.
func TestLabels(t *testing.T) {
	release := make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = io.WriteString(w, `{"result":{"data":{}}}`)
	}))
	defer backend.Close()
	log := slog.New(slog.DiscardHandler)
	hooks, err := hook.New(hook.Options{RPC: hook.Endpoint{URL: backend.URL, Timeout: time.Minute}, MaxConcurrent: 4, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	wait := func() { <-release }
	slow := longwire.Endpoint{Path: "/slow", Blocking: true, OnMessage: func(longwire.Conn, longwire.Message) { wait() }}
	silent := longwire.Endpoint{Path: "/silent", Heartbeat: longwire.Heartbeat{Ping: time.Second, Timeout: 2 * time.Second}, OnClose: func(longwire.Conn, longwire.Cause) { wait() }}
	var g *longwire.Gateway
	g, err = longwire.New(longwire.Config{
		Addr: "127.0.0.1:0", MaxConns: 10, Loops: 2, MaxMemory: -1, Log: log, Hooks: hooks.Hooks(),
		Endpoints: []longwire.Endpoint{slow, silent, longwire.Centrifuge("/push")},
		Sessions:  longwire.Sessions{Insecure: true},
		HTTP:      api.New(api.Options{Gateway: func() api.Gateway { return g }, Insecure: true, Log: log}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}()
	var once sync.Once
	let := func() { once.Do(func() { close(release) }) }
	defer let()
	addr := g.Addr().String()
	dial := func(path string) *wstest.Client { return wstest.Dial(t, addr, path, ws.Dial{}) }
	dial("/silent") // its end comes by a timer
	dial("/slow").Send(ws.OpText, "work")
	dial("/push").Send(ws.OpText, `{"id":1,"connect":{}}`+"\n"+`{"id":2,"rpc":{"method":"m","data":{}}}`)
	// The API waits for the rest of a request.
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /api/info HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{")

	want := map[string]string{
		"loop":   "loop.(*Loop).run",
		"timer":  "loop.(*Loop).reap",
		"pool":   "longwire.(*pool).run",
		"hook":   "hook.(*Backend).call",
		"api":    "api.(*api).ServeHTTP",
		"http":   "net/http.(*Server).Serve",
		"log":    "longwire.(*closeLog).start",
		"engine": "memengine.(*Engine).run",
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		found := subsystems(t)
		lacking := ""
		for label, function := range want {
			if !strings.Contains(found[label], function) {
				lacking += " " + label
			}
		}
		if lacking == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no goroutine with the label of%s; there are %v", lacking, found)
		}
		time.Sleep(20 * time.Millisecond) // between looks at what other goroutines do
	}
}
