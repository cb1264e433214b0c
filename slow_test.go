package longwire_test

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/ws"
)

// numbered is a publication of 8 KiB that is told from others.
func numbered(n int) []byte {
	return fmt.Appendf(nil, `{"n":%d,"pad":%q}`, n, strings.Repeat("x", 8<<10))
}

var itsNumber = regexp.MustCompile(`"n":(\d+),`)

// number waits for the next publication, past pings.
func (c *client) number(t *testing.T) int {
	t.Helper()
	for {
		op, text, code := c.next()
		if op == ws.OpClose {
			t.Fatalf("closed with %d %s", code, text)
		}
		if found := itsNumber.FindStringSubmatch(text); found != nil {
			return must(strconv.Atoi(found[1]))
		}
	}
}

// A client that does not read gets, when it reads on, what its channel's policy says, and nobody else notices: over real
// sockets, whose buffers hold some megabytes before anything waits.
func TestSlowPolicies(t *testing.T) {
	const keep = 8
	listen := map[string]struct{ path, subscribe string }{
		"plain":      {"/ws", `{"type":"subscribe","id":2,"channel":%q}`},
		"centrifuge": {"/connection/websocket", `{"id":2,"subscribe":{"channel":%q}}`},
	}
	for name, how := range listen {
		for channel, tail := range map[string]int{"oldest:a": keep, "conflated:a": 1} {
			t.Run(name+" "+channel, func(t *testing.T) {
				t.Parallel()
				g, err := longwire.New(longwire.Config{Addr: "127.0.0.1:0", MaxConns: 64, Loops: 1, MaxMemory: -1, Sessions: longwire.Sessions{Insecure: true},
					Endpoints: []longwire.Endpoint{longwire.Centrifuge("/connection/websocket"), longwire.Plain("/ws")},
					Namespaces: []longwire.ChannelOptions{{Name: "oldest", Slow: longwire.SlowDropOldest, SlowKeep: keep},
						{Name: "conflated", Slow: longwire.SlowConflate}}})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = g.Close() })
				if err := g.Start(); err != nil {
					t.Fatal(err)
				}
				subscribed := func() *client {
					c := dial(g.Addr().String(), how.path)
					t.Cleanup(c.quit)
					if name == "centrifuge" {
						c.outcome(t, `{"id":1,"connect":{}}`)
					}
					if got := c.ask(fmt.Sprintf(how.subscribe, channel)); strings.Contains(got, "error") {
						t.Fatalf("subscribe: %s", got)
					}
					return c
				}
				fast, slow := subscribed(), subscribed()
				// With much less room the kernel of the sender makes long pauses.
				if err := slow.conn.(*net.TCPConn).SetReadBuffer(128 << 10); err != nil {
					t.Fatal(err)
				}
				n := 0
				publish := func() {
					t.Helper()
					n++
					if _, err := g.Publish(t.Context(), channel, numbered(n), longwire.PublishOptions{}); err != nil {
						t.Fatal(err)
					}
					if got := fast.number(t); got != n {
						t.Fatalf("who reads got publication %d, want %d", got, n)
					}
				}
				const most = 8000 // 64 MiB: no socket holds that
				for g.Stats().Dropped == 0 {
					if publish(); n == most {
						t.Fatalf("nothing was dropped of %d publications", n)
					}
				}
				for range 5 * keep {
					publish()
				}
				dropped := int(g.Stats().Dropped)
				var got []int
				for len(got) == 0 || got[len(got)-1] < n {
					got = append(got, slow.number(t))
				}
				if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
					t.Errorf("publications came twice or out of order: %v", got)
				}
				if missing := n - len(got); missing != dropped || missing < 5*keep-tail {
					t.Errorf("of %d publications %d came, and %d were dropped", n, len(got), dropped)
				}
				for k := range tail {
					if want := n - k; got[len(got)-1-k] != want {
						t.Errorf("the newest that it got are %v, want the %d before %d", got[max(0, len(got)-tail):], tail, n)
						break
					}
				}
				// It is one like any other again.
				for range 3 {
					if publish(); slow.number(t) != n {
						t.Errorf("publication %d did not come next", n)
					}
				}
				if d := int(g.Stats().Dropped); d != dropped {
					t.Errorf("%d more were dropped", d-dropped)
				}
				if s := g.Stats(); s.Closes["slow_consumer"] != 0 || s.Conns != 2 {
					t.Errorf("%d conns, closes %v: want both, and none closed", s.Conns, s.Closes)
				}
				t.Logf("%d publications, %d dropped", n, dropped)
			})
		}
	}
}
