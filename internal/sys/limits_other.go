//go:build !unix

package sys

// Descriptors has no limit to tell on this system.
func Descriptors() (soft, hard int) { return 1 << 24, 1 << 24 }
