package checker

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync/atomic"
	"testing"
)

// every is true each n-th time that it is asked. Once might be in vain: what is lost in the moment of a cut comes again.
type every struct {
	n     int64
	asked atomic.Int64
}

func (e *every) now() bool { return e.asked.Add(1)%e.n == 0 }

// A run finds what is wrong with what clients hear, whatever way it comes to them. Each case changes some of it.
func TestRunFinds(t *testing.T) {
	for _, c := range []struct {
		name  string
		which func(m *message) bool // may be changed
		spoil func(m *message)
		want  []Kind // one of them
		each  int64  // which one of those that may be is changed; zero: each third
	}{
		{"nothing", func(*message) bool { return false }, nil, nil, 0},
		{"a publication is lost", isPublication, func(m *message) { m.publications = nil }, []Kind{Gap, Incomplete}, 0},
		{"a publication comes twice", isPublication, func(m *message) { m.publications = append(m.publications, m.publications[0]) }, []Kind{Duplicate}, 0},
		{"an offset is another", isPublication, func(m *message) { m.publications[0].offset++ }, []Kind{Gap, WrongData}, 0},
		{"data is changed", isPublication, func(m *message) {
			m.publications[0].data = bytes.Replace(bytes.Clone(m.publications[0].data), []byte(`"p"`), []byte(`"q"`), 1)
		}, []Kind{WrongData}, 0},
		{"a recovery is not told to have failed", func(m *message) bool {
			return m.kind == gotSubscribed && m.recovering && !m.recovered
		}, func(m *message) { m.recovered = true }, []Kind{FalseRecovery, Gap}, 0}, // in the plain protocol it shows in what follows
		{"the first of what was recovered is lost", hasRecovered, func(m *message) { m.publications = m.publications[1:] }, []Kind{Gap, Incomplete}, 0},
		{"what was recovered is lost", hasRecovered, func(m *message) { m.publications = nil }, []Kind{Gap, Incomplete}, 0},
		{"what a server-side subscription recovered is lost", func(m *message) bool {
			return m.kind == gotConnected && slices.ContainsFunc(m.subs, func(s message) bool { return hasRecovered(&s) })
		}, func(m *message) {
			for i := range m.subs {
				m.subs[i].publications = nil
			}
		}, []Kind{Gap, Incomplete}, 1},
		{"a subscription is made that was not asked for", isPublication, func(m *message) { *m = message{kind: gotSubscribed, channel: m.channel} }, []Kind{Broken}, 0},
		{"a publication comes twice where some may be lost", func(m *message) bool {
			return isPublication(m) && namespaceOf(m.channel).drops()
		}, func(m *message) { m.publications = append(m.publications, m.publications[0]) }, []Kind{Duplicate}, 0},
		{"a subscription ends that did not", isPublication, func(m *message) {
			*m = message{kind: gotUnsubscribed, channel: m.channel, code: 2500}
		}, []Kind{Broken, Stray, Needless}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			spoil := &every{n: cmp.Or(c.each, 3)}
			r, err := Run(context.Background(), Options{Seed: 1, Clients: 40, Channels: 16, Publications: 1200, RestartEvery: 500,
				spoil: func(m *message) {
					if c.which(m) && spoil.now() {
						c.spoil(m)
					}
				}})
			if err != nil {
				t.Fatal(err)
			}
			if c.want == nil {
				if r.Total > 0 {
					t.Error(r)
				}
				return
			}
			if spoil.asked.Load() < spoil.n {
				t.Fatalf("nothing was changed: %v", r)
			}
			if !slices.ContainsFunc(r.Violations, func(v Violation) bool { return slices.Contains(c.want, v.Kind) }) {
				t.Errorf("want a violation %v, got %v", c.want, r)
			}
		})
	}
}

func isPublication(m *message) bool { return m.kind == gotPublication && !m.publications[0].delta }

func hasRecovered(m *message) bool { return m.kind == gotSubscribed && len(m.publications) > 1 }
