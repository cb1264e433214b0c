// Package okworkers starts workers as they are needed, up to a number.
package okworkers

import "sync"

const most = 64

var (
	jobs    = make(chan func())
	mu      sync.Mutex
	workers int
)

func worker() {
	for j := range jobs {
		j()
	}
}

func submit(j func()) {
	select {
	case jobs <- j:
		return
	default:
	}
	mu.Lock()
	if workers < most {
		workers++
		go worker()
	}
	mu.Unlock()
	jobs <- j
}

// Handle answers one request.
func Handle(id int) {
	submit(func() { _ = make([]byte, 100) })
}
