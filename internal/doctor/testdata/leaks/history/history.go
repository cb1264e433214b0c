// Package history remembers what was said.
package history

import (
	"container/list"
	"sync"
)

type message struct {
	from int
	text string
}

type room struct {
	mu  sync.Mutex
	log *list.List
}

var lobby = room{log: list.New()}

func (r *room) say(m message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log.PushBack(m) // LEAK: it is never shortened
}

// Handle answers one request.
func Handle(id int) {
	lobby.say(message{id, "hello"})
}
