// Package lockchan tells listeners of changes.
package lockchan

import "sync"

type hub struct {
	mu        sync.RWMutex
	listeners []chan string
	last      string
}

var h = &hub{listeners: []chan string{make(chan string, 8)}}

func (h *hub) publish(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = s
	for _, l := range h.listeners {
		l <- s // LEAK: a listener that is full stops everybody, since the lock is held
	}
}

func (h *hub) latest() string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.last
}

// Handle answers one request.
func Handle(id int) {
	if id%100 == 0 {
		go h.publish("change")
	}
	go func() { _ = h.latest() }()
}
