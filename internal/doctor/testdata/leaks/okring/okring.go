// Package okring keeps the last lines of a log.
package okring

import "fmt"

type ring struct {
	lines [4096]string
	next  int
}

var last ring

func (r *ring) add(s string) {
	r.lines[r.next%len(r.lines)] = s
	r.next++
}

// Handle answers one request.
func Handle(id int) {
	last.add(fmt.Sprintf("request %d answered in %d microseconds, with nothing to say about it that would matter", id, id%1000))
}
