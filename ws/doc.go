// Package ws is RFC 6455 (WebSocket) and RFC 7692 (permessage-deflate) on bytes, for both ends of a
// connection. There is no socket in it, no clock and no goroutine: bytes that arrived go in, what they
// mean comes out; and what is to be sent is appended to a slice. When to read, what to time out and
// how to write is the caller's, be it an event loop, a goroutine or a test.
//
// # Floors
//
//   - Bits: [Header] with [ParseHeader], [CheckHeader] and [AppendHeader]; [Mask]; [UTF8];
//     [StatusCode] with [ParseClose] and [AppendClose]; [AppendFrame].
//   - Messages: a [Reader] turns the bytes of one direction into an [Event] at a time: messages put
//     together, inflated and validated, and control frames.
//   - Compression: [Compress], [Inflate] and [AppendCompressed], a message at a time.
//   - Handshake: a server reads with [ParseRequest], decides with [Negotiate] under a [Policy] and
//     answers with [AppendResponse] or [AppendRefusal]; a client asks with [AppendRequest] what a
//     [Dial] holds, reads with [ParseResponse] and decides with [Dial.Check].
//
// # Invariants
//
//   - Nothing here keeps a slice that it was given, with two exceptions: a payload may alias the bytes
//     that [Reader.Next] was given, until the next call; a [Request] and a [Response] are views into
//     the bytes that they were parsed from.
//   - Parsers return how many bytes they consumed, and zero with a nil error to ask for more. What an
//     answer says never depends on how the bytes were cut into reads; how early it comes does. What
//     can never become right is refused at the first byte that shows it.
//   - An idle connection costs nothing here. A Reader between messages knows nothing ([Reader.Idle])
//     and can serve another connection after [Reader.Reset]. One in the middle of a message can
//     be written down and go on in another process ([Reader.AppendState]).
//   - No peer makes us hold more memory than a small multiple of what it sent and than the limit
//     allows: an announced length is refused or accepted, never allocated.
//   - Neither direction takes over compression context. So a message compressed once by [Compress]
//     suits every connection with that window, and compression costs nothing between messages.
//   - The hot paths do not allocate; tests hold them to it. Errors are shared values: a [*CloseError]
//     says what the peer is to be told, a [*Refusal] is an HTTP answer.
//   - Rules are enforced in the strictest reading of the RFCs that real peers meet. Where a choice
//     was made, the doc comment of the function says so.
//
// All functions may be called by any goroutine at any time. Values (Reader, UTF8, Request) belong to
// one goroutine at a time.
package ws
