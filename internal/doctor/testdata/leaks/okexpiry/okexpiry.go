// Package okexpiry keeps sessions for a second.
package okexpiry

import (
	"sync"
	"time"
)

type session struct {
	id   int
	data [300]byte
}

var (
	mu       sync.Mutex
	sessions = map[int]*session{}
)

func end(id int) {
	mu.Lock()
	delete(sessions, id)
	mu.Unlock()
}

// Handle answers one request.
func Handle(id int) {
	mu.Lock()
	sessions[id] = &session{id: id}
	mu.Unlock()
	time.AfterFunc(time.Second, func() { end(id) })
}
