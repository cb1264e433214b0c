// Package closure calls back when the configuration changes.
package closure

import "sync"

type config struct {
	mu       sync.Mutex
	onChange []func(string)
}

var current config

func (c *config) subscribe(f func(string)) {
	c.mu.Lock()
	c.onChange = append(c.onChange, f) // LEAK: there is no way to unsubscribe
	c.mu.Unlock()
}

type client struct {
	id     int
	buffer []byte
}

func (c *client) reload(name string) { c.buffer = append(c.buffer[:0], name...) }

// Handle answers one request.
func Handle(id int) {
	c := &client{id: id, buffer: make([]byte, 500)}
	current.subscribe(func(name string) { c.reload(name) })
}
