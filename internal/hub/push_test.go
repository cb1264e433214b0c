package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	fdelta "github.com/shadowspore/fossil-delta"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/ws"
)

// payload takes a frame of a server apart.
func payload(t *testing.T, frame []byte) (op ws.Opcode, out []byte) {
	t.Helper()
	var r ws.Reader
	r.Reset(ws.ReaderConfig{Role: ws.Client, MaxMessage: 1 << 20, Deflate: true})
	ev, n, err := r.Next(bytes.Clone(frame))
	if err != nil || n != len(frame) {
		t.Fatalf("frame %x: %d of %d bytes, %v", frame, n, len(frame), err)
	}
	return ev.Op, bytes.Clone(ev.Payload)
}

func allCodecs() []Codec {
	return []Codec{CentrifugeJSON, CentrifugeProtobuf, Plain, CentrifugeJSONString, CentrifugeJSONDelta, CentrifugeProtobufDelta}
}

// TestFrames has each codec's frame, compressed too.
func TestFrames(t *testing.T) {
	info := &engine.ClientInfo{Client: "c1", User: "ann", ConnInfo: []byte(`{"a":1}`)}
	data := `{"text":"` + strings.Repeat("long ", 100) + `"}`
	quoted, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Push{
		{Kind: KindPublication, Channel: "x", Epoch: "e", Publication: &engine.Publication{Offset: 1, Data: []byte(data), Info: info}},
		{Kind: KindJoin, Channel: "x", Info: info},
		{Kind: KindLeave, Channel: "x", Info: info},
	} {
		for _, c := range allCodecs() {
			frame := p.Frame(c, 0, 0)
			op, b := payload(t, frame)
			for _, window := range []uint8{9, 15} {
				packed := p.Frame(c, window, 10)
				pop, pb := payload(t, packed)
				if pop != op || !bytes.Equal(pb, b) {
					t.Errorf("kind %d codec %d: compressed with %d it is %q, was %q", p.Kind, c, window, pb, b)
				}
				if p.Kind == KindPublication && len(packed) >= len(frame) {
					t.Errorf("codec %d: %d bytes are compressed to %d", c, len(frame), len(packed))
				}
				if again := p.Frame(c, window, 10); &again[0] != &packed[0] {
					t.Errorf("codec %d: compressed twice", c)
				}
			}
			if small := p.Frame(c, 15, len(frame)+1); &small[0] != &frame[0] {
				t.Errorf("codec %d: what is short is compressed", c)
			}
			if c == CentrifugeProtobuf || c == CentrifugeProtobufDelta {
				if n, size := protowire.ConsumeVarint(b); op != ws.OpBinary || int(n) != len(b)-size || p.Kind == KindPublication && !bytes.Contains(b, []byte(data)) {
					t.Errorf("kind %d codec %d: %v %q", p.Kind, c, op, b)
				}
				continue
			}
			var m struct {
				Push struct {
					Channel     string
					Pub         struct{ Data json.RawMessage }
					Join, Leave struct{ Info map[string]any }
				}
				Type, Channel string
				Data          json.RawMessage
			}
			if err := json.Unmarshal(b, &m); err != nil || op != ws.OpText || m.Push.Channel+m.Channel != "x" {
				t.Fatalf("kind %d codec %d: %v %s: %v", p.Kind, c, op, b, err)
			}
			got, want := string(m.Push.Pub.Data), data
			switch {
			case c == Plain:
				got = string(m.Data)
			case c != CentrifugeJSON:
				want = string(quoted)
			}
			if p.Kind == KindPublication && got != want {
				t.Errorf("codec %d: data %s, want %s", c, got, want)
			}
			types := map[Kind]string{KindPublication: "message", KindJoin: "join", KindLeave: "leave"}
			if c == Plain && m.Type != types[p.Kind] || c != Plain && (p.Kind == KindJoin) != (m.Push.Join.Info != nil) || c != Plain && (p.Kind == KindLeave) != (m.Push.Leave.Info != nil) {
				t.Errorf("kind %d codec %d: %s", p.Kind, c, b)
			}
		}
	}
}

// TestFrameOnce has loops ask for the same frames at once.
func TestFrameOnce(t *testing.T) {
	for range 20 {
		p := &Push{Kind: KindPublication, Channel: "x", Publication: publication(`"` + strings.Repeat("abc ", 200) + `"`)}
		const n = 4
		var got [n][codecs][2][]byte
		var wg sync.WaitGroup
		for k := range n {
			wg.Go(func() {
				for _, c := range allCodecs() {
					got[k][c] = [2][]byte{p.Frame(c, 0, 0), p.Frame(c, 15, 0)}
				}
				p.IsJSON()
			})
		}
		wg.Wait()
		for k := range n {
			for c := range codecs {
				for w := range 2 {
					if &got[k][c][w][0] != &got[0][c][w][0] {
						t.Fatalf("codec %d: made twice", c)
					}
				}
			}
		}
	}
}

