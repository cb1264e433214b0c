package main

import (
	"context"
	"net"
	"net/http"

	"github.com/coder/websocket"
)

// serveCoder reads in the handler, as the library's examples do, but into pooled buffers: its Read makes
// a new one for each message.
func serveCoder(ln net.Listener) error {
	options := &websocket.AcceptOptions{
		InsecureSkipVerify: true, // any origin
		CompressionMode:    websocket.CompressionDisabled,
	}
	return serveHTTP(ln, func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, options)
		if err != nil {
			return // answered by Accept
		}
		defer conn.CloseNow()
		conn.SetReadLimit(-1) // the default is 32 KiB
		ctx := context.Background()
		for {
			typ, r, err := conn.Reader(ctx)
			if err != nil {
				return
			}
			if err := echoMessage(r, func(b []byte) error { return conn.Write(ctx, typ, b) }); err != nil {
				return
			}
		}
	})
}
