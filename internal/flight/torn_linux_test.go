package flight

import (
	"testing"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// TestTornEventsAreNotRead writes events whose every part says the same number, and reads meanwhile.
func TestTornEventsAreNotRead(t *testing.T) {
	r, err := Open(Options{Tracks: 1, Bytes: 64 * EventSize, Map: sys.Map, Unmap: sys.Unmap})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	k := r.Track(0)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for i := range 200_000 {
			n := i%60_000 + 1
			k.Ended(at(time.Duration(n)), uint64(n), &Ended{Queued: uint32(n), Code: uint16(n), Pinged: -1})
		}
	}()
	seen := 0
	for done := false; !done && !t.Failed(); {
		select {
		case <-over:
			done = true // once more, so that something is read for certain
		default:
		}
		r.each(func(_ bool, s *slot) {
			seen++
			e := s.event(nil)
			n := int(e.Conn)
			if e.Kind != KindEnded || int(e.Ended.Queued) != n || int(e.Code) != n || !e.Time.Equal(at(time.Duration(n))) {
				t.Errorf("torn: %+v %+v", e, e.Ended)
			}
		})
	}
	<-over
	if seen == 0 {
		t.Error("nothing was read")
	}
}
