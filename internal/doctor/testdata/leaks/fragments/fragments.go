// Package fragments imports a catalogue and keeps the important entries.
package fragments

import "sync"

type entry struct {
	id    int
	score int
	text  [14]uint64
}

type catalogue struct {
	mu        sync.RWMutex
	important []*entry
}

var current catalogue

func parse(n int) []*entry {
	var all []*entry
	for i := range n {
		all = append(all, &entry{id: i, score: i % 32})
	}
	return all
}

func (c *catalogue) load(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range parse(n) {
		if e.score == 31 {
			c.important = append(c.important, e) // LEAK: each entry that is kept holds a page of dead ones
		}
	}
}

func (c *catalogue) best() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.important)
}

var once sync.Once

// Handle answers one request.
func Handle(id int) {
	once.Do(func() { current.load(300_000) })
	current.best()
}
