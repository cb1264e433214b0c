// Chat sends what one browser writes to all. Open http://localhost:8000 in two windows.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"net/http"
	"os/signal"
	"strings"
	"syscall"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/ws"
)

//go:embed page.html
var page []byte

// line is what browsers get, as JSON.
type line struct {
	From string `json:"from"`
	Text string `json:"text"`
}

// chat is one room for all.
type chat struct{ gateway *longwire.Gateway }

// send broadcasts a line. It may be called on a loop: it waits for nobody.
func (c *chat) send(from longwire.Conn, text string) {
	b, err := json.Marshal(line{From: from.ID(), Text: text})
	if err == nil {
		err = c.gateway.Broadcast("/chat", ws.OpText, b)
	}
	if err != nil {
		log.Print(err)
	}
}

// newGateway makes a gateway that serves the room and its page on addr.
func newGateway(addr string) (*longwire.Gateway, error) {
	room := new(chat)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	g, err := longwire.New(longwire.Config{
		Addr: addr,
		HTTP: mux,
		Endpoints: []longwire.Endpoint{{
			Path:       "/chat",
			MaxMessage: 4 << 10,
			OnOpen:     func(c longwire.Conn, _ *ws.Request) { room.send(c, "came") },
			OnMessage: func(c longwire.Conn, m longwire.Message) {
				if text := strings.TrimSpace(string(m.Payload)); m.Op == ws.OpText && text != "" {
					room.send(c, text)
				}
			},
			OnClose: func(c longwire.Conn, cause longwire.Cause) { room.send(c, "left: "+cause.Kind.String()) },
		}},
	})
	room.gateway = g
	return g, err
}

func run() error {
	addr := flag.String("addr", "localhost:8000", "`address` to listen on")
	flag.Parse()
	if flag.NArg() > 0 {
		return errors.New("chat takes no arguments")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	g, err := newGateway(*addr)
	if err != nil {
		return err
	}
	return g.ListenAndServe(ctx)
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
