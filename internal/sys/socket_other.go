//go:build !linux

package sys

import (
	"os"
	"time"
)

// SocketCookie answers ErrUnsupported on this system.
func SocketCookie(int) (uint64, error) { return 0, ErrUnsupported }

// SocketInfo answers ErrUnsupported on this system.
func SocketInfo(int) (TCPInfo, error) { return TCPInfo{}, ErrUnsupported }

// IsMPTCP is false on this system.
func IsMPTCP(int) bool { return false }

// UnreadBytes answers ErrUnsupported on this system.
func UnreadBytes(int) (int, error) { return 0, ErrUnsupported }

// Sockets answers ErrUnsupported on this system.
func (*Diag) Sockets(uint16, func(Socket)) error { return ErrUnsupported }

// Destroyed is not there on this system.
type Destroyed struct{}

// OpenDestroyed answers ErrUnsupported on this system.
func OpenDestroyed() (*Destroyed, error) { return nil, ErrUnsupported }

// Read answers ErrUnsupported on this system.
func (*Destroyed) Read(time.Time, func(Socket)) (bool, error) { return false, ErrUnsupported }

// Close does nothing.
func (*Destroyed) Close() error { return nil }

// Monotonic is 0 on this system.
func Monotonic() time.Duration { return 0 }

// PutSocketStorage answers ErrUnsupported on this system.
func PutSocketStorage(_, _ int, _ []byte) error { return ErrUnsupported }

// GetSocketStorage answers ErrUnsupported on this system.
func GetSocketStorage(_, _ int, _ []byte) error { return ErrUnsupported }

// DropCapabilities answers ErrUnsupported on this system.
func DropCapabilities() error { return ErrUnsupported }

// ClearCapabilities answers ErrUnsupported on this system.
func ClearCapabilities() error { return ErrUnsupported }

// WithoutCapabilities answers ErrUnsupported on this system.
func WithoutCapabilities(func() error) error { return ErrUnsupported }

// Capabilities are none on this system.
func Capabilities() (uint64, error) { return 0, nil }

// LockFile answers ErrUnsupported on this system.
func LockFile(*os.File) error { return ErrUnsupported }

// MapFile answers ErrUnsupported on this system.
func MapFile(*os.File, int) ([]byte, error) { return nil, ErrUnsupported }
