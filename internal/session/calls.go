package session

import (
	"github.com/longwire/longwire/internal/journal"
	"github.com/longwire/longwire/internal/wire/centrifuge"
)

// What the host is told of commands, where it wants to know (Options.Calls).

// Call is a command that was answered.
type Call struct {
	Method  centrifuge.Method
	Subject []byte // its channel, the user of connect, or the method of rpc; lent
	Code    uint32 // of the error that it was answered with, or of the disconnect; 0: it was carried out
	Began   int64  // ns since 1970; 0: the server did it, without a command
	Span    uint64 // names it in its trace; 0 without Began
}

// began notes that a command begins, in k.
func (t *Table) began(k *call, m centrifuge.Method) {
	if t.n.o.Calls {
		k.method, k.began, k.span = m, t.host.Now().UnixNano(), journal.NewSpan()
		t.span = k.span
	}
}

// answered tells the host of a command that was answered.
func (t *Table) answered(k call, subject []byte, code uint32) {
	if k.began != 0 {
		t.host.Called(k.i, Call{Method: k.method, Subject: subject, Code: code, Began: k.began, Span: k.span})
	}
}

// given tells the host of a subscription that the server made.
func (t *Table) given(i uint32, channel []byte) {
	if t.n.o.Calls {
		t.host.Called(i, Call{Method: centrifuge.Subscribe, Subject: channel})
	}
}

// context is where in its trace the command stands that is being carried out, for hooks.
func (t *Table) context(i uint32) (c journal.Context) {
	if t.n.o.Calls {
		if c = t.host.Context(i); t.span != 0 {
			c.Span = journal.SpanID(t.span)
		}
	}
	return c
}
