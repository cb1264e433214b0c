//go:build !linux

package sys

import "os/exec"

// Apart does nothing on this system; LoopbackUp says so.
func Apart(*exec.Cmd) {}

// ApartError is err.
func ApartError(_ *exec.Cmd, err error) error { return err }

// LoopbackUp answers ErrUnsupported on this system.
func LoopbackUp() error { return ErrUnsupported }

// LimitDescriptors answers ErrUnsupported on this system.
func LimitDescriptors(int) error { return ErrUnsupported }
