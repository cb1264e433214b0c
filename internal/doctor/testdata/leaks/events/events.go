// Package events counts what happens, by second.
package events

import "time"

type event struct {
	at   time.Time
	kind string
	id   int
	tags [6]int64
}

type counter struct {
	events []event
}

var all counter

func (c *counter) add(kind string, id int) {
	c.events = append(c.events, event{at: time.Now(), kind: kind, id: id}) // LEAK: every event since the start
}

func (c *counter) lastSecond() (n int) {
	for i := len(c.events) - 1; i >= 0 && time.Since(c.events[i].at) < time.Second && n < 100; i-- {
		n++
	}
	return n
}

// Handle answers one request.
func Handle(id int) {
	all.add("request", id)
	all.lastSecond()
}
