package hub

import (
	"sync"
	"sync/atomic"

	fdelta "github.com/shadowspore/fossil-delta"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/wire/centrifuge"
	"github.com/longwire/longwire/internal/wire/json"
	"github.com/longwire/longwire/internal/wire/plain"
	"github.com/longwire/longwire/ws"
)

// Kind is what a push tells.
type Kind uint8

// The kinds.
const (
	KindPublication Kind = iota
	KindJoin
	KindLeave
)

// Codec is a way of writing a push.
type Codec uint8

// The codecs. The last three are for subscriptions with deltas: in JSON their data is a string.
const (
	CentrifugeJSON Codec = iota
	CentrifugeProtobuf
	Plain
	CentrifugeJSONString
	CentrifugeJSONDelta
	CentrifugeProtobufDelta

	codecs
)

// Push is one publication, join or leave on its way to many. It is shared: the first who needs a frame makes it.
type Push struct {
	Kind        Kind
	Channel     string
	Publication *engine.Publication // KindPublication
	Epoch       string              // KindPublication with an offset
	Info        *engine.ClientInfo  // KindJoin, KindLeave

	frames [codecs]atomic.Pointer[[]byte]
	json   atomic.Int32 // whether the data is JSON: 0 not looked at, 1 yes, -1 no
	base   atomic.Pointer[engine.Publication]

	mu     sync.Mutex
	packed map[packedKey][]byte // guarded by mu: compressed frames
}

type packedKey struct {
	codec  Codec
	window uint8
}

// size is an estimate of what p costs while it waits, in bytes.
func (p *Push) size() int {
	n := 256 + len(p.Channel)
	if p.Publication != nil {
		n += len(p.Publication.Data)
	}
	return n
}

// IsJSON reports whether a publication can be sent to clients that speak JSON.
func (p *Push) IsJSON() bool {
	v := p.json.Load()
	if v == 0 {
		v = -1
		if json.Valid(p.Publication.Data) {
			v = 1
		}
		p.json.Store(v)
	}
	return v > 0
}

// setBase offers what deltas can build on; the first offer counts, since loops get the publications of a channel in
// one order. What is not the publication right before p is no base: a positioned subscription that ignores a repeated
// one would build on another.
func (p *Push) setBase(base *engine.Publication) {
	if base != nil && p.Publication.Delta && (p.Publication.Offset == 0 || base.Offset+1 == p.Publication.Offset) {
		p.base.CompareAndSwap(nil, base)
	}
}

// HasDelta reports whether p can be written as a delta.
func (p *Push) HasDelta() bool { return p.base.Load() != nil }

// Frame is the whole WebSocket frame of a push for connections with that compression window (0: none). It is shared
// and must not be changed.
func (p *Push) Frame(c Codec, window uint8, compressAbove int) []byte {
	f := p.frames[c].Load()
	if f == nil {
		p.mu.Lock()
		if f = p.frames[c].Load(); f == nil {
			b := ws.AppendFrame(nil, ws.Server, c.op(), p.payload(c), [4]byte{})
			f = &b
			p.frames[c].Store(f)
		}
		p.mu.Unlock()
	}
	if window == 0 || len(*f) < compressAbove {
		return *f
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := packedKey{c, window}
	b, ok := p.packed[key]
	if !ok {
		b = ws.AppendCompressed(nil, ws.Server, c.op(), p.payload(c), window, [4]byte{})
		if p.packed == nil {
			p.packed = make(map[packedKey][]byte)
		}
		p.packed[key] = b
	}
	return b
}

func (c Codec) op() ws.Opcode {
	if c == CentrifugeProtobuf || c == CentrifugeProtobufDelta {
		return ws.OpBinary
	}
	return ws.OpText
}

// payload writes p as c.
func (p *Push) payload(c Codec) []byte {
	if c == Plain {
		return p.plain()
	}
	f := centrifuge.JSON
	if c.op() == ws.OpBinary {
		f = centrifuge.Protobuf
	}
	switch p.Kind {
	case KindJoin:
		return centrifuge.AppendJoin(nil, f, p.Channel, p.Info)
	case KindLeave:
		return centrifuge.AppendLeave(nil, f, p.Channel, p.Info)
	}
	pub := centrifuge.Publication{Publication: p.Publication, Stringed: c == CentrifugeJSONString || c == CentrifugeJSONDelta}
	if p.Publication.Offset == 1 {
		pub.Epoch = p.Epoch
	}
	if base := p.base.Load(); base != nil && (c == CentrifugeJSONDelta || c == CentrifugeProtobufDelta) {
		// A delta that is no shorter is not worth applying.
		if d := fdelta.Create(base.Data, p.Publication.Data); len(d) < len(p.Publication.Data) {
			pub.Delta, pub.IsDelta = d, true
		}
	}
	return centrifuge.AppendPublication(nil, f, p.Channel, &pub)
}

func (p *Push) plain() []byte {
	switch p.Kind {
	case KindJoin:
		return plain.AppendJoin(nil, p.Channel, p.Info.Client, p.Info.User)
	case KindLeave:
		return plain.AppendLeave(nil, p.Channel, p.Info.Client, p.Info.User)
	}
	user, client := "", ""
	if i := p.Publication.Info; i != nil {
		user, client = i.User, i.Client
	}
	return plain.AppendMessage(nil, p.Channel, p.Publication.Data, p.Publication.Offset, p.Epoch, client, user)
}
