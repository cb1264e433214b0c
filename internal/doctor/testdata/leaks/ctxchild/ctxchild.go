// Package ctxchild gives each request a time limit.
package ctxchild

import (
	"context"
	"time"
)

var root, stop = context.WithCancel(context.Background())

func query(ctx context.Context, id int) error {
	return ctx.Err()
}

// Stop ends everything.
func Stop() { stop() }

// Handle answers one request.
func Handle(id int) {
	ctx, _ := context.WithTimeout(root, time.Hour) // LEAK: its parent holds it for an hour
	_ = query(ctx, id)
}
