// Package stress puts load on a server, whoever's it is, and says what came of it: how many conns it holds, how quickly it
// answers under which load, where it breaks, and what the kernel has to say about why.
//
// A Script says what is asked. Run opens fleets of simulated clients for its scenarios, moves them along its curves, holds
// what it measures against its thresholds, and writes down a Report. Everything that is due is due at a time of its own:
// a server that stalls is charged for all it delays.
package stress

import "fmt"

// UsageError is a script or an option that cannot be run, with what to do about it.
type UsageError struct {
	Err  error
	Hint string
}

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *UsageError) Unwrap() error { return e.Err }

func bad(hint, format string, args ...any) error {
	return &UsageError{Err: fmt.Errorf(format, args...), Hint: hint}
}
