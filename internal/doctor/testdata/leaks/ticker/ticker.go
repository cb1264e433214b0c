// Package ticker reports the state of each connection now and then.
package ticker

import (
	"sync/atomic"
	"time"
)

var reports atomic.Int64

func report(id int) {
	t := time.NewTicker(500 * time.Millisecond)
	for range t.C { // LEAK: it has no end
		reports.Add(1)
	}
}

// Handle answers one request.
func Handle(id int) {
	go report(id)
}
