package stress

import (
	"container/heap"

	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"slices"

	"sync"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/wstest"
)

var printed = flag.Bool("stress.figures", false, "take the time that the figures of docs/stress.md need, and print them")

// ledger is what a server did to each message, by its own clock: when it had read it, and when it had its answer out. The
// generator has no part in it.
type ledger struct {
	begin time.Time
	mu    sync.Mutex
	done  []served // guarded by mu
}

type served struct{ read, answered time.Duration }

func (t *ledger) now() time.Duration { return time.Since(t.begin) }

func (t *ledger) note(read time.Duration) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = append(t.done, served{read, now})
}

// service is how long messages took.
func (t *ledger) service() (times []time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.done {
		times = append(times, s.answered-s.read)
	}
	slices.Sort(times)
	return times
}

// corrected is how long they took since they were due, where one was due every so often: the k-th answer is the answer to what
// was due k-th. The line of due times is the latest on which no message came before it was due.
func (t *ledger) corrected(every time.Duration) (times []time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortFunc(t.done, func(a, b served) int { return int(a.read - b.read) })
	due := time.Duration(math.MaxInt64)
	for k, s := range t.done {
		due = min(due, s.read-time.Duration(k)*every)
	}
	answers := make([]time.Duration, len(t.done))
	for k, s := range t.done {
		answers[k] = s.answered
	}
	slices.Sort(answers)
	for k, at := range answers {
		times = append(times, at-due-time.Duration(k)*every)
	}
	slices.Sort(times)
	return times
}

// percentileOf is one of sorted times, by the same rank as a Distribution's.
func percentileOf(times []time.Duration, p float64) time.Duration {
	return times[min(len(times)-1, max(0, int(math.Ceil(p/100*float64(len(times))-1e-9))-1))]
}

// held is answers by when they are due.
type held []answerAt

type answerAt struct {
	due, read time.Duration
	conn      net.Conn
	text      string
}

func (h held) Len() int           { return len(h) }
func (h held) Less(i, j int) bool { return h[i].due < h[j].due }
func (h held) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *held) Push(x any)        { *h = append(*h, x.(answerAt)) }
func (h *held) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// slowServer echoes each message on /slow after a time that table has for it, in turn, and on any other path at once.
func slowServer(t testing.TB, table []time.Duration) (host string, did *ledger) {
	did = &ledger{begin: time.Now()}
	come := make(chan answerAt, 1000)
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		var waiting held
		timer := time.NewTimer(time.Hour)
		defer timer.Stop()
		for {
			select {
			case a := <-come:
				heap.Push(&waiting, a)
			case <-timer.C:
			case <-over:
				return
			}
			for len(waiting) > 0 && waiting[0].due <= did.now() {
				a := heap.Pop(&waiting).(answerAt)
				say(a.conn, []byte(a.text))
				did.note(a.read)
			}
			if len(waiting) > 0 {
				timer.Reset(waiting[0].due - did.now())
			}
		}
	})
	t.Cleanup(func() { close(over); wg.Wait() })
	var mu sync.Mutex
	turn := 0
	return serve(t, nil, func(c net.Conn) {
		req, r, err := wstest.Upgrade(c)
		if err != nil {
			return
		}
		if req.URL.Path != "/slow" {
			messages(c, r, func(payload []byte) { say(c, payload) })
			return
		}
		messages(c, r, func(payload []byte) {
			read := did.now()
			mu.Lock()
			d := table[turn%len(table)]
			turn++
			mu.Unlock()
			select {
			case come <- answerAt{read + d, read, c, string(payload)}:
			case <-over:
			}
		})
	}), did
}

// stallingServer echoes each message at once, but answers nobody for 200 ms of each second since the first message.
func stallingServer(t testing.TB) (host string, did *ledger) {
	const period, first, stall = time.Second, 400 * time.Millisecond, 200 * time.Millisecond
	did = &ledger{begin: time.Now()}
	var gate sync.RWMutex
	over, begun := make(chan struct{}), make(chan struct{})
	begin := sync.OnceFunc(func() { close(begun) })
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-begun:
		case <-over:
			return
		}
		wait := func(until time.Time) bool {
			timer := time.NewTimer(time.Until(until))
			defer timer.Stop()
			select {
			case <-timer.C:
				return true
			case <-over:
				return false
			}
		}
		for at := time.Now().Add(first); wait(at); at = at.Add(period) {
			gate.Lock()
			wait(at.Add(stall))
			gate.Unlock()
		}
	})
	t.Cleanup(func() { close(over); wg.Wait() })
	return serve(t, nil, func(c net.Conn) {
		req, r, err := wstest.Upgrade(c)
		if err != nil {
			return
		}
		slow := req.URL.Path == "/slow"
		messages(c, r, func(payload []byte) {
			if !slow {
				say(c, payload)
				return
			}
			read := did.now()
			begin()
			gate.RLock()
			say(c, payload)
			gate.RUnlock()
			did.note(read)
		})
	}), did
}

// lognormal is a table of times with a median and a spread, seeded, in no order.
func lognormal(n int, median time.Duration, sigma float64) []time.Duration {
	r := rand.New(rand.NewPCG(7, 11))
	table := make([]time.Duration, n)
	for i := range table {
		table[i] = time.Duration(float64(median) * math.Exp(sigma*r.NormFloat64()))
	}
	return table
}

