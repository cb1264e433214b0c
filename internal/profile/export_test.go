package profile

import (
	"context"
	"time"
)

// Hasten has captures profile the processor for d instead of seconds, and, unless next is nil, has it give the looks.
func (w *Watch) Hasten(d time.Duration, next func(context.Context) (Look, bool)) {
	w.profileFor = d
	if next != nil {
		w.next = next
	}
}
