// Package okcoupon caches the pages of a site with some thousands of them.
package okcoupon

import (
	"math/rand/v2"
	"sync"
)

var (
	mu    sync.RWMutex
	pages = map[int][]byte{}
)

func render(n int) []byte {
	b := make([]byte, 1000)
	b[0] = byte(n)
	return b
}

// Handle answers one request.
func Handle(id int) {
	n := rand.IntN(6000)
	mu.RLock()
	_, ok := pages[n]
	mu.RUnlock()
	if !ok {
		p := render(n)
		mu.Lock()
		pages[n] = p
		mu.Unlock()
	}
}