// measure runs the open model against /slow of a server, and as much load against its /fast for the floor: how long the
// generator, the loopback and a server take that has nothing to do.
func measure(t testing.TB, host string, conns int, rate float64, d time.Duration) (slow, floor *Latencies) {
	t.Helper()
	s := decode(t, "ws://"+host+"/", fmt.Sprintf("timeout: 20s\nscenarios: [{kind: echo, name: slow, path: /slow}, {kind: echo, name: floor, path: /fast}]\n"+
		"stages: [{kind: ramp, to: %d, for: 0s}, {kind: soak, for: 100ms}, {kind: ramp, of: rate, to: %g, for: 0s}, {kind: soak, for: %v}]", 2*conns, 2*rate, d))
	r := carryOut(t, s, Options{})
	for _, o := range r.Scenarios {
		for why, n := range o.Errors {
			if why != "exchange_unsent" || n > o.Due/20 {
				t.Fatalf("%s: %d times %s of %d", o.Name, n, why, o.Due)
			}
		}
	}
	return r.Scenarios[0].Latency, r.Scenarios[1].Latency
}

// TestAccuracy holds what is reported against what servers know they did. They may differ by 1 % and by the floor, which is
// measured at the same time, so that a machine that is busy with something else widens the bound by what it took. There are
// three tries: what is off is so each time.
func TestAccuracy(t *testing.T) {
	long := 2 * time.Second
	if *printed {
		long = 30 * time.Second
	}
	t.Run("known distribution", func(t *testing.T) {
		thrice(t, func(a *accuracy) {
			host, did := slowServer(a.t, lognormal(100_000, 100*time.Millisecond, 0.4))
			slow, floor := measure(a.t, host, 100, 300, long)
			a.compare("log-normal, corrected", did.service(), slow.Corrected, floor.Corrected, 50, 75, 90, 95, 99)
			a.compare("log-normal, service", did.service(), slow.Service, floor.Service, 50, 75, 90, 95, 99)
		})
	})
	t.Run("stalls", func(t *testing.T) {
		thrice(t, func(a *accuracy) {
			const rate = 500
			host, did := stallingServer(a.t)
			slow, floor := measure(a.t, host, 5, rate, long)
			a.compare("stalls, corrected", did.corrected(time.Second/rate), slow.Corrected, floor.Corrected, 90, 95, 99)
			// One message in five was due while the server stalled, and one in a hundred was on its way by then: the service time
			// is the floor.
			a.lines = append(a.lines, fmt.Sprintf("%-22s p90 true %8.3f ms, reported %8.3f ms", "stalls, service", ms(percentileOf(did.service(), 90)), ms(timeAt(slow.Service, 90))))
			if service, corrected := timeAt(slow.Service, 90), timeAt(slow.Corrected, 90); service > corrected/4 {
				a.wrong("p90 of the service time is %v beside %v: it hides no stalls any more", service, corrected)
			}
		})
	})
}

// accuracy is one try.
type accuracy struct {
	t      *testing.T
	lines  []string
	faults []string
	busy   bool // the machine was too busy to tell 1 %
}

func (a *accuracy) wrong(format string, args ...any) {
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

// compare holds percentiles against those of what really was.
func (a *accuracy) compare(what string, truth []time.Duration, got, floor Percentiles, percentiles ...float64) {
	for _, q := range percentiles {
		want, have := percentileOf(truth, q), timeAt(got, q)
		// Where few samples have most of the floor they move the middle of a wide distribution by its mean.
		mean := time.Duration(floor.Mean * 1e3)
		least := max(timeAt(floor, q), mean)
		a.busy = a.busy || want > 20*time.Millisecond && mean > want/50
		a.lines = append(a.lines, fmt.Sprintf("%-22s p%-3g true %8.3f ms, reported %8.3f ms, off by %6.3f ms, floor %6.3f ms", what, q, ms(want), ms(have), ms(have-want), ms(least)))
		if bound := want/100 + least; have < want-bound || have > want+bound {
			a.wrong("%s: p%g is %v, reported as %v; want at most %v between them", what, q, want, have, bound)
		}
	}
}

// thrice has a measurement made, and made again if it was off.
func thrice(t *testing.T, f func(*accuracy)) {
	off := 0
	for try := 1; try <= 3; try++ {
		a := &accuracy{t: t}
		f(a)
		for _, l := range a.lines {
			if *printed {
				l = "figure: " + l
			}
			t.Log(l)
		}
		if len(a.faults) == 0 {
			return
		}
		for _, f := range a.faults {
			t.Logf("try %d: %s", try, f)
		}
		if !a.busy {
			off++
		}
	}
	if off < 2 {
		t.Skip("the machine was too busy, twice at least, to tell 1 % apart: its floor alone was more")
	}
	t.Fatalf("off in three tries, in %d of them on a machine that had time", off)
}

// timeAt is one of the percentiles.
func timeAt(p Percentiles, q float64) time.Duration {
	us := map[float64]float64{50: p.P50, 75: p.P75, 90: p.P90, 95: p.P95, 99: p.P99}[q]
	return time.Duration(us * 1e3)
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }
