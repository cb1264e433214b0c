package ws

// Opcode is the four-bit opcode of a frame (RFC 6455 section 5.2).
type Opcode uint8

// The opcodes that RFC 6455 defines. All others are reserved, and a frame with one of them fails the
// connection.
const (
	OpContinuation Opcode = 0x0
	OpText         Opcode = 0x1
	OpBinary       Opcode = 0x2
	OpClose        Opcode = 0x8
	OpPing         Opcode = 0x9
	OpPong         Opcode = 0xA
)

// NoEvent is the Op of the zero Event: Reader.Next wants more bytes. It has the value of
// OpContinuation, which is never an event of its own.
const NoEvent = OpContinuation

// Control reports whether o is one of the three control opcodes (section 5.5).
func (o Opcode) Control() bool { return o == OpClose || o == OpPing || o == OpPong }

// Data reports whether o is text, binary or continuation (section 5.6).
func (o Opcode) Data() bool { return o <= OpBinary }

// Reserved reports whether o is neither Control nor Data.
func (o Opcode) Reserved() bool { return !o.Control() && !o.Data() }

var opcodeNames = [16]string{
	"continuation", "text", "binary", "reserved-3", "reserved-4", "reserved-5", "reserved-6", "reserved-7",
	"close", "ping", "pong", "reserved-b", "reserved-c", "reserved-d", "reserved-e", "reserved-f",
}

// String returns the RFC's word for o, such as "text". A value that does not fit into four bits is "invalid".
func (o Opcode) String() string {
	if int(o) < len(opcodeNames) {
		return opcodeNames[o]
	}
	return "invalid"
}
