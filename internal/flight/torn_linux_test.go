package flight

import (
	"testing"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// mapped is memory as the gateway gives it: outside the Go heap, where readers and the writer may meet.
func mapped(t *testing.T, n int) []byte {
	t.Helper()
	b, err := sys.Map(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sys.Unmap(b) })
	return b
}

// TestTornEventsAreNotRead writes events whose every part says the same number, and reads meanwhile.
func TestTornEventsAreNotRead(t *testing.T) {
	k := &Track{ring: mapped(t, 64*EventSize)}
	r := &Recorder{tracks: []*Track{k}}
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
			e := s.event()
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
