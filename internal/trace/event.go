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

// Names are what a connection's server calls it. The kernel does not know them: whoever handles events fills them in.
type Names struct {
	Client  string `json:"client,omitempty"`  // the session's id, or that of the connection
	User    string `json:"user,omitempty"`    // empty: it has none, as the others
	Request string `json:"request,omitempty"` // X-Request-ID of the handshake
	Trace   string `json:"trace,omitempty"`   // id of the trace that the handshake belongs to
}

// each calls f for those that there are; a nil Names has none.
func (n *Names) each(f func(name, value string)) {
	if n == nil {
		return
	}
	for _, x := range [...]struct{ name, value string }{{"client", n.Client}, {"user", n.User}, {"request", n.Request}, {"trace", n.Trace}} {
		if x.value != "" {
			f(x.name, x.value)
		}
	}
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
	Life        *Life  // with KindEnded, else nil
	Names       *Names // nil: they are not known
}
