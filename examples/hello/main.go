// Hello is the smallest gateway of one's own: it answers every message with a greeting.
package main

import (
	"context"
	"log"
	"os/signal"
	"syscall"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/ws"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	g, err := longwire.New(longwire.Config{
		Addr: "localhost:8000",
		Endpoints: []longwire.Endpoint{{
			Path: "/hello",
			OnMessage: func(c longwire.Conn, m longwire.Message) {
				m.Reply(ws.OpText, append([]byte("hello, "), m.Payload...))
			},
			OnClose: func(c longwire.Conn, cause longwire.Cause) {
				log.Println(c.ID(), cause)
			},
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := g.ListenAndServe(ctx); err != nil { // drains when ctx ends
		log.Fatal(err)
	}
}
