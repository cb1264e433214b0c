package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/longwire/longwire/internal/report"
)

func finalizerExperiment() Experiment {
	return Experiment{
		Name:   "finalizer",
		Title:  "Finalizers and cleanups that start goroutines",
		Claims: claimsOf("finalizer"),
		About: "Objects with 64 KiB of data each get a finalizer or a cleanup in one of several ways, the article's program among them, and are dropped. " +
			"Collections run; weak pointers tell which data is still there while the goroutines run, and after they ended.",
		Run:      runFinalizer,
		subjects: map[string]maker{"finalizer": makes(newFinalizerSubject)},
	}
}

// The ways.
const (
	finalizerArticle = "article"        // SetFinalizer starts a goroutine that does not use the object, as the article's program
	finalizerUses    = "uses"           // SetFinalizer starts a goroutine that does
	finalizerBlocks  = "blocks"         // the finalizer itself waits
	finalizerCycle   = "cycle"          // two objects with finalizers point at each other
	cleanupStarts    = "cleanup"        // AddCleanup starts a goroutine
	cleanupHolds     = "cleanup-holds"  // AddCleanup with an argument that leads to the object
	finalizerEnds    = "finalizer-ends" // mended: the goroutine is told to end by the finalizer of what it watches
	finalizerClosed  = "explicit"       // mended: Close ends the goroutine, and there is no finalizer
	finalizerPlain   = "without"        // no finalizer and no goroutine
	finalizerOnly    = "finalizer-only" // a finalizer that only counts
	finalizerData    = 64 << 10         // bytes an object has
	finalizerLong    = 5 * time.Second  // what ends by itself has this long to
)

type finalizerConfig struct {
	Way   string
	Count int
}

// finalizerState is what is left.
type finalizerState struct {
	Alive      int // objects whose data is still there
	Ran        int // finalizers and cleanups
	Goroutines int // of those that they, or the objects, started
}

// resource is the article's Resource.
type resource struct {
	data  []byte
	other *resource
	done  chan struct{} // of those that are told to end
}

// finalizerSubject has objects of one way.
type finalizerSubject struct {
	way     string
	count   int
	release chan struct{} // closed when goroutines are to end, where the article sleeps for an hour
	ran     atomic.Int64
	running atomic.Int64

	data []weak.Pointer[byte] // to the objects' data: a finalizer does not clear these while it has the object
	used atomic.Int64         // what goroutines that use an object read from it
	once sync.Once
}

func newFinalizerSubject(_ context.Context, c finalizerConfig) (*subject, error) {
	if c.Count < 1 || c.Count > 1<<20 {
		return nil, fmt.Errorf("%d objects: want 1 to %d", c.Count, 1<<20)
	}
	f := &finalizerSubject{way: c.Way, count: c.Count, release: make(chan struct{})}
	return &subject{close: f.stop, ask: func(_ context.Context, what string, _ json.RawMessage) (any, error) {
		switch what {
		case "make":
			return nil, f.make()
		case "release":
			f.end()
			return nil, nil
		case "state":
			return f.state(), nil
		}
		return nil, fmt.Errorf("asked for %q, which it does not know", what)
	}}, nil
}

// stop ends the goroutines and waits for them. Finalizers may start some even then, which end at once, so that they cannot
// be in a WaitGroup.
func (f *finalizerSubject) stop() error {
	f.end()
	for late := time.Now().Add(finalizerLong); f.running.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			return fmt.Errorf("%d goroutines did not end", f.running.Load())
		}
	}
	return nil
}

func (f *finalizerSubject) end() { f.once.Do(func() { close(f.release) }) }

// make makes the objects and drops them.
func (f *finalizerSubject) make() error {
	for range f.count {
		r := &resource{data: make([]byte, finalizerData)}
		r.data[0] = 1
		f.data = append(f.data, weak.Make(&r.data[0]))
		if err := f.arm(r); err != nil {
			return err
		}
	}
	return nil
}

