// Package selectloop watches devices.
package selectloop

import "time"

type device struct {
	id       int
	commands chan string
	stop     chan struct{}
	last     time.Time
}

func (d *device) run() {
	for {
		select { // LEAK: neither a command nor a stop comes any more
		case c := <-d.commands:
			d.last = time.Now()
			_ = c
		case <-d.stop:
			return
		}
	}
}

// Handle answers one request.
func Handle(id int) {
	d := &device{id: id, commands: make(chan string, 1), stop: make(chan struct{})}
	go d.run()
	d.commands <- "hello"
}
