// Package longwire holds WebSocket connections: a million of them on a small machine, at about a hundred
// bytes each.
//
// The zero Config serves:
//
//	g, err := longwire.New(longwire.Config{})
//	...
//	err = g.ListenAndServe(ctx)
//
// An [Endpoint] says what happens on a path, by callbacks. A [Conn] is a handle on one connection that any
// goroutine may hold, copy and use. Every end of a connection has one [Cause].
//
// # Threads
//
// Connections live on loops: a loop is one OS thread that serves many connections, without a goroutine or
// a buffer for any of them. The callbacks of an endpoint run on the connection's loop, one at a time: they
// must not block, and while one runs no other connection of that loop is served. Where a callback would
// block (a database, a file, another service), set Endpoint.Blocking, or hand the work over with
// [Conn.Go]: both keep the order of one connection's work. A loop's thread may have a descriptor table of its
// own (see Config.Tables), so a callback on the loop must not open files or connections either.
package longwire
