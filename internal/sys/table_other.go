//go:build !linux

package sys

// OnLeader is false where descriptor tables do not belong to threads.
func OnLeader() bool { return false }

// OpenDescriptors is not known on this system.
func OpenDescriptors() int { return -1 }
