// Package poolempty renders answers in pages that are used again.
package poolempty

import (
	"errors"
	"strconv"
	"sync"
)

type page struct {
	data [2048]byte
	used int
}

var pages = sync.Pool{New: func() any { return new(page) }}

func (p *page) write(text string) { p.used += copy(p.data[p.used:], text) }

// says: the pool has nothing to give
func render(id int) (size int, err error) {
	p := pages.Get().(*page) // LEAK: it goes back only where nothing came of it
	p.used = 0
	if id < 0 {
		pages.Put(p)
		return 0, errors.New("no such answer")
	}
	p.write("answer ")
	p.write(strconv.Itoa(id))
	return p.used, nil
}

// Handle answers one request.
func Handle(id int) {
	_, _ = render(id)
}
