// Package chanrecv spreads the parts of a request over workers.
package chanrecv

import "sync/atomic"

var done atomic.Int64

func process(parts <-chan int) {
	for p := range parts { // LEAK: the channel is never closed
		done.Add(int64(p))
	}
}

// Handle answers one request.
func Handle(id int) {
	parts := make(chan int, 4)
	go process(parts)
	for i := range 4 {
		parts <- id + i
	}
}
