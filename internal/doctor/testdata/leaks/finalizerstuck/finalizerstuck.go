// Package finalizerstuck tells a server when a handle is not used any more.
package finalizerstuck

import "runtime"

type handle struct {
	id   int
	data [400]byte
}

var released = make(chan int, 16)

func newHandle(id int) *handle {
	h := &handle{id: id}
	runtime.SetFinalizer(h, func(h *handle) {
		released <- h.id // LEAK: nobody receives, and no other finalizer runs
	})
	return h
}

// Handle answers one request.
func Handle(id int) {
	h := newHandle(id)
	h.data[0] = 1
}
