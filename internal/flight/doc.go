// Package flight is the flight recorder: what happened to the last conns, event by event, so that somebody who asks later why
// a client was disconnected gets an answer.
//
// A Recorder is one ring of events of 64 bytes in mapped memory, without a pointer, so that the garbage collector has nothing to
// look at. Each loop has a Track, which writes into a segment of the ring that is its own and takes the oldest one when that is
// full: no lock, no allocation, and a loop that has little to tell takes no room from the others. With a directory the ring is a
// file, and what a process that was killed has written is there for the next one. Find reads the ring while it is written, and
// joins events to spans: one span for each conn. Span.Why says in a sentence why it ended.
package flight
