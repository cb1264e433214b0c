// Package loop holds connections: bytes in, bytes out, time. It knows no frames and no protocol.
//
// A Group is a set of loops. A Loop is one OS thread with (where needed) a descriptor table of its own,
// one poller, one slab of conns without pointers, one timer wheel. What a loop owns is touched by its
// thread alone; everybody else posts (Post, Call, Adopt) and never blocks.
//
// A Handler gives the bytes a meaning. Its methods run on the loop's thread, one at a time, and must not
// block: while they run, no other conn of the loop is served.
//
// On a thread with a table of its own a descriptor means something else than in the rest of the process:
// a Handler that opens a file or a connection must do so from another goroutine.
package loop
