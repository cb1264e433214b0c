// Package ctxwait refreshes what a request asked for until its context ends.
package ctxwait

import (
	"context"
	"sync/atomic"
)

var running atomic.Int64

func refresh(ctx context.Context, id int) {
	running.Add(1)
	defer running.Add(-1)
	<-ctx.Done()
}

// Handle answers one request.
func Handle(id int) {
	ctx, cancel := context.WithCancel(context.Background()) // LEAK: never cancelled
	_ = cancel
	go refresh(ctx, id)
}
