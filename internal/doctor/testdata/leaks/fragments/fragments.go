// Package fragments parses documents and keeps the title of each.
package fragments

import "sync"

type node struct {
	text [14]uint64
	next *node
}

type shelf struct {
	mu     sync.Mutex
	titles []*node
	at     int
}

var books = shelf{titles: make([]*node, 60_000)}

func parse(n int) *node {
	var first *node
	for range n {
		first = &node{next: first} // LEAK: each node that is kept holds a page of dead ones
	}
	return first
}

func (s *shelf) keep(n *node) {
	s.mu.Lock()
	s.titles[s.at%len(s.titles)] = n
	s.at++
	s.mu.Unlock()
}

// Handle answers one request.
func Handle(id int) {
	for range 20 {
		n := parse(72)
		n.next = nil
		books.keep(n)
	}
}
