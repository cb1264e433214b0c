package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/internal/report"
	"github.com/longwire/longwire/ws"
)

func buffersExperiment() Experiment {
	return Experiment{
		Name:   "buffers",
		Title:  "What buffers cost: the default ones, pooled ones, none",
		Claims: claimsOf("buffers"),
		About: "As many idle connections as the scale says are held to gorilla/websocket with its default buffers, to gorilla with write buffers and messages " +
			"from pools, small read buffers and the handler left, and to Longwire, which has no buffer for an idle connection. Then each echoes messages.",
		Run:      runBuffers,
		subjects: map[string]maker{}, // it uses those of lifecycle
	}
}

// buffersKinds are the servers of the comparison.
var buffersKinds = []string{kindGorilla, kindPooled, kindLongwire}

// buffersFigures is what one server took, in bytes and objects for each connection or message.
type buffersFigures struct {
	idle, stacks, resident float64 // a connection: heap, stacks, memory of the process
	bytes, objects         float64 // a message
}

// buffersEvery is how often memory is looked at meanwhile.
const buffersEvery = 50 * time.Millisecond

// messages is how many each connection echoes.
const messages = 10

func runBuffers(ctx context.Context, r *Run) error {
	n := r.Of(2000)
	held := r.Table(fmt.Sprintf("%d connections, each", n), "server", "state", "goroutines", "heap", "stacks", "resident memory", "a million would take")
	spent := r.Table("One echoed message of 200 bytes", "server", "bytes allocated", "objects allocated", "collections meanwhile")
	all := map[string]buffersFigures{}
	for _, kind := range buffersKinds {
		r.Log("%s: %d connections", kind, n)
		f, err := measureBuffers(ctx, r, kind, n, held, spent)
		if err != nil {
			return err
		}
		all[kind] = f
		r.Figure(kind+": resident memory an idle connection", f.resident, report.Bytes)
	}
	r.Note("What a million would take is the resident memory of this run times what is missing, and nothing that was measured.")
	judgeBuffers(r, all)
	return nil
}

func measureBuffers(ctx context.Context, r *Run, kind string, n int, held, spent *Table) (f buffersFigures, err error) {
	p, err := r.Start(ctx, "server", serverConfig{Kind: kind, MaxSize: n + 100}, nil)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	base, err := p.Sample(ctx, 3)
	if err != nil {
		return f, err
	}
	var load *fleet.Fleet
	curve, err := p.While(ctx, buffersEvery, func() (err error) { load, err = hold(ctx, p, n); return err })
	defer func() {
		if load != nil {
			err = errors.Join(err, load.Close())
		}
	}()
	if err != nil {
		return f, err
	}
	row := func(state string, s Sample) {
		resident := each(base.Resident, s.Resident, n)
		held.Row(kind, state, each(uint64(base.Goroutines), uint64(s.Goroutines), n), Size(each(base.Heap, s.Heap, n)), Size(each(base.Stacks, s.Stacks, n)),
			Size(resident), Size(float64(base.Resident)+resident*1e6))
	}
	s, err := p.Sample(ctx, 3)
	if err != nil {
		return f, err
	}
	row("idle", s)
	f.idle, f.stacks, f.resident = each(base.Heap, s.Heap, n), each(base.Stacks, s.Stacks, n), each(base.Resident, s.Resident, n)
	before := s
	busy, err := p.While(ctx, buffersEvery, func() error {
		for range messages {
			if err := exchangeOnce(ctx, load, n, make([]byte, 200)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return f, err
	}
	var points []Point
	for _, s := range append(curve, busy...) {
		points = append(points, Point{(s.At - base.At).Seconds(), float64(s.Resident)})
	}
	r.Series(kind, report.Bytes, points).On("resident memory while connections open, and while messages go")
	if s, err = p.Sample(ctx, 0); err != nil {
		return f, err
	}
	f.bytes, f.objects = each(before.Allocated, s.Allocated, n*messages), each(before.Mallocs, s.Mallocs, n*messages)
	spent.Row(kind, Size(f.bytes), f.objects, s.Collections-before.Collections)
	if s, err = p.Sample(ctx, 3); err != nil {
		return f, err
	}
	row(fmt.Sprintf("after %d messages", messages), s)
	return f, nil
}

// hold opens n WebSocket connections to a subject and keeps them. The caller closes the fleet.
func hold(ctx context.Context, p *Process, n int) (*fleet.Fleet, error) {
	load, err := fleet.New(fleet.Config{Target: p.Addr(), Conns: n, Private: true, Dial: ws.Dial{Target: "/"}})
	if err != nil {
		return nil, fmt.Errorf("hold %d connections: %w", n, err)
	}
	if err := load.Open(ctx); err != nil {
		return nil, errors.Join(err, load.Close())
	}
	if c := load.Counts(); c.Open != int64(n) {
		return nil, errors.Join(fmt.Errorf("%d of %d connections stand: failed %v, lost %v; a smaller --scale, or a higher limit of open files, may do", c.Open, n, c.Failed, c.Lost), load.Close())
	}
	return load, nil
}

// exchangeOnce has each of n clients send a message, and waits for all the answers.
func exchangeOnce(ctx context.Context, load *fleet.Fleet, n int, message []byte) error {
	want := load.Counts().Received + int64(n)
	if err := load.Each(ctx, func(c fleet.Client) { c.Say(ws.OpBinary, message) }); err != nil {
		return err
	}
	late := time.Now().Add(answerLimit)
	for {
		switch c := load.Counts(); {
		case c.Received >= want:
			return nil
		case c.Open < int64(n):
			return fmt.Errorf("%d of %d connections are left: lost %v", c.Open, n, c.Lost)
		case time.Now().After(late):
			return fmt.Errorf("%d of %d answers came within %v", c.Received-want+int64(n), n, answerLimit)
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}

// poolSpares is the share that a pool has to spare of what is allocated for a message, of the bytes and of the objects, for the
// claim to hold; of one of them for it to hold in part.
const poolSpares = 0.5

func judgeBuffers(r *Run, all map[string]buffersFigures) {
	plain, pooled, none := all[kindGorilla], all[kindPooled], all[kindLongwire]
	bytes, objects := 1-pooled.bytes/max(1, plain.bytes), 1-pooled.objects/max(0.01, plain.objects)
	says := fmt.Sprintf("a message took %s in %.2f objects with buffers of its own and %s in %.2f with pools. An idle connection took %s of heap and stacks instead of %s, and %s where it has no buffer and no goroutine at all: "+
		"pools are for what messages allocate, and an idle connection still has its goroutine and what it reads into",
		report.Bytes.Format(plain.bytes), plain.objects, report.Bytes.Format(pooled.bytes), pooled.objects,
		report.Bytes.Format(pooled.idle+pooled.stacks), report.Bytes.Format(plain.idle+plain.stacks), report.Bytes.Format(max(0, none.idle+none.stacks)))
	switch {
	case plain.bytes <= 0:
		r.Verdict("pool-buffers", NotShown, "no allocation was measured")
	case bytes >= poolSpares && objects >= poolSpares:
		r.Verdict("pool-buffers", Holds, says)
	case bytes >= poolSpares || objects >= poolSpares:
		r.Verdict("pool-buffers", HoldsInPart, says)
	default:
		r.Verdict("pool-buffers", DoesNotHold, says)
	}
}