// arm gives an object what its way has.
func (f *finalizerSubject) arm(r *resource) error {
	switch f.way {
	case finalizerPlain:
	case finalizerOnly:
		runtime.SetFinalizer(r, func(*resource) { f.ran.Add(1) })
	case finalizerArticle:
		runtime.SetFinalizer(r, func(obj *resource) { f.ran.Add(1); f.startWatcher(obj) })
	case finalizerUses:
		runtime.SetFinalizer(r, func(obj *resource) { f.ran.Add(1); f.startUser(obj) })
	case finalizerBlocks:
		runtime.SetFinalizer(r, func(*resource) {
			f.running.Add(1)
			<-f.release // the fault: all finalizers run in this goroutine
			f.running.Add(-1)
			f.ran.Add(1)
		})
	case finalizerCycle:
		o := &resource{other: r}
		r.other = o
		runtime.SetFinalizer(r, func(*resource) { f.ran.Add(1) })
		runtime.SetFinalizer(o, func(*resource) {})
	case cleanupStarts:
		runtime.AddCleanup(r, func(f *finalizerSubject) { f.ran.Add(1); f.startWatcher(nil) }, f)
	case cleanupHolds:
		// AddCleanup panics for an argument, or a function, that has the object itself. It does not see one that has it
		// behind another pointer.
		o := &resource{other: r}
		runtime.AddCleanup(r, func(o *resource) { f.ran.Add(1); f.used.Add(int64(len(o.other.data))) }, o) // the fault
	case finalizerEnds:
		// The goroutine knows the channel and not the object, so the object can go, and takes the goroutine with it.
		r.done = make(chan struct{})
		f.goroutine(r.done, nil)
		runtime.SetFinalizer(r, func(obj *resource) { f.ran.Add(1); close(obj.done) })
	case finalizerClosed:
		r.done = make(chan struct{})
		f.goroutine(r.done, r)
		close(r.done) // what the object's user calls Close for
	default:
		return fmt.Errorf("there is no way %q", f.way)
	}
	return nil
}

// startWatcher is the article's method of the object: the goroutine that it starts does not use the object.
func (f *finalizerSubject) startWatcher(*resource) { f.goroutine(nil, nil) }

// startUser starts a goroutine that does.
func (f *finalizerSubject) startUser(obj *resource) { f.goroutine(nil, obj) }

// goroutine starts one that waits until done or release is closed, and then uses obj, if there is one.
func (f *finalizerSubject) goroutine(done <-chan struct{}, obj *resource) {
	f.running.Add(1)
	go func() {
		select { // the fault, where nothing but an hour ends it
		case <-f.release:
		case <-done:
		}
		if obj != nil {
			f.used.Add(int64(obj.data[0]))
		}
		f.running.Add(-1)
	}()
}

// state collects until nothing changes, and says what is left.
func (f *finalizerSubject) state() finalizerState {
	var last finalizerState
	late := time.Now().Add(finalizerLong)
	for still := 0; still < 5 && time.Now().Before(late); still++ {
		// One collection finds an object, its finalizer runs beside the program, the next one frees it.
		runtime.GC()
		runtime.GC()
		s := finalizerState{Ran: int(f.ran.Load()), Goroutines: int(f.running.Load())}
		for _, w := range f.data {
			if w.Value() != nil {
				s.Alive++
			}
		}
		if s != last || f.way != finalizerBlocks && pending() {
			still, last = 0, s
		}
		time.Sleep(10 * time.Millisecond) // for the goroutines of finalizers and cleanups
	}
	return last
}

// pending tells whether finalizers or cleanups wait for their turn.
func pending() bool {
	m := []metrics.Sample{{Name: "/gc/finalizers/queued:finalizers"}, {Name: "/gc/finalizers/executed:finalizers"}, {Name: "/gc/cleanups/queued:cleanups"}, {Name: "/gc/cleanups/executed:cleanups"}}
	metrics.Read(m)
	for _, x := range m {
		if x.Value.Kind() != metrics.KindUint64 {
			return false
		}
	}
	return m[0].Value.Uint64() != m[1].Value.Uint64() || m[2].Value.Uint64() != m[3].Value.Uint64()
}

// finalizerFigures is what was measured of one way.
type finalizerFigures struct {
	count                  int
	during, after          finalizerState
	base, holding, release Sample
}

// finalizerCases are the ways in the order in which they are shown.
var finalizerCases = []struct{ name, way string }{
	{"no finalizer, no goroutine", finalizerPlain},
	{"a finalizer that only counts", finalizerOnly},
	{"the article's program: the goroutine does not use the object", finalizerArticle},
	{"the goroutine uses the object", finalizerUses},
	{"the finalizer itself waits", finalizerBlocks},
	{"two objects with finalizers in a cycle", finalizerCycle},
	{"AddCleanup starts a goroutine", cleanupStarts},
	{"AddCleanup whose argument leads to the object", cleanupHolds},
	{"mended: the finalizer ends the goroutine", finalizerEnds},
	{"mended: Close ends the goroutine, no finalizer", finalizerClosed},
}

