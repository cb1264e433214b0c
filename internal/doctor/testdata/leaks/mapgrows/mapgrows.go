// Package mapgrows knows who is here.
package mapgrows

import (
	"fmt"
	"sync"
	"time"
)

type session struct {
	id    string
	since time.Time
	data  []byte
}

type registry struct {
	mu       sync.Mutex
	sessions map[string]*session
}

var here = &registry{sessions: make(map[string]*session)}

func newSession(id int) *session {
	return &session{id: fmt.Sprintf("session-%08d", id), since: time.Now(), data: make([]byte, 300)}
}

func (r *registry) join(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions[s.id] = s // LEAK: nobody ever leaves
}

// Handle answers one request.
func Handle(id int) {
	s := newSession(id)
	here.join(s)
}
