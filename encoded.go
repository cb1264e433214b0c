package longwire

import (
	"sync"

	"github.com/longwire/longwire/ws"
)

// encoded is one message as the frames that connections get: made once, shared by all loops.
type encoded struct {
	op      ws.Opcode
	payload []byte
	plain   []byte // the frame of connections without compression

	mu     sync.Mutex
	packed [ws.MaxWindow + 1][]byte // guarded by mu: by window, made when the first connection wants it
}

// newEncoded copies payload. Messages below compressAbove bytes are not compressed for anybody.
func newEncoded(op ws.Opcode, payload []byte, compressAbove int) *encoded {
	m := &encoded{op: op, plain: ws.AppendFrame(nil, ws.Server, op, payload, [4]byte{})}
	if len(payload) >= compressAbove {
		m.payload = m.plain[len(m.plain)-len(payload):]
	}
	return m
}

// frame is the frame for a connection with that compression window; 0 means without compression.
func (m *encoded) frame(window uint8) []byte {
	if window == 0 || m.payload == nil {
		return m.plain
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.packed[window] == nil {
		m.packed[window] = ws.AppendCompressed(nil, ws.Server, m.op, m.payload, window, [4]byte{})
	}
	return m.packed[window]
}
