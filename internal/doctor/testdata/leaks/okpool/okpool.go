// Package okpool reuses large buffers.
package okpool

import (
	"bytes"
	"fmt"
	"sync"
)

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Handle answers one request.
func Handle(id int) {
	b := buffers.Get().(*bytes.Buffer)
	b.Reset()
	for i := range 20 {
		fmt.Fprintf(b, "line %d of %d\n", i, id)
	}
	buffers.Put(b)
}