func TestIsJSON(t *testing.T) {
	for data, want := range map[string]bool{`{"a":1}`: true, `1`: true, `null`: true, ``: false, `{`: false, "\xff": false, `1 2`: false} {
		p := &Push{Publication: publication(data)}
		for range 2 { // the second answer was noted by the first
			if p.IsJSON() != want {
				t.Errorf("%q is JSON: %v", data, !want)
			}
		}
	}
}

// TestDeltas rebuilds publications from deltas.
func TestDeltas(t *testing.T) {
	h, _ := newHub(2)
	text := func(k int) string { return fmt.Sprintf(`"%s%d"`, strings.Repeat("all the same ", 30), k) }
	for loop := range 2 {
		s := h.Shard(loop)
		s.SetDelta(s.Subscribe(1, []byte("x"), 0))
		s.Subscribe(2, []byte("x"), 0)
	}
	for k := range 6 {
		p := publication(text(k))
		p.Offset, p.Delta = uint64(k+1), k != 3
		h.Publication("x", p, "e")
		for loop := range 2 {
			seen := 0
			h.Shard(loop).Drain(func(_ uint32, p *Push) {
				seen++
				// The first has nothing to build on, the fourth is not to be one.
				if want := k != 0 && k != 3; p.HasDelta() != want {
					t.Fatalf("publication %d has a delta: %v", k, !want)
				}
				_, b := payload(t, p.Frame(CentrifugeJSONDelta, 0, 0))
				var m struct {
					Push struct {
						Pub struct {
							Data  string
							Delta bool
						}
					}
				}
				if err := json.Unmarshal(b, &m); err != nil {
					t.Fatal(err)
				}
				data := []byte(m.Push.Pub.Data)
				if m.Push.Pub.Delta != p.HasDelta() {
					t.Fatalf("publication %d goes as a delta: %v", k, m.Push.Pub.Delta)
				}
				if m.Push.Pub.Delta {
					var err error
					if data, err = fdelta.Apply([]byte(text(k-1)), data); err != nil {
						t.Fatal(err)
					}
				}
				if string(data) != text(k) {
					t.Errorf("publication %d is %s", k, data)
				}
				if _, b := payload(t, p.Frame(CentrifugeProtobufDelta, 0, 0)); p.HasDelta() && len(b) > 100 {
					t.Errorf("publication %d: a delta of %d bytes", k, len(b))
				}
			})
			if seen != 2 {
				t.Errorf("%d deliveries", seen)
			}
		}
	}
	// A delta that is no shorter is none.
	for k, data := range []string{`"a"`, `"b"`} {
		h.Publication("x", &engine.Publication{Offset: uint64(7 + k), Delta: true, Data: []byte(data)}, "e")
	}
	h.Shard(0).Drain(func(_ uint32, p *Push) {
		if _, b := payload(t, p.Frame(CentrifugeJSONDelta, 0, 0)); bytes.Contains(b, []byte(`"delta"`)) {
			t.Errorf("delta of a short one: %s", b)
		}
	})
}

// TestDeltaBase: what is not right before a publication is no base for it.
func TestDeltaBase(t *testing.T) {
	for _, c := range []struct {
		base, offset uint64
		want         bool
	}{{4, 5, true}, {3, 5, false}, {5, 5, false}, {6, 5, false}, {0, 0, true}, {4, 0, true}} {
		p := &Push{Publication: &engine.Publication{Offset: c.offset, Delta: true}}
		p.setBase(nil)
		p.setBase(&engine.Publication{Offset: c.base})
		if p.HasDelta() != c.want {
			t.Errorf("%d on %d: %v", c.offset, c.base, !c.want)
		}
	}
}

// TestFanOutAllocs: what goes to many costs nothing for each of them.
func TestFanOutAllocs(t *testing.T) {
	h, _ := newHub(1)
	s := h.Shard(0)
	name := "a channel with a name of more than thirty-two bytes"
	for k := range 1000 {
		s.Subscribe(uint32(k), []byte(name), 0)
	}
	p := &Push{Kind: KindPublication, Channel: name, Publication: publication("1")}
	bytes := 0
	deliver := func(_ uint32, p *Push) { bytes += len(p.Frame(CentrifugeJSON, 0, 0)) }
	round := func() {
		s.enqueue(p)
		s.Drain(deliver)
	}
	round()
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations for a publication to 1000", n)
	}
	if bytes == 0 {
		t.Error("nothing was delivered")
	}
}
