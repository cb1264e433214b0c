package memengine

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/engine/enginetest"
)

// clock is a clock that tests move.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.at.Store(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

func TestEngine(t *testing.T) {
	c := newClock()
	enginetest.Run(t, enginetest.Options{
		New: func(_ *testing.T, nodes int) []engine.Engine {
			list := make([]engine.Engine, nodes)
			for i := range list {
				list[i] = New(&Options{Now: c.now})
			}
			return list
		},
		Advance: c.advance,
	})
}
