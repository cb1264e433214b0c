package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"time"
)

// profilerConfig is how a subject samples allocations.
type profilerConfig struct {
	Rate int // runtime.MemProfileRate; below 0 leaves what it is
}

// What a profiler's subject is asked beside what all are.
const (
	askRate     = "rate"     // what runtime.MemProfileRate is
	askAllocate = "allocate" // an allocation; answered by how many stacks the profile has of it so far
	askRecorded = "recorded" // the latter alone
	askHold     = "hold"     // so many goroutines that wait and have 8 KiB each
	askMap      = "map"      // so many bytes outside of the runtime
	askGoal     = "goal"     // a goalQuestion, answered by goals
	askCollect  = "collect"  // a growing heap and one collection of its own, answered by goals
	askCycle    = "cycle"    // one collection
)

// allocation is objects that are kept.
type allocation struct{ Count, Size int }

// goalQuestion is garbage at a rate, and what is alive meanwhile.
type goalQuestion struct {
	Percent int           // GOGC
	Live    int           // bytes
	Chunk   int           // bytes of garbage at a time
	Pause   time.Duration // between them
}

// goals are heap goals in bytes: the one that a collection had, the one that it left, what it found alive, and its number.
type goals struct {
	Had, Left, Live uint64
	Number          uint32
}

// profilerSubject keeps what it allocates.
type profilerSubject struct {
	kept    [][]byte
	frees   []func() // what is outside
	wait    chan struct{}
	waiting sync.WaitGroup
	garbage []byte
}

func newProfilerSubject(_ context.Context, c profilerConfig) (*subject, error) {
	if c.Rate >= 0 {
		runtime.MemProfileRate = c.Rate
	}
	p := &profilerSubject{wait: make(chan struct{})}
	p.markKept()
	s, url, err := serveProfiles()
	if err != nil {
		return nil, err
	}
	return &subject{addr: strings.TrimPrefix(url, "http://"), ask: p.ask, close: func() error {
		close(p.wait)
		p.waiting.Wait()
		for _, free := range p.frees {
			free()
		}
		return s.Close()
	}}, nil
}

// ask answers.
func (p *profilerSubject) ask(ctx context.Context, what string, arg json.RawMessage) (any, error) {
	switch what {
	case askRate:
		return runtime.MemProfileRate, nil
	case askAllocate:
		var a allocation
		if err := json.Unmarshal(arg, &a); err != nil {
			return nil, err
		}
		if a.Count < 0 || a.Size < 1 || a.Count > 1<<24/a.Size {
			return nil, fmt.Errorf("%d objects of %d bytes: want 16 MiB at most", a.Count, a.Size)
		}
		p.kept = append(p.kept, keepForProfile(a)...)
		return recorded("keepForProfile"), nil
	case askRecorded:
		return recorded("keepForProfile"), nil
	case askHold:
		var n int
		if err := json.Unmarshal(arg, &n); err != nil {
			return nil, err
		}
		for range min(n, 100_000) {
			p.waiting.Add(1)
			go p.holdAndWait()
		}
		return nil, nil
	case askMap:
		var n int
		if err := json.Unmarshal(arg, &n); err != nil {
			return nil, err
		}
		b, free, err := outside(min(n, 1<<28))
		if err != nil {
			return nil, err
		}
		p.frees = append(p.frees, free)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		return nil, nil
	case askGoal:
		var q goalQuestion
		if err := json.Unmarshal(arg, &q); err != nil {
			return nil, err
		}
		return p.goalAt(ctx, q)
	case askCollect:
		return p.collect(ctx)
	case askCycle:
		runtime.GC()
		return nil, nil
	}
	return nil, fmt.Errorf("asked for %q, which it does not know", what)
}

// keepForProfile allocates what the profile is asked for by its name.
//
//go:noinline
func keepForProfile(a allocation) [][]byte {
	out := make([][]byte, a.Count)
	for i := range out {
		out[i] = make([]byte, a.Size)
	}
	return out
}

// markKept keeps what a profile of a stretch of time does not show.
//
//go:noinline
func (p *profilerSubject) markKept() { p.kept = append(p.kept, make([]byte, 4<<20)) }

// holdAndWait has some memory as long as it waits.
//
//go:noinline
func (p *profilerSubject) holdAndWait() {
	defer p.waiting.Done()
	b := make([]byte, 8<<10)
	b[0] = 1
	<-p.wait
	runtime.KeepAlive(b)
}

// recorded is how many allocations of a function the runtime has recorded, not scaled to what they stand for.
func recorded(function string) (n int64) {
	records := make([]runtime.MemProfileRecord, 1000)
	for {
		k, ok := runtime.MemProfile(records, true)
		if ok {
			records = records[:k]
			break
		}
		records = make([]runtime.MemProfileRecord, 2*k+100)
	}
	for _, r := range records {
		frames := runtime.CallersFrames(r.Stack())
		for {
			f, more := frames.Next()
			if strings.HasSuffix(f.Function, "."+function) {
				n += r.AllocObjects
				break
			}
			if !more {
				break
			}
		}
	}
	return n
}

// readGoals reads the goal that is in force and the live heap of the last collection.
func readGoals() (goal, live uint64) {
	s := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	value := func(v metrics.Value) uint64 {
		if v.Kind() != metrics.KindUint64 {
			return 0
		}
		return v.Uint64()
	}
	return value(s[0].Value), value(s[1].Value)
}

func collections() uint32 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.NumGC
}

// mostGarbage bounds what is allocated to bring a collection about.
const mostGarbage = 4 << 30

// untilCollected allocates garbage until a collection was.
func (p *profilerSubject) untilCollected(ctx context.Context, chunk int, pause time.Duration) error {
	number := collections()
	for n := 0; n < mostGarbage; n += chunk {
		p.garbage = make([]byte, chunk)
		if n/chunk%8 == 0 && collections() != number {
			return nil
		}
		if pause > 0 {
			time.Sleep(pause)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return errors.New("no collection came")
}

// goalAt is the goal that settles with so much alive and garbage at a rate.
func (p *profilerSubject) goalAt(ctx context.Context, q goalQuestion) (g goals, err error) {
	if q.Chunk < 1<<10 || q.Live < 0 || q.Live > 1<<28 || q.Pause > time.Second {
		return g, fmt.Errorf("a question about goals that makes no sense: %+v", q)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(q.Percent))
	live := make([]byte, q.Live)
	runtime.GC()
	runtime.GC()
	for range 3 {
		g.Had, _ = readGoals()
		if err := p.untilCollected(ctx, q.Chunk, q.Pause); err != nil {
			return g, err
		}
	}
	g.Left, g.Live = readGoals()
	g.Number = collections()
	runtime.KeepAlive(live)
	return g, nil
}

// collect has the heap grow, so that the goal which a collection had and the one which it leaves differ, and reads both.
func (p *profilerSubject) collect(ctx context.Context) (g goals, err error) {
	p.kept = append(p.kept, make([]byte, 8<<20))
	runtime.GC()
	runtime.GC()
	g.Had, _ = readGoals()
	number := collections()
	// All but a little of what is allocated from here to the collection stays alive.
	for range 1 << 12 {
		p.kept = append(p.kept, make([]byte, 256<<10))
		if collections() != number || ctx.Err() != nil {
			break
		}
	}
	if n := collections(); n != number+1 {
		return g, fmt.Errorf("%d collections where one was wanted", n-number)
	}
	g.Left, g.Live = readGoals()
	g.Number = number + 1
	return g, nil
}
