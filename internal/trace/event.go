package trace

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// Kind is what happened.
type Kind uint8

// The kinds. All but KindEnded are told only with Options.Steps.
const (
	// KindState: the connection went From one state To another. At LevelDiag as far as it was looked at.
	KindState Kind = 1 + iota
	// KindRetransmit: a segment was sent anew; Event.Retransmits counts them.
	KindRetransmit
	// KindRSTReceived: an RST came.
	KindRSTReceived
	// KindRSTSent: an RST was sent; Event.ResetReason says why.
	KindRSTSent
	// KindError: the socket has the error Event.Err.
	KindError
	// KindEnded: the connection is over; Event.Life is its record. It comes once for a connection.
	KindEnded

	kinds
)

var kindNames = [kinds]string{
	KindState:       "state",
	KindRetransmit:  "retransmit",
	KindRSTReceived: "rst_received",
	KindRSTSent:     "rst_sent",
	KindError:       "error",
	KindEnded:       "ended",
}

// String is the kind as JSON shows it.
func (k Kind) String() string {
	if k >= kinds || kindNames[k] == "" {
		return "unknown"
	}
	return kindNames[k]
}

// Event is one thing that happened to a connection. It is lent to the handler until that returns, its Life too.
type Event struct {
	Kind        Kind
	Time        time.Time
	Session     [16]byte // what Tag or Closing called the connection; zero if neither did
	Cookie      uint64
	Local       netip.AddrPort
	Remote      netip.AddrPort
	From, To    sys.SocketState
	Retransmits uint32
	ResetReason string
	Err         syscall.Errno
	Life        *Life // with KindEnded, else nil
}
