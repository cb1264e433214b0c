package fleet

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/longwire/longwire/internal/loop"
)

// counts is what one crew counts. Its loop writes, anybody reads.
type counts struct {
	dialled  atomic.Int64
	missing  atomic.Int64 // that are wanted and not yet dialled
	pending  atomic.Int64
	opened   atomic.Int64
	open     atomic.Int64
	closed   atomic.Int64 // because we wanted it, or in good order; those that were given up before they stood included
	sent     atomic.Int64
	received atomic.Int64
	bytesIn  atomic.Int64
	pings    atomic.Int64 // of the server

	mu     sync.Mutex
	failed map[string]int64 // guarded by mu: before it stood, by reason
	lost   map[string]int64 // guarded by mu: after it stood, not by us, by reason
}

// Counts is a snapshot of a fleet.
type Counts struct {
	Dialled  int64            `json:"dialled"`
	Pending  int64            `json:"pending"`
	Opened   int64            `json:"connected"`
	Open     int64            `json:"open"`
	Closed   int64            `json:"closed"`
	Failed   map[string]int64 `json:"failed"`
	Lost     map[string]int64 `json:"lost"`
	Sent     int64            `json:"sent"`
	Received int64            `json:"received"`
	BytesIn  int64            `json:"bytes_in"`
	Pings    int64            `json:"pings_received"`
}

// Failures is the sum of Failed.
func (c Counts) Failures() int64 { return sum(c.Failed) }

// Losses is the sum of Lost.
func (c Counts) Losses() int64 { return sum(c.Lost) }

func sum(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// Counts is what the fleet did until now.
func (f *Fleet) Counts() Counts {
	s := Counts{Failed: make(map[string]int64), Lost: make(map[string]int64)}
	for i := range f.counts {
		k := &f.counts[i]
		s.Dialled += k.dialled.Load()
		s.Pending += k.pending.Load()
		s.Opened += k.opened.Load()
		s.Open += k.open.Load()
		s.Closed += k.closed.Load()
		s.Sent += k.sent.Load()
		s.Received += k.received.Load()
		s.BytesIn += k.bytesIn.Load()
		s.Pings += k.pings.Load()
		k.mu.Lock()
		for r, n := range k.failed {
			s.Failed[r] += n
		}
		for r, n := range k.lost {
			s.Lost[r] += n
		}
		k.mu.Unlock()
	}
	return s
}

func (k *counts) note(m *map[string]int64, reason string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if *m == nil {
		*m = make(map[string]int64)
	}
	(*m)[reason]++
}

// reason is a short stable word for how a conn ended.
func reason(e loop.End) string {
	switch e.Kind {
	case loop.EndEOF:
		return "fin"
	case loop.EndError:
		return errorReason(e.Err)
	case loop.EndStopped:
		return "stopped"
	}
	return "local"
}

func errorReason(err error) string {
	var hs *handshakeError
	if errors.As(err, &hs) {
		return hs.reason()
	}
	var errno syscall.Errno
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "connect_timeout"
	case isAlert(err):
		return "tls_alert"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "tls_cut" // the stream ended within a record
	case !errors.As(err, &errno):
		return "error"
	}
	switch errno {
	case syscall.ECONNREFUSED:
		return "refused"
	case syscall.ECONNRESET, syscall.EPIPE:
		return "reset"
	case syscall.ETIMEDOUT:
		return "kernel_timeout"
	case syscall.EADDRNOTAVAIL:
		return "ports_exhausted"
	case syscall.EADDRINUSE:
		return "port_in_use"
	case syscall.EMFILE, syscall.ENFILE:
		return "descriptors"
	case syscall.ENETUNREACH, syscall.EHOSTUNREACH:
		return "unreachable"
	}
	return errno.Error()
}
