package main

import (
	"net"
	"net/http"

	"github.com/lxzan/gws"
)

// gwsEcho echoes in the goroutine that reads.
type gwsEcho struct{ gws.BuiltinEventHandler }

// OnPing is not the built-in one, whose pong is always empty.
func (gwsEcho) OnPing(conn *gws.Conn, payload []byte) { _ = conn.WritePong(payload) }

func (gwsEcho) OnMessage(conn *gws.Conn, message *gws.Message) {
	defer message.Close()
	_ = conn.WriteMessage(message.Opcode, message.Bytes())
}

// serveGws leaves the handler of net/http, as the library advises, so that the request can be freed.
func serveGws(ln net.Listener) error {
	upgrader := gws.NewUpgrader(gwsEcho{}, &gws.ServerOption{})
	return serveHTTP(ln, func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r)
		if err != nil {
			return // answered by Upgrade
		}
		go conn.ReadLoop()
	})
}
