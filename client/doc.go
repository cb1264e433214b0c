// Package client is a WebSocket connection that watches its line, comes back when it is lost, and knows when to stop: the
// policy of docs/client-policy.md, the same as that of @longwire/socket, for programs in Go. It speaks RFC 6455 with any
// server; package client/centrifuge subscribes to channels on top of it.
//
// # What runs
//
// A Conn has one goroutine, which dials and reads, and at most one timer. The goroutine is there because somebody has to
// wait for bytes while nobody calls Read: a pong is to be seen then too. Frames that no caller waits for (pings, pongs,
// the queue after a reconnect, close frames) are written by a second one that lives as long as there are any, for who
// reads must not wait until the peer does: two that answer each other so may stand still for good. Close, and a Dial that
// fails, return when all of them have ended.
//
// # Sleep and the network
//
// Every 5 seconds, while a timer is set, a Conn compares the wall clock with the monotonic one. Where it has gone on for
// more than Heartbeat.Late without it, the machine was asleep (or a virtual machine paused, or the clock set): the
// connection is asked at once, no pong is missed for it, and a wait of the backoff ends. Where the Conn looks that late,
// the program was stopped, or has too much to do: then the connection is asked, and no more. Of the network a Conn watches
// nothing but its own connection. A program that knows more tells it by Options.Network.
//
// # Contexts
//
// A context ends the call that it is given to, not the connection. A Read or a Write that is cancelled leaves the Conn as
// it was, with one exception: a Write whose frame is on its way in part can't be taken back, and the connection is given
// up (and, by the policy, replaced). The same holds for a Write over TLS that is cancelled while it waits for the
// network. A Close that is cancelled ends at once and without the closing handshake.
//
// # Delivery
//
// Nothing is sent twice unless Options.Resend asks for it. What was written to a connection that is then lost may have
// arrived or not; only the application can tell. Messages that the server sent to a connection before the one at hand
// are gone: protocols that need them number them, as Centrifuge does.
package client
