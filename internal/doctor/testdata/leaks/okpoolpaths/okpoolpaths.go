// Package okpoolpaths renders answers in pages that are used again, and lets go of those that became too large.
package okpoolpaths

import (
	"errors"
	"strconv"
	"sync"
)

type page struct {
	data []byte
}

var pages = sync.Pool{New: func() any { return &page{data: make([]byte, 0, 2048)} }}

func take() *page {
	p := pages.Get().(*page)
	p.data = p.data[:0]
	return p
}

func (p *page) giveBack() {
	if cap(p.data) <= 4096 {
		pages.Put(p)
	}
}

func render(id int) (size int, err error) {
	p := take()
	defer p.giveBack()
	if id < 0 {
		return 0, errors.New("no such answer")
	}
	p.data = append(p.data, "answer "...)
	p.data = strconv.AppendInt(p.data, int64(id), 10)
	if id%5000 == 0 {
		p.data = append(p.data, make([]byte, 5000)...) // a long one
	}
	return len(p.data), nil
}

// Handle answers one request.
func Handle(id int) {
	_, _ = render(id)
}
