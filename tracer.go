package longwire

import (
	"encoding/binary"
	"time"

	"github.com/longwire/longwire/internal/flight"
	"github.com/longwire/longwire/internal/loop"
)

// Tracer is told of the gateway's sockets, and knows how the kernel saw them end, which it tells by Gateway.KernelEnded. The
// command's --trace has one.
type Tracer interface {
	// Descriptors have to be in the descriptor table of every thread that calls the others, under the same numbers.
	Descriptors() []int
	// TrackListener has the connections traced that a listener accepts from now on. It is called by Start.
	TrackListener(fd int) error
	// Tag names a connection whose handshake was answered. It is called on a loop: it must not block, nor allocate.
	Tag(fd int, id [16]byte) error
	// Verdict says in a few words what the number of a verdict means.
	Verdict(n uint8) string
}

// ClosingTracer is a Tracer that knows little by itself, and has to be told what the gateway saw of each connection.
type ClosingTracer interface {
	Tracer
	// Closing tells of the end of a connection that Tag named, right before its socket is closed. It is called on a loop: it must
	// not block.
	Closing(fd int, id [16]byte, seen SocketEnd)
}

// SocketEnd is what the gateway saw of a connection's end.
type SocketEnd struct {
	Err     error // of the read or write that failed; nil if none did
	EOF     bool  // the end of the client's stream was read before we closed
	Aborted bool  // the socket is closed with a reset
}

// KernelEnd is how the kernel saw a connection end.
type KernelEnd struct {
	Verdict     uint8 // as Tracer.Verdict knows it
	Level       uint8 // how it was seen: 1 by our own socket (errno), 2 by socket diagnosis (diag), 3 by probes (bpf)
	Err         uint8 // errno of the socket
	Retransmits uint16
	Unacked     uint32 // bytes that were never acknowledged
	RTT         time.Duration
	Path        uint64 // the last states of TCP, 4 bits each, the newest lowest
}

// kernelLevels are the names of KernelEnd.Level.
var kernelLevels = [...]string{"unknown", "errno", "diag", "bpf"}

// tagMark tells our tags from others'.
const tagMark = 0x6c6f6e6777697265

// tag is what the tracer calls a connection.
func tag(id uint64) (t [16]byte) {
	binary.LittleEndian.PutUint64(t[:], id)
	binary.LittleEndian.PutUint64(t[8:], tagMark)
	return t
}

// KernelEnded takes what the tracer knows of the end of the connection that it was given by Tag. One goroutine at a time
// may call it, also after Close, when it does nothing.
func (g *Gateway) KernelEnded(id [16]byte, at time.Time, e KernelEnd) {
	if binary.LittleEndian.Uint64(id[8:]) != tagMark {
		return
	}
	conn := binary.LittleEndian.Uint64(id[:])
	g.noteKernel(conn, at, &e)
	if g.recorder == nil {
		return
	}
	g.recorder.Kernel(len(g.loops.Loops()), at, conn, &flight.Kernel{
		Verdict: e.Verdict, Level: e.Level, Err: e.Err, Retransmits: e.Retransmits, Unacked: e.Unacked, RTT: e.RTT, Path: e.Path,
	})
}

// tagConn names conn i for the tracer.
func (f *front) tagConn(i uint32) {
	if t := f.g.config.Tracer; t != nil {
		if fd := f.l.Descriptor(i); fd >= 0 && t.Tag(int(fd), tag(uint64(f.l.ID(i)))) != nil {
			f.count.untraced.Add(1)
		}
	}
}

// closing tells the tracer of the end of conn i.
func (f *front) closing(t ClosingTracer, i uint32, e loop.End, abort bool) {
	if fd := f.l.Descriptor(i); fd >= 0 && f.conn[i].flags&stateUpgraded != 0 {
		t.Closing(int(fd), tag(uint64(f.l.ID(i))), SocketEnd{Err: e.Err, EOF: e.Kind == loop.EndEOF, Aborted: abort})
	}
}

// trackListeners has the tracer follow what the listeners accept.
func (g *Gateway) trackListeners() {
	if g.config.Tracer == nil {
		return
	}
	for _, fd := range g.loops.Listeners() {
		if err := g.config.Tracer.TrackListener(int(fd)); err != nil {
			g.log.Warn("connections are not traced", "error", err)
			return
		}
	}
}
