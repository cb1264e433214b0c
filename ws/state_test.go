package ws

import (
	"bytes"
	"slices"
	"testing"
)

// A stream whose Reader moves to another process after every byte gives the same events.
func TestReaderState(t *testing.T) {
	z := Compress(nil, bytes.Repeat([]byte("hällo "), 50), 15)
	streams := map[string][]part{
		"fragments":  {open(OpText, "gr\xc3"), fin(OpPing, "ping"), open(OpContinuation, ""), fin(OpContinuation, "\xbc\xc3\x9f"), fin(OpBinary, text(300)), closing(1000, "bye"), fin(OpText, "x")},
		"compressed": {{rsv: Rsv1, op: OpText, payload: z[:10]}, fin(OpPong, ""), fin(OpContinuation, string(z[10:])), fin(OpText, "plain")},
		"bad text":   {open(OpText, "\xed"), fin(OpContinuation, "\xa0")},
		"too big":    {open(OpBinary, text(600)), fin(OpContinuation, text(600))},
	}
	for name, parts := range streams {
		for _, role := range []Role{Server, Client} {
			c := ReaderConfig{Role: role, MaxMessage: 1000, Deflate: true}
			b := encode(role, parts)
			want, _ := feed(t, c, b, whole)
			var got []string
			var r Reader
			r.Reset(c)
			for i := range b {
				ev, _, err := r.Next(bytes.Clone(b[i : i+1]))
				if err != nil {
					got = append(got, "error "+ruleOf(err))
					break
				}
				if ev.Op != NoEvent {
					got = append(got, show(ev))
				}
				state := r.AppendState([]byte("x"))[1:]
				idle := r.Idle()
				r.Release()
				r = Reader{}
				if err := r.Restore(c, state); err != nil || r.Idle() != idle {
					t.Fatalf("%s, %v: after %d bytes: %v, idle %v", name, role, i+1, err, r.Idle())
				}
				for cut := range state {
					var bad Reader
					if err := bad.Restore(c, state[:cut]); err == nil && cut < stateSize {
						t.Fatalf("%s, %v: %d bytes of a state of %d are restored", name, role, cut, len(state))
					}
					bad.Release()
				}
			}
			r.Release()
			if !slices.Equal(got, want) {
				t.Errorf("%s, %v:\n got %q\nwant %q", name, role, got, want)
			}
		}
	}
	var dead, r Reader
	if _, _, err := dead.Next([]byte{0xff}); err == nil {
		t.Fatal("0xff passed")
	}
	if err := r.Restore(ReaderConfig{}, dead.AppendState(nil)); err != nil || !r.Idle() {
		t.Errorf("a dead Reader: %v", err)
	}
	if ev, n, err := r.Next([]byte{0xff}); ev.Op != NoEvent || n != 1 || err != nil {
		t.Error("a dead Reader came back to life")
	}
}

// No state, however damaged, makes a Reader that breaks its word.
func FuzzReaderState(f *testing.F) {
	f.Fuzz(func(t *testing.T, state, b []byte) {
		c := ReaderConfig{Role: Role(len(state) & 1), MaxMessage: 1000, Deflate: true}
		var r Reader
		defer r.Release()
		if err := r.Restore(c, state); err != nil {
			if !r.Idle() || r.Held() != 0 {
				t.Fatal("not as after Reset")
			}
			return
		}
		if again := r.AppendState(nil); state[1]&stateClosed == 0 && (r.inFrame || r.msg != 0) {
			var q Reader
			if err := q.Restore(c, again); err != nil {
				t.Fatalf("% x becomes % x: %v", state, again, err)
			}
			q.Release()
		}
		for rest := bytes.Clone(b); len(rest) > 0; {
			ev, n, err := r.Next(rest)
			if err != nil {
				break
			}
			if len(ev.Payload) > 1000 {
				t.Fatalf("%v with %d bytes", ev.Op, len(ev.Payload))
			}
			rest = rest[n:]
		}
	})
}
