// Command gorilla serves the plain protocol's ping with github.com/gorilla/websocket: /ws answers pings by JSON and
// echoes the rest, /drain goes away with advice, and /silent reads and says nothing. It prints its address. The tests
// build it in the module interop, which has the dependency.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"

	"github.com/gorilla/websocket"
)

func main() {
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	serve := func(path string, f func(c *websocket.Conn, b []byte) error) {
		http.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			c, err := up.Upgrade(w, r, nil)
			if err != nil {
				return
			}
			defer c.Close()
			for {
				_, b, err := c.ReadMessage()
				if err != nil {
					return
				}
				if err := f(c, b); err != nil {
					return
				}
			}
		})
	}
	serve("/ws", func(c *websocket.Conn, b []byte) error {
		var m struct {
			Type string          `json:"type"`
			TS   json.RawMessage `json:"ts"`
		}
		if json.Unmarshal(b, &m) == nil && m.Type == "ping" {
			b = fmt.Appendf(nil, `{"type":"pong","ts":%s}`, m.TS)
		}
		return c.WriteMessage(websocket.TextMessage, b)
	})
	serve("/drain", func(c *websocket.Conn, _ []byte) error {
		return c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseServiceRestart, "retry after 1 s"))
	})
	serve("/silent", func(*websocket.Conn, []byte) error { return nil })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Addr())
	log.Fatal(http.Serve(l, nil))
}
