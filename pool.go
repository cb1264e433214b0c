package longwire

import (
	"runtime/pprof"
	"sync"

	"github.com/longwire/longwire/internal/loop"
)

// pool runs what may block: a bounded number of goroutines, the work of one connection in order and one at a
// time. Its goroutines come when there is work and go when there is none.
type pool struct {
	max int // goroutines

	mu      sync.Mutex
	serials map[loop.ID]*serial // guarded by mu: connections with work
	ready   []*serial           // guarded by mu: those that no goroutine works on
	workers int                 // guarded by mu
	pending int                 // guarded by mu: pieces of work, running ones not counted
	wg      sync.WaitGroup
}

// serial is the work of one connection.
type serial struct {
	id     loop.ID
	work   []func()
	idle   func() // called once when the work is done; the connection is paused until then
	active bool   // in ready, or worked on
}

func newPool(max int) *pool { return &pool{max: max, serials: make(map[loop.ID]*serial)} }

// Bounds of waiting work: beyond them submit asks that the connection be paused.
const (
	poolPerConn = 32
	poolTotal   = 64 << 10
)

// submit adds work of id and reports whether there is too much: the caller then stops reading from the
// connection and asks for whenIdle.
func (p *pool) submit(id loop.ID, f func()) (full bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.serials[id]
	if s == nil {
		s = &serial{id: id}
		p.serials[id] = s
	}
	s.work = append(s.work, f)
	p.pending++
	if !s.active {
		s.active = true
		p.ready = append(p.ready, s)
		if p.workers < p.max {
			p.workers++
			p.wg.Add(1)
			go p.run()
		}
	}
	return len(s.work) > poolPerConn || p.pending > poolTotal
}

// whenIdle has f called, on some goroutine, when the work of id is done.
func (p *pool) whenIdle(id loop.ID, f func()) {
	p.mu.Lock()
	s := p.serials[id]
	if s != nil {
		s.idle = f
		f = nil
	}
	p.mu.Unlock()
	if f != nil {
		f()
	}
}

func (p *pool) run() {
	defer p.wg.Done()
	pprof.SetGoroutineLabels(poolLabels)
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.ready) > 0 {
		s := p.ready[0]
		p.ready[0] = nil
		p.ready = p.ready[1:]
		f := s.work[0]
		s.work[0] = nil
		s.work = s.work[1:]
		p.pending--
		p.mu.Unlock()
		f()
		p.mu.Lock()
		if len(s.work) > 0 {
			p.ready = append(p.ready, s)
			continue
		}
		delete(p.serials, s.id)
		if idle := s.idle; idle != nil {
			p.mu.Unlock()
			idle()
			p.mu.Lock()
		}
	}
	p.workers--
}

// wait returns when all work that was submitted is done.
func (p *pool) wait() { p.wg.Wait() }
