// Package timer forgets requests after a day.
package timer

import (
	"fmt"
	"time"
)

type request struct {
	id   int
	body [256]byte
}

func forget(r *request) {
	fmt.Println("forget", r.id)
}

// Handle answers one request.
func Handle(id int) {
	r := &request{id: id}
	copy(r.body[:], "hello")
	time.AfterFunc(24*time.Hour, func() { forget(r) }) // LEAK: held until tomorrow
}
