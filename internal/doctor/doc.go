// Package doctor finds out what is wrong with a running Go program, without changing it: what leaks and on which line,
// what grows outside the heap, which descriptors pile up, which locks are queued for, which database connections do not come back.
// Beside that it looks at what a program meets: a TLS server's handshake, and a machine's limits.
//
// A Collector gathers Evidence, within bounds of time and bytes, from a program that serves /debug/pprof, from /proc, or
// from saved files. A Check is a pure function of evidence; it asks one question and answers with findings. Examine asks
// them all and puts what they find in order.
//
// Where the source of the program is at hand, it is read too: a profile knows where memory was allocated or a goroutine waits, and
// the source where that memory is kept.
package doctor
