//go:build !linux

package sys

// Deafen answers ErrUnsupported on this system.
func Deafen(int) error { return ErrUnsupported }
