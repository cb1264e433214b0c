package wstest_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/longwire/longwire/internal/leaktest"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

func TestMain(m *testing.M) { leaktest.Main(m, leaktest.Goroutines|leaktest.Descriptors) }

// failing is a test that notes its errors; what is fatal to it is fatal to the test around it.
type failing struct {
	testing.TB
	said []string
}

func (f *failing) Helper() {}

func (f *failing) Errorf(format string, args ...any) {
	f.said = append(f.said, fmt.Sprintf(format, args...))
}

// echo sends back what begins with "are", answers other texts with a ping and words of its own, and a close frame with one that
// has the same code.
func echo(_ int, c net.Conn) {
	_, r, err := wstest.Upgrade(c)
	if err != nil {
		return
	}
	var frames ws.Reader
	frames.Reset(ws.ReaderConfig{Role: ws.Server})
	buf := make([]byte, 1024)
	for {
		n, err := r.Read(buf)
		if err != nil {
			return
		}
		for b := buf[:n]; len(b) > 0; {
			ev, n, err := frames.Next(b)
			if err != nil {
				return
			}
			b = b[n:]
			switch {
			case ev.Op == ws.OpClose:
				_, _ = c.Write(ws.AppendClose(nil, ws.Server, ev.Code, "", [4]byte{}))
				return
			case ev.Op == ws.OpText && strings.HasPrefix(string(ev.Payload), "are"):
				_, _ = c.Write(ws.AppendFrame(nil, ws.Server, ev.Op, ev.Payload, [4]byte{}))
			case ev.Op == ws.OpText: // after a ping
				_, _ = c.Write(append(ws.AppendFrame(nil, ws.Server, ws.OpPing, []byte("ping"), [4]byte{}), ws.AppendFrame(nil, ws.Server, ev.Op, []byte("so you say"), [4]byte{})...))
			}
		}
	}
}

// TestClient has a client meet a Host, which it is counted by, and leave it.
func TestClient(t *testing.T) {
	h := wstest.Serve(t, nil, echo)
	c := wstest.Dial(t, h.Addr.String(), "/", ws.Dial{})
	c.Echoes()
	if got := c.Ask("nobody listens"); got != "so you say" {
		t.Errorf("the answer is %q", got)
	}
	if n := len(h.Conns()); n != 1 {
		t.Errorf("the host has %d connections, want 1", n)
	}
	c.Leave()
	c = wstest.Dial(t, h.Addr.String(), "/", ws.Dial{})
	c.SendClose(4001, "enough")
	if op, _, code := c.Next(); op != ws.OpClose || code != 4001 {
		t.Errorf("got %v %d, want close 4001", op, code)
	}
	c.EOF()
}

// TestClientFinds shows that its checks can fail.
func TestClientFinds(t *testing.T) {
	h := wstest.Serve(t, nil, func(_ int, c net.Conn) {
		_, r, err := wstest.Upgrade(c)
		if err == nil {
			_, _ = r.ReadByte()
			_, _ = c.Write(append(ws.AppendFrame(nil, ws.Server, ws.OpText, []byte("no"), [4]byte{}), ws.AppendClose(nil, ws.Server, 1000, "", [4]byte{})...))
		}
	})
	f := &failing{TB: t}
	c := wstest.Dial(f, h.Addr.String(), "/", ws.Dial{})
	c.Echoes()
	if len(f.said) != 1 || !strings.Contains(f.said[0], `"no"`) {
		t.Errorf("after a wrong echo: %q", f.said)
	}
	c.EOF()
	if len(f.said) != 2 || !strings.Contains(f.said[1], "want EOF") {
		t.Errorf("with a frame to come: %q", f.said)
	}
}
