package main

import (
	"bytes"
	"io"
	"sync"
)

// messages are buffers for one message each, for the libraries that let their user say where to read to.
var messages = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// echoMessage reads a message from r into a pooled buffer, and has write send it.
func echoMessage(r io.Reader, write func([]byte) error) error {
	b := messages.Get().(*bytes.Buffer)
	defer messages.Put(b)
	b.Reset()
	if _, err := b.ReadFrom(r); err != nil {
		return err
	}
	return write(b.Bytes())
}
