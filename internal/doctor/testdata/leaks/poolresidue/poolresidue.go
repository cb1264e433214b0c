// Package poolresidue reuses the state of requests.
package poolresidue

import "sync"

type state struct {
	id    int
	notes []string
	attrs map[string]string
}

var states = sync.Pool{New: func() any { return &state{attrs: map[string]string{}} }}

func (s *state) note(text string) {
	s.notes = append(s.notes, text)
}

// Handle answers one request.
func Handle(id int) {
	s := states.Get().(*state)
	s.id = id
	s.note("began")
	s.note("looked up")
	s.note("answered")
	s.note("ended")
	s.note("counted")
	s.note("logged")
	if len(s.attrs) > 100 {
		clear(s.attrs)
	}
	states.Put(s) // LEAK: its notes go back with it
}
