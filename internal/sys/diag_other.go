//go:build !linux

package sys

// Diag is not there on this system.
type Diag struct{}

// OpenDiag answers ErrUnsupported on this system.
func OpenDiag() (*Diag, error) { return nil, ErrUnsupported }

// Close does nothing.
func (*Diag) Close() error { return nil }

// Listeners answers ErrUnsupported on this system.
func (*Diag) Listeners(uint16) ([]Listener, error) { return nil, ErrUnsupported }

// States answers ErrUnsupported on this system.
func (*Diag) States(_, _ uint16) (SocketCounts, error) { return SocketCounts{}, ErrUnsupported }
