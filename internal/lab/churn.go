package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/internal/report"
	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/ws"
)

func churnExperiment() Experiment {
	return Experiment{
		Name:   "churn",
		Title:  "Connecting and closing without end",
		Claims: claimsOf("churn"),
		About: "Clients connect, complete the handshake, close in good order and come again, 100 at a time, to a gateway of gorilla/websocket that keeps each " +
			"connection in a map that it never cleans, to one that cleans it, and to Longwire. What the process has is sampled meanwhile, and when all are gone.",
		Run: func(ctx context.Context, r *Run) error {
			return runChurn(ctx, r, r.Of(20_000), 250*time.Millisecond/time.Duration(r.shrink))
		},
		subjects: map[string]maker{"gateway": makes(newGateway)},
	}
}

// churned is what one gateway was like.
type churned struct {
	kind          string
	opened        int64 // connections that came and went
	before, after Sample
	most          Sample // the largest of each figure meanwhile
	resident      []Point
	heap          []Point
	open          []Point
	waiting       []Point
	clients       int // sockets of the clients in TIME_WAIT when the last was gone; -1 where that is not known
	server        int // and of the server
}

// kept is what a connection that went has left behind, in bytes of live heap.
func (c *churned) kept() float64 { return each(c.before.Heap, c.after.Heap, int(c.opened)) }

func runChurn(ctx context.Context, r *Run, conns int, every time.Duration) error {
	var all []*churned
	var failed error
	for _, kind := range []string{naiveGateway, mendedGateway, kindLongwire} {
		r.Log("%s, %d connections", gatewayName(kind), conns)
		c, err := churn(ctx, r, kind, conns, every)
		if c != nil {
			all = append(all, c)
		}
		if err != nil {
			failed = err
			break
		}
	}
	t := r.Table("When all connections are gone, after three collections", "gateway", "connections that came and went", "resident memory before", "at most", "after",
		"live heap before", "after", "heap kept, each", "goroutines", "descriptors", "TIME_WAIT of the clients", "of the server")
	for _, c := range all {
		name := gatewayName(c.kind)
		t.Row(name, c.opened, Size(c.before.Resident), Size(c.most.Resident), Size(c.after.Resident), Size(c.before.Heap), Size(c.after.Heap), Size(c.kept()),
			fmt.Sprintf("%d → %d", c.before.Goroutines, c.after.Goroutines), fmt.Sprintf("%d → %d", c.before.Descriptors, c.after.Descriptors), known(c.clients), known(c.server))
		r.Series(name, report.Bytes, c.resident).On("Resident memory")
		r.Series(name, report.Bytes, c.heap).On("Heap, dead objects included")
		r.Series(name, report.Count, c.open).On("Open descriptors")
		r.Series(name, report.Count, c.waiting).On("TIME_WAIT of the server")
		r.Figure("heap kept by a connection that went: "+name, c.kept(), report.Bytes)
	}
	r.Note("A socket in TIME_WAIT is of the side that closed TCP first, which after the closing handshake is the server (RFC 6455, section 7.1.1); it costs no descriptor and goes after a minute. Those of the first 500 connections, before the measurement, are counted too.")
	if failed != nil {
		return failed
	}
	v, s := judgeChurn(all)
	r.Verdict("rss-climbs", v, s)
	return nil
}

