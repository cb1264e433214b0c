//go:build !linux

package loop

// NewSystem is the kernel underneath, as package net knows it.
func NewSystem() (System, error) { return NewPortableSystem(), nil }
