// Package okfinalizer counts the handles that are in use.
package okfinalizer

import (
	"runtime"
	"sync/atomic"
)

type handle struct {
	id   int
	data [200]byte
}

var inUse atomic.Int64

func (h *handle) release() { inUse.Add(-1) }

func open(id int) *handle {
	h := &handle{id: id}
	inUse.Add(1)
	runtime.SetFinalizer(h, (*handle).release)
	return h
}

// Handle answers one request.
func Handle(id int) {
	h := open(id)
	h.data[0] = 1
}
