//go:build cgo

package main

import "github.com/longwire/longwire/internal/doctor/testdata/leaks/cmalloc"

func init() { programs["cmalloc"] = cmalloc.Handle }
