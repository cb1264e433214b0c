package loop

import (
	"net/netip"
)

// Handler gives a loop's bytes a meaning. A group makes one for each loop; its methods are called on
// that loop's thread, one at a time, and must not block. Conns are named by their slot index, which is
// valid from Opened (or Dial) until Closed returns.
type Handler interface {
	// Admit is asked about each accepted connection before anything is kept for it. A non-empty refusal is
	// sent as it is, and the connection ends without any other call. full tells that no loop has a
	// descriptor left: only a refusal will do.
	Admit(peer netip.AddrPort, full bool) (refusal []byte)
	// Opened tells that conn i entered the loop: accepted, dialled or adopted.
	Opened(i uint32, o Opening)
	// Data has bytes of conn i, at most a read buffer. b belongs to the handler (it may be changed) until
	// Data returns; all of it counts as consumed.
	Data(i uint32, b []byte)
	// Timer tells that conn i's timer (SetTimer) is due. It is not set any more.
	Timer(i uint32)
	// Drained tells that all that waited for conn i's full socket is written.
	Drained(i uint32)
	// Closed tells that conn i is over; it is called once for each Opened and each Dial, and nothing is
	// called for i afterwards until the slot is used again.
	Closed(i uint32, e End)
	// Post has a record that Loop.Post or Group.Post left. The conn may be gone: see Loop.Find.
	Post(id ID, kind uint8, payload []byte)
	// Lost tells that a conn that was passed to this loop with data never came in, for want of a descriptor or
	// a slot. data is valid during the call.
	Lost(data []byte)
	// Emptied tells that the last conn has left: what is kept for conns can be given back.
	Emptied()
	// Stopped tells that the loop ends; no conn is left.
	Stopped()
}

// How tells how a conn entered a loop.
type How uint8

// The ways in.
const (
	Accepted How = iota
	Connected
	Adopted
)

// Opening is what is known about a conn that enters.
type Opening struct {
	How  How
	Peer netip.AddrPort // Accepted only
	Data []byte         // Adopted: what came with the descriptor; valid during Opened
}

// EndKind tells how a conn ended, as far as bytes go.
type EndKind uint8

// The kinds of end.
const (
	EndLocal   EndKind = iota // Finish, Drop or Abort
	EndEOF                    // the peer sent its FIN first
	EndError                  // the kernel reported Err
	EndPassed                 // the descriptor went elsewhere
	EndStopped                // the loop ended under it
)

// End is how a conn ended.
type End struct {
	Kind EndKind
	Err  error // EndError: syscall.Errno where the kernel gave one
}
