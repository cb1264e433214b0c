package sys

import "errors"

// Interest is what a descriptor is watched for.
type Interest uint8

// The interests; error and hang-up are always reported. With Edge, readiness need be reported only when it
// begins (and at Add and Modify), and the peer's FIN is told as Ended: who then reads until less came than
// was asked for, or to the end where it is told, misses nothing and spares the kernel a look at each
// descriptor that it reported before. A poller may ignore Edge and report more often.
const (
	Readable Interest = 1 << iota
	Writable
	Edge
)

// Ready is what a descriptor was found to be ready for.
type Ready uint8

// Bits of Ready. Failed (error or hang-up) and Ended (the peer's FIN; only with Edge) come with ReadyRead
// set, so that the read that follows tells what it is.
const (
	ReadyRead Ready = 1 << iota
	ReadyWrite
	Failed
	Ended
)

// Key is what a caller stores with a descriptor and gets back with its readiness: a slot and the
// generation of the slot's user, so that an event for a descriptor that was closed and reused in the
// same batch is told apart.
type Key struct {
	Slot uint32
	Gen  uint32
}

// Event is one descriptor's readiness.
type Event struct {
	Key   Key
	Ready Ready
}

// WakeSlot is the Key.Slot that the pollers of this package use for their own wake-up descriptor. They
// swallow that event; no caller may use the value.
const WakeSlot = ^uint32(0)

// ErrUnsupported says that this system lacks what was asked for.
var ErrUnsupported = errors.New("not supported on this system")

// ErrWouldBlock is returned by Read, Write, Accept and Receive when the descriptor is not ready.
var ErrWouldBlock error = errWouldBlock{}

type errWouldBlock struct{}

func (errWouldBlock) Error() string   { return "operation would block" }
func (errWouldBlock) Timeout() bool   { return true }
func (errWouldBlock) Temporary() bool { return true }

// MaxPassed is the most bytes that travel with one descriptor through a chute.
const MaxPassed = 128 << 10
