// Package okcontended has many goroutines share a counter behind a lock, each for a moment.
package okcontended

import (
	"sync"
	"time"
)

type counter struct {
	mu sync.Mutex
	n  map[int]int
}

var (
	once  sync.Once
	total = counter{n: map[int]int{}}
)

func (c *counter) add(k int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[k%64]++
}

func (c *counter) work(k int) {
	t := time.NewTicker(2 * time.Millisecond)
	defer t.Stop()
	for range t.C {
		for range 20 {
			c.add(k)
		}
	}
}

// Handle counts.
func Handle(i int) {
	once.Do(func() {
		for k := range 40 {
			go total.work(k)
		}
	})
	total.add(i)
}
