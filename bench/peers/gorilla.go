package main

import (
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

func anyOrigin(*http.Request) bool { return true }

// serveGorilla is the echo example of the library: zero sizes, so the two 4 KiB buffers of net/http
// live on with the connection, and so does the handler.
func serveGorilla(ln net.Listener) error {
	upgrader := websocket.Upgrader{CheckOrigin: anyOrigin}
	return serveHTTP(ln, func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // answered by Upgrade
		}
		defer conn.Close()
		for {
			typ, message, err := conn.ReadMessage()
			if err != nil {
				return
			}
			if err := conn.WriteMessage(typ, message); err != nil {
				return
			}
		}
	})
}

// serveGorillaPooled is what the library offers for many connections that are mostly idle: a small read
// buffer, a write buffer only while writing, and neither buffers nor handler of net/http kept.
func serveGorillaPooled(ln net.Listener) error {
	upgrader := websocket.Upgrader{
		CheckOrigin:     anyOrigin,
		ReadBufferSize:  1024, // not zero: the hijacked buffer is not used
		WriteBufferPool: &sync.Pool{},
	}
	return serveHTTP(ln, func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		go func() {
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
		}()
	})
}
