package fleet

import (
	"testing"
	"unsafe"
)

// TestSizes bounds what a conn costs the client's side in tables, with all that a Config can ask for but TLS: what the
// kernel holds comes on top.
func TestSizes(t *testing.T) {
	if memberSize > 16 {
		t.Errorf("a member is %d bytes, want 16", memberSize)
	}
	var w crew
	const loopSlot = 28 // bytes of a loop's own slot
	bySlot := loopSlot + memberSize + int(unsafe.Sizeof(w.number[0])) + int(unsafe.Sizeof(w.paid[0]))
	byClient := int(unsafe.Sizeof(w.slot[0]) + unsafe.Sizeof(w.free[0]))
	// With Refill there are two slots a client, so that conns may linger.
	if n := 2*bySlot + byClient; n > 150 {
		t.Errorf("%d bytes for each conn, want at most 150", n)
	}
}
