//go:build !linux

package sys

// Network is not there on this system.
type Network struct{}

// NewNetwork answers ErrUnsupported on this system.
func NewNetwork() (*Network, error) { return nil, ErrUnsupported }

// NetworkOf answers ErrUnsupported on this system.
func NetworkOf(int) (*Network, error) { return nil, ErrUnsupported }

// Close does nothing.
func (*Network) Close() error { return nil }

// Is reports whether both are one namespace.
func (n *Network) Is(other *Network) bool { return n == other }

// Do answers ErrUnsupported on this system.
func (*Network) Do(func() error) error { return ErrUnsupported }

// OpenNetwork answers ErrUnsupported on this system.
func OpenNetwork(string) (*Network, error) { return nil, ErrUnsupported }

// Inode answers ErrUnsupported on this system.
func (*Network) Inode() (uint32, error) { return 0, ErrUnsupported }
