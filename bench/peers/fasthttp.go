package main

import (
	"net"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"
)

func serveFasthttp(ln net.Listener) error {
	upgrader := websocket.FastHTTPUpgrader{
		CheckOrigin: func(*fasthttp.RequestCtx) bool { return true },
	}
	echo := func(conn *websocket.Conn) {
		defer conn.Close()
		for {
			typ, r, err := conn.NextReader()
			if err != nil {
				return
			}
			if err := echoMessage(r, func(b []byte) error { return conn.WriteMessage(typ, b) }); err != nil {
				return
			}
		}
	}
	s := &fasthttp.Server{
		Logger:  silent{},
		Handler: func(ctx *fasthttp.RequestCtx) { _ = upgrader.Upgrade(ctx, echo) }, // answers errors
	}
	return s.Serve(ln)
}

// silent drops what fasthttp would log of broken connections.
type silent struct{}

func (silent) Printf(string, ...any) {}
