// Package okburst has a rush of work, and then little.
package okburst

import "time"

func work(id int, hold time.Duration) {
	b := make([]byte, 2000)
	time.Sleep(hold)
	b[0] = byte(id)
}

// Handle answers one request.
func Handle(id int) {
	if id%15_000 < 5_000 {
		go work(id, time.Second)
	}
}
