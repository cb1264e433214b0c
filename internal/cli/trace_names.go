package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/trace"
)

// Bounds of asking a gateway for names.
const (
	namesWait    = 64              // ends that wait for an answer; those beyond go without
	namesTimeout = 5 * time.Second // of an answer
	namesPause   = 5 * time.Second // after one that did not come
	namesLast    = 2 * time.Second // when tracing is over, for all that wait
	namesSlack   = time.Second     // between the gateway's clock and the kernel's
)

// traceNames asks a gateway what it calls connections that ended. Its failures are notes. Run's goroutine calls take, and
// one of its own asks, one question at a time and no more than half of the time: for the gateway it is a search of its whole record.
type traceNames struct {
	api   *whyAPI
	plain bool // names are for a terminal
	note  func(text string)

	write  func(*trace.Event)
	ends   chan *trace.Event
	over   chan struct{}
	cancel context.CancelFunc

	// Of the goroutine that asks.
	noted  map[string]bool
	paused time.Time // until then nothing is asked

	without int // ends that found no room; of the goroutine that calls take

	mu  sync.Mutex
	own map[netip.AddrPort]bool // guarded by mu: of the connections that ask. Their ends, too, are seen where the port is the same
}

// start begins to ask. write has each end that take took.
func (n *traceNames) start(write func(*trace.Event)) {
	n.write, n.ends, n.over = write, make(chan *trace.Event, namesWait), make(chan struct{})
	n.own = make(map[netip.AddrPort]bool)
	// One connection for all questions: one for each would be a connection that ends, and raises a question, for each.
	n.api.client.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, MaxConnsPerHost: 1, DialContext: n.dial}
	var ctx context.Context
	ctx, n.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(n.over)
		for e := range n.ends {
			began := time.Now()
			e.Names = n.of(ctx, e.Life)
			n.write(e)
			select {
			case <-time.After(time.Since(began)):
			case <-ctx.Done():
			}
		}
	}()
}

// dial connects to the gateway.
func (n *traceNames) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.own) < 1000 { // more only where their ends are not seen, which then raise no question
			n.own[a.AddrPort()] = true
		}
	}
	return c, nil
}

// asks reports whether a connection that ended was one of ours.
func (n *traceNames) asks(client netip.AddrPort) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	ours := n.own[client]
	delete(n.own, client)
	return ours
}

// take takes an end to write it with its names; false: the caller writes it. e is not kept.
func (n *traceNames) take(e *trace.Event) bool {
	if n.asks(e.Remote) {
		return false
	}
	end, life := *e, *e.Life
	end.Life = &life
	select {
	case n.ends <- &end:
		return true
	default:
		n.without++
		return false
	}
}

// stop waits until what was taken is written: after last without names.
func (n *traceNames) stop(last time.Duration) {
	close(n.ends)
	late := time.AfterFunc(last, n.cancel)
	<-n.over
	late.Stop()
	n.cancel()
	n.api.client.CloseIdleConnections()
	if n.without > 0 {
		n.note(fmt.Sprintf("of %d ends the gateway was not asked: they came too fast", n.without))
	}
}

// of asks for the names of a connection; nil: there are none.
func (n *traceNames) of(ctx context.Context, l *trace.Life) *trace.Names {
	if ctx.Err() != nil || time.Now().Before(n.paused) {
		return nil
	}
	asked, cancel := context.WithTimeout(ctx, namesTimeout)
	defer cancel()
	raw, err := n.api.ask(asked, map[string]any{kindAddress: l.Remote.String(), "limit": 10})
	var result whyResult
	if err == nil {
		err = json.Unmarshal(raw, &result)
	}
	if err != nil {
		if ctx.Err() == nil {
			n.once("a client's names are not to be had: " + err.Error())
			n.paused = time.Now().Add(namesPause)
		}
		return nil
	}
	s := spanOf(result.Spans, l)
	if s == nil {
		if len(result.Spans) > 0 && result.Spans[0].Address != l.Remote.String() {
			n.once("clients have no names, since the gateway masks their addresses")
		}
		return nil
	}
	names := &trace.Names{Client: s.Client, User: s.User, Request: s.Request, Trace: s.Trace}
	if n.plain {
		for _, text := range []*string{&names.Client, &names.User, &names.Request, &names.Trace} {
			if *text != "" {
				*text = visible(*text)
			}
		}
	}
	return names
}

// once notes what was not noted before.
func (n *traceNames) once(text string) {
	if n.noted == nil {
		n.noted = make(map[string]bool)
	}
	if !n.noted[text] && len(n.noted) < 10 {
		n.noted[text] = true
		n.note(text)
	}
}

// spanOf is the latest of spans, the latest of which is first, that can be of a connection: an address with its port is used
// again by others, and a gateway that masks addresses has those of a whole network.
func spanOf(spans []longwire.Span, l *trace.Life) *longwire.Span {
	for i := range spans {
		s := &spans[i]
		if s.Address != l.Remote.String() || len(s.Events) == 0 {
			continue
		}
		first := s.Events[0].Time
		if first.After(l.Closed.Add(namesSlack)) || !l.Established.IsZero() && first.Before(l.Established.Add(-namesSlack)) {
			continue
		}
		return s
	}
	return nil
}