// churn puts one gateway through it.
func churn(ctx context.Context, r *Run, kind string, conns int, every time.Duration) (c *churned, err error) {
	p, err := startGateway(ctx, r, kind, 1000)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := warmUp(ctx, p, min(500, conns)); err != nil {
		return nil, err
	}
	c = &churned{kind: kind}
	if c.before, err = p.Settle(ctx, 3, 2*time.Second, func(s Sample) bool { return s.Goroutines < 50 }); err != nil {
		return nil, err
	}
	f, err := fleet.New(fleet.Config{Target: p.Addr(), Conns: 100, Churn: conns, Dial: ws.Dial{Target: "/"}, Private: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	began := time.Now()
	opened := make(chan error, 1)
	go func() { opened <- f.Open(ctx) }()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for over := false; !over; {
		select {
		case err = <-opened:
			over = true
		case <-tick.C:
		}
		s, err2 := p.Sample(context.WithoutCancel(ctx), 0)
		if err2 != nil {
			if !over {
				_ = f.Close()
				<-opened
			}
			return c, errors.Join(err, err2)
		}
		c.add(time.Since(began), s)
		if dear := c.count(p.Addr().Port(), time.Since(began)); dear {
			tick.Reset(dearPause)
		}
	}
	counts := f.Counts()
	c.opened = counts.Opened
	if err != nil {
		return c, err
	}
	if n := counts.Failures(); n > 0 {
		r.Note("%s: %d of %d connections could not be opened: %v", gatewayName(kind), n, conns, counts.Failed)
	}
	c.after, err = p.Settle(ctx, 3, 5*time.Second, func(s Sample) bool {
		return s.Goroutines <= c.before.Goroutines && s.Descriptors <= c.before.Descriptors
	})
	return c, err
}

// add takes a sample while connections come and go.
func (c *churned) add(at time.Duration, s Sample) {
	x := at.Seconds()
	c.resident = append(c.resident, Point{x, float64(s.Resident)})
	c.heap = append(c.heap, Point{x, float64(s.Heap)})
	c.open = append(c.open, Point{x, float64(s.Descriptors)})
	c.most.Resident, c.most.Heap = max(c.most.Resident, s.Resident), max(c.most.Heap, s.Heap)
	c.most.Goroutines, c.most.Descriptors = max(c.most.Goroutines, s.Goroutines), max(c.most.Descriptors, s.Descriptors)
}

// dearPause is the time between two samples where to count the sockets takes long: the kernel walks all that the machine has.
const dearPause = 5 * time.Second

// count counts sockets in TIME_WAIT, and tells whether that took long.
func (c *churned) count(port uint16, at time.Duration) (dear bool) {
	began := time.Now()
	c.clients, c.server = timeWait(port)
	c.waiting = append(c.waiting, Point{at.Seconds(), float64(max(0, c.server))})
	return time.Since(began) > dearPause/20
}

// timeWait counts the sockets in TIME_WAIT of the clients of a port, and of its server; -1 where that is not known.
func timeWait(port uint16) (clients, server int) {
	d, err := sys.OpenDiag()
	if err != nil {
		return -1, -1
	}
	defer func() { _ = d.Close() }()
	ours, err := d.States(0, port)
	if err != nil {
		return -1, -1
	}
	theirs, err := d.States(port, 0)
	if err != nil {
		return -1, -1
	}
	return ours[sys.SocketTimeWait], theirs[sys.SocketTimeWait]
}

// known is a count for a cell; below 0 it is not known.
func known(n int) any {
	if n < 0 {
		return nil
	}
	return n
}

// leaks is what a connection that went has to leave of live heap to be called a leak, in bytes.
const leaks = 256

// judgeChurn holds the claim against the gateways, the naive one first and the mended one second.
func judgeChurn(all []*churned) (Verdict, string) {
	naive, mended := all[0], all[1]
	rate := 1.2e9 / 3600 / max(1, naive.kept())
	says := fmt.Sprintf("%d connections that came and went left %s of live heap each in the gateway whose map is never cleaned, after collections, and %s in the mended one",
		naive.opened, report.Bytes.Format(naive.kept()), report.Bytes.Format(max(0, mended.kept())))
	if len(all) > 2 {
		says += fmt.Sprintf(" (Longwire %s)", report.Bytes.Format(max(0, all[2].kept())))
	}
	switch {
	case naive.kept() < leaks:
		return DoesNotHold, says
	case mended.kept() >= leaks:
		return HoldsInPart, says + ": the mended one keeps them too, so that the map is not all of it"
	}
	return Holds, says + fmt.Sprintf(": the map keeps them, not gorilla. 1.2 GB an hour would be %.0f connections a second (extrapolated)", rate)
}
