package profile

import (
	"fmt"
	"time"
)

// Reason is why a capture was taken.
type Reason struct {
	Trigger string `json:"trigger"` // rss, gc_pause or loop
	Text    string `json:"text"`    // in a sentence
	Before  uint64 `json:"before"`  // resident bytes where the jump began; 0 with other triggers
	Found   uint64 `json:"found"`   // resident bytes, or nanoseconds
	Limit   uint64 `json:"limit"`   // the resident bytes, or nanoseconds, beyond which a capture is taken
	Skipped int    `json:"skipped"` // looks since the last capture that had a reason too, but came too soon after it
}

// The triggers.
const (
	triggerRSS   = "rss"
	triggerPause = "gc_pause"
	triggerLoop  = "loop"
)

const (
	jumpWithin = time.Minute
	leastJump  = 64 << 20 // bytes: below that a share of little memory is no news
)

// trigger decides when a capture is due, by looks in the order of time. It is for one goroutine.
type trigger struct {
	jump  float64       // share of the resident memory; 0: not watched
	pause time.Duration // 0: not watched

	past []Look // of the last minute
}

// judge takes a look, and reports why a capture is due, if one is.
func (t *trigger) judge(l Look) (Reason, bool) {
	n := 0
	for _, p := range t.past {
		// A clock that was set back leaves looks that are not over: they go too.
		if d := l.Time.Sub(p.Time); d >= 0 && d <= jumpWithin {
			t.past[n] = p
			n++
		}
	}
	t.past = t.past[:n]
	if l.RSS > 0 {
		t.past = append(t.past, l)
	}
	switch {
	case t.pause > 0 && l.GCPause >= t.pause:
		return Reason{Trigger: triggerPause, Found: uint64(l.GCPause), Limit: uint64(t.pause),
			Text: fmt.Sprintf("the collector stopped the world for %v or longer; the limit is %v", l.GCPause.Round(time.Microsecond), t.pause)}, true
	case t.pause > 0 && l.Iteration >= t.pause:
		return Reason{Trigger: triggerLoop, Found: uint64(l.Iteration), Limit: uint64(t.pause),
			Text: fmt.Sprintf("an iteration of a loop took %v or longer; the limit is %v", l.Iteration.Round(time.Microsecond), t.pause)}, true
	}
	if t.jump == 0 || len(t.past) == 0 || l.RSS == 0 {
		return Reason{}, false
	}
	low := t.past[0]
	for _, p := range t.past {
		if p.RSS < low.RSS {
			low = p
		}
	}
	limit := low.RSS + max(leastJump, uint64(t.jump*float64(low.RSS)))
	if l.RSS < limit {
		return Reason{}, false
	}
	return Reason{Trigger: triggerRSS, Before: low.RSS, Found: l.RSS, Limit: limit,
		Text: fmt.Sprintf("resident memory grew from %d to %d MB within %v", low.RSS/1e6, l.RSS/1e6, l.Time.Sub(low.Time).Round(time.Second))}, true
}

// forget begins anew: what grew until now was captured.
func (t *trigger) forget() { t.past = t.past[:0] }
