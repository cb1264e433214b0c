// Package flight is the flight recorder: what happened to the last conns, event by event, so that somebody who asks later why
// a client was disconnected gets an answer.
//
// A Recorder has a Track for each loop, which alone writes it: a ring of events of 64 bytes in mapped memory, without a pointer,
// so that the garbage collector has nothing to look at and writing one allocates nothing. With a directory the rings are files,
// and what a process that was killed has written is there for the next one. Find reads the tracks while they are written, and
// joins events to spans: one span for each conn. Span.Why says in a sentence why it ended.
package flight
