// Package centrifuge is a client of the Centrifuge protocol, version 2, in JSON or Protobuf: of Longwire, and of any other
// server that speaks it over WebSocket. It stands on package client, which keeps the line; this package connects anew,
// subscribes anew, and recovers what was missed.
//
// # Recovery
//
// The position of a subscription is kept where its channel has one. After a reconnect, or when the server has lost the
// subscription's state (unsubscribe codes from 2500), the client subscribes from that position on. Subscribed.Recovered
// says whether all that was missed follows: then the handler has every publication once, in order. If not, some may be
// missing, and what the application shows has to be loaded anew.
//
// # Handlers
//
// Handlers are called one at a time, in the order in which the server sent, by a goroutine of the Client. They must not
// wait: what waits for the server (every method with a context) belongs on another goroutine.
//
// # What runs
//
// A Client has two goroutines: that of its connection, which receives and watches the line, and one that reads messages and
// calls handlers. They are apart so that a handler that takes its time does not keep the connection from seeing a pong.
// There is one more for each subscription under way, and for each token that expires. Close returns when all have ended.
//
// # Codes
//
// A close code of 3500 to 3999 or of 4500 to 4999, and 1009, ends the Client for good; it comes back after all others. An
// error of connect ends it, unless it is temporary; after 109, token expired, GetToken is asked for another token.
package centrifuge
