// Package finalizerslow writes down each handle that is not used any more.
package finalizerslow

import (
	"runtime"
	"time"
)

type handle struct {
	id   int
	data [200]byte
}

// says: finalizers become due faster than they run
func record(int) {
	time.Sleep(time.Millisecond) // LEAK: what a disk takes, by far too long for a finalizer of each of so many
}

func (h *handle) release() { record(h.id) }

func open(id int) *handle {
	h := &handle{id: id}
	runtime.SetFinalizer(h, (*handle).release)
	return h
}

// Handle answers one request.
func Handle(id int) {
	h := open(id)
	h.data[0] = 1
}
