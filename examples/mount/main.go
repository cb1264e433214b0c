// Mount puts a gateway into an existing net/http server: one path of its mux is a WebSocket endpoint whose
// connections leave net/http at the upgrade.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/longwire/longwire"
)

// newGateway makes a gateway that does not listen itself.
func newGateway() (*longwire.Gateway, error) {
	return longwire.New(longwire.Config{
		MaxConns: 10_000,
		Endpoints: []longwire.Endpoint{{
			Path:      "/live",
			OnMessage: func(_ longwire.Conn, m longwire.Message) { m.Reply(m.Op, m.Payload) },
		}},
	})
}

// routes is the application: it knows the gateway as an http.Handler.
func routes(g *longwire.Gateway) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /live", g.Handler())
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%d connections\n", g.Stats().Conns)
	})
	return mux
}

func run() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	g, err := newGateway()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	srv := &http.Server{Addr: "localhost:8000", Handler: routes(g), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// First no new requests, then the connections, which net/http has forgotten.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return errors.Join(srv.Shutdown(ending), g.Drain(ending, 5*time.Second))
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