func runFinalizer(ctx context.Context, r *Run) error {
	n := r.Of(500)
	t := r.Table(fmt.Sprintf("%d objects of 64 KiB, dropped", n), "way", "ran", "while goroutines run: objects alive", "goroutines", "heap", "after they ended: objects alive", "goroutines", "heap")
	all := map[string]finalizerFigures{}
	for _, c := range finalizerCases {
		r.Log("%s", c.name)
		f, err := measureFinalizer(ctx, r, c.way, n)
		if err != nil {
			return err
		}
		all[c.way] = f
		grown := func(s Sample) Quantity { return Size(max(0, float64(s.Heap)-float64(f.base.Heap))) }
		t.Row(c.name, f.during.Ran, f.during.Alive, f.during.Goroutines, grown(f.holding), f.after.Alive, f.after.Goroutines, grown(f.release))
		r.Figure("objects alive while goroutines run: "+c.way, float64(f.during.Alive), report.Count)
		r.Figure("objects alive after: "+c.way, float64(f.after.Alive), report.Count)
	}
	r.Note("The goroutines wait for a channel where the article's sleep for an hour, so that what is left after they ended can be seen.")
	judgeFinalizer(r, all)
	return nil
}

func measureFinalizer(ctx context.Context, r *Run, way string, n int) (f finalizerFigures, err error) {
	p, err := r.Start(ctx, "finalizer", finalizerConfig{way, n}, nil)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	f.count = n
	if f.base, err = p.Sample(ctx, 2); err != nil {
		return f, err
	}
	if err := p.Ask(ctx, "make", nil, nil); err != nil {
		return f, err
	}
	if err := p.Ask(ctx, "state", nil, &f.during); err != nil {
		return f, err
	}
	if f.holding, err = p.Sample(ctx, 1); err != nil {
		return f, err
	}
	if err := p.Ask(ctx, "release", nil, nil); err != nil {
		return f, err
	}
	if err := p.Ask(ctx, "state", nil, &f.after); err != nil {
		return f, err
	}
	f.release, err = p.Sample(ctx, 1)
	return f, err
}

func judgeFinalizer(r *Run, all map[string]finalizerFigures) {
	article, uses, cleanup, blocks := all[finalizerArticle], all[finalizerUses], all[cleanupStarts], all[finalizerBlocks]
	most := func(n, of int) bool { return of > 0 && n*10 >= of*9 }

	says := fmt.Sprintf("while its goroutines ran, the article's program kept %d of %d objects; with a goroutine that uses the object %d, and %d after the goroutines ended. With AddCleanup, whose function is not given the object, %d. "+
		"A finalizer that waits by itself keeps %d, since all finalizers share a goroutine", article.during.Alive, article.count, uses.during.Alive, uses.after.Alive, cleanup.during.Alive, blocks.during.Alive)
	switch {
	case most(article.during.Alive, article.count):
		r.Verdict("finalizer-retains", Holds, says)
	case most(uses.during.Alive, uses.count):
		r.Verdict("finalizer-retains", HoldsInPart, says)
	default:
		r.Verdict("finalizer-retains", DoesNotHold, says)
	}

	says = fmt.Sprintf("%d of %d objects were there while the printed program's goroutines ran: a closure captures the variables that it names, and this one names none", article.during.Alive, article.count)
	switch {
	case most(article.during.Alive, article.count):
		r.Verdict("finalizer-captures", Holds, fmt.Sprintf("%d of %d objects were there while the printed program's goroutines ran", article.during.Alive, article.count))
	case article.during.Alive*10 >= article.count:
		r.Verdict("finalizer-captures", HoldsInPart, says)
	default:
		r.Verdict("finalizer-captures", DoesNotHold, says)
	}

	says = fmt.Sprintf("%d goroutines ran for %d objects of the article's program, and %d with AddCleanup; where the finalizer, or a Close, ends the goroutine, %d and %d were left",
		article.during.Goroutines, article.count, cleanup.during.Goroutines, all[finalizerEnds].during.Goroutines, all[finalizerClosed].during.Goroutines)
	switch {
	case most(article.during.Goroutines, article.count):
		r.Verdict("finalizer-goroutines", Holds, says)
	case article.during.Goroutines > 0:
		r.Verdict("finalizer-goroutines", HoldsInPart, says)
	default:
		r.Verdict("finalizer-goroutines", DoesNotHold, says)
	}
}
