package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// heapCheck asks what survives the collections, more of it each time, and what keeps it.
var heapCheck = Check{
	Name: "heap growth",
	Skip: func(e *Evidence) string {
		if len(e.Heap) < 4 {
			return "it takes four heap profiles or more, of one run, in order"
		}
		return ""
	},
	Ask: askHeap,
}

// site is the allocations of one line of the program's own: what it calls to allocate is not what is to blame.
type site struct {
	frames  []Frame // the stack with the most growth
	own     int     // the program's own frame in it nearest to the allocation, -1 if none
	most    float64 // its growth
	objects []float64
	bytes   []float64
	samples []float64 // how many objects the profiler really took
	allocs  []float64 // objects allocated since the start
	// allocBytes are theirs.
	allocBytes []float64
	// swells says that single objects became large meanwhile, by size and not by number: 16 KiB and more on average.
	swells bool
}

// sitesOf arranges the profiles by site.
func sitesOf(e *Evidence, p places) map[string]*site {
	n := len(e.Heap)
	sites := map[string]*site{}
	type stackSeries struct {
		frames []Frame
		own    int
		bytes  []float64
		key    string
		// What it had allocated at the first look and at the last.
		made, madeBytes [2]int64
	}
	stacks := map[string]*stackSeries{}
	for i, h := range e.Heap {
		for _, s := range h.Sites {
			if ofProfiler(s.Frames) {
				continue
			}
			own := p.firstOwn(s.Frames)
			key := ""
			if own >= 0 {
				key = fmt.Sprintf("%s:%d", s.Frames[own].File, s.Frames[own].Line)
			} else {
				key = "std " + s.Frames[0].Function + " " + s.Frames[len(s.Frames)-1].Function
			}
			g := sites[key]
			if g == nil {
				g = &site{own: -1, objects: make([]float64, n), bytes: make([]float64, n), samples: make([]float64, n), allocs: make([]float64, n), allocBytes: make([]float64, n)}
				sites[key] = g
			}
			g.objects[i] += float64(s.Objects)
			g.bytes[i] += float64(s.Bytes)
			g.allocs[i] += float64(s.AllocObjects)
			g.allocBytes[i] += float64(s.AllocBytes)
			g.samples[i] += samples(s.Objects, s.Bytes, h.Rate)
			id := stackKey(s.Frames)
			st := stacks[id]
			if st == nil {
				st = &stackSeries{frames: s.Frames, own: own, bytes: make([]float64, n), key: key}
				stacks[id] = st
				if i == 0 {
					st.made[0], st.madeBytes[0] = s.AllocObjects, s.AllocBytes
				}
			}
			st.bytes[i] += float64(s.Bytes)
			st.made[1], st.madeBytes[1] = s.AllocObjects, s.AllocBytes
		}
	}
	for _, id := range slices.Sorted(maps.Keys(stacks)) {
		st := stacks[id]
		g := sites[st.key]
		if made, bytes := st.made[1]-st.made[0], st.madeBytes[1]-st.madeBytes[0]; made > 0 && bytes >= 2<<20 && bytes/made >= 16<<10 {
			g.swells = true
		}
		if grown := st.bytes[n-1] - st.bytes[0]; g.frames == nil || grown > g.most {
			g.frames, g.own, g.most = st.frames, st.own, grown
		}
	}
	return sites
}

func stackKey(frames []Frame) string {
	var b strings.Builder
	for _, f := range frames {
		fmt.Fprintf(&b, "%s:%d;", f.Function, f.Line)
	}
	return b.String()
}

// ofProfiler says whether a stack is that of serving profiles: what the doctor itself causes.
func ofProfiler(frames []Frame) bool {
	return slices.ContainsFunc(frames, func(f Frame) bool {
		p := packageOf(f.Function)
		return p == "runtime/pprof" || p == "net/http/pprof"
	})
}

func (e *Evidence) heapAxis() axis {
	var times []time.Duration
	for _, h := range e.Heap {
		times = append(times, h.At)
	}
	return workAxis(e, times)
}

// grows says whether a site's memory grows as a leak's does: beyond chance, all the time, and with no sign of an end. total is
// the trend of the whole heap after collections, which is exact: where that grows all the time, few samples tell where.
// kept says that the source has a collection or registry that keeps what the site allocates, cache that it is one that is looked up.
func (g *site) grows(a axis, total trend, kept, cache bool) (t trend, ok bool) {
	n := len(g.bytes)
	t = trendOf(a, g.bytes)
	if t.confidence < 0.99 || t.last <= t.first {
		return t, false
	}
	if g.samples[n-1] < 4 && g.bytes[n-1]/max(g.objects[n-1], 1) >= 256<<10 {
		// A few large objects that are replaced by larger ones: a slice or a map that grows by doubling. Its steps get
		// rarer as it grows, so an even pace cannot be asked of it, only that it does not shrink and still grows. While it is small the
		// profiler may miss it.
		from := n - 1
		for from > 0 && g.bytes[from-1] > 0 {
			from--
		}
		large := trendOf(axis{times: a.times[from:]}, g.bytes[from:])
		return t, !large.fell && large.steps >= 3 && large.stepsLate >= 1 && g.bytes[n-1] >= 1.5*g.bytes[from]
	}
	if t.fell {
		return t, false
	}
	taken := g.samples[n-1] - g.samples[0]
	share := (t.last - t.first) / max(1, total.last-total.first)
	levelling := total.levelling || cache && total.rarer
	switch {
	case total.surely() && !levelling && share >= 1.0/6:
		return t, taken >= 2 || kept && taken >= 0.9
	case total.confidence > 0 && levelling && share >= 0.5:
		return t, false // the site's own figures are too coarse to show it
	}
	if levelsOff(a, g.samples, cache) {
		return t, false
	}
	return t, beyondChance(median(g.samples[:n/4]), median(g.samples[n-n/4:]))
}

// surely says of the exact trend of the whole heap that it is that of a leak.
func (t trend) surely() bool {
	return t.confidence >= 0.999 && !t.fell && !t.levelling && t.last-t.first >= 512<<10
}

// heapTrend is the trend of all that is alive, as the runtime counts it right after the collections that the doctor asked for.
// The zero trend is unknown: between collections, what is dead is counted too.
func heapTrend(e *Evidence) trend {
	if len(e.Memory) != len(e.Heap) || len(e.Memory) < 2 {
		return trend{}
	}
	if e.Memory[len(e.Memory)-1].NumForcedGC < e.Memory[0].NumForcedGC+uint64(len(e.Memory)-1) {
		return trend{}
	}
	var alive []float64
	for _, m := range e.Memory {
		alive = append(alive, float64(m.HeapAlloc))
	}
	return trendOf(e.heapAxis(), alive)
}

// growing is a site that leaks, as far as its figures say.
type growing struct {
	*site
	trend
	best  *site // of those that are merged in site, the one that grows most
	keep  Keep
	kept  bool
	line  Line
	where string
	// library says that the line is one of others' code.
	library bool
}

func askHeap(e *Evidence) []Finding {
	p := e.places()
	at := e.heapAxis()
	sites := sitesOf(e, p)
	stuck := stuckFunctions(e)
	total := heapTrend(e)
	byLine := map[string][]*growing{}
	full := map[string]bool{} // lines that give objects back to a pool as they are
	var foreign []growing
	for _, key := range slices.Sorted(maps.Keys(sites)) {
		g := sites[key]
		if g.own < 0 {
			if t, ok := g.grows(at, total, false, false); ok {
				foreign = append(foreign, growing{site: g, trend: t})
			}
			continue
		}
		n := len(g.bytes) - 1
		swells := g.swells
		if g.bytes[n] <= g.bytes[0] && !swells {
			continue
		}
		one := &growing{site: g}
		one.locate(e, p)
		if !one.kept || one.keep.rank < rankField || one.keep.guessed {
			one.locateInLibrary(e, p)
		}
		k := fmt.Sprintf("%s:%d", one.line.File, one.line.Line)
		if swells && one.keep.pool.known() {
			// What goes back to a pool full is lost and found again with the pool's other objects, and collections empty the pool:
			// its memory does not grow evenly.
			full[k] = true
		}
		byLine[k] = append(byLine[k], one)
	}
	var list []Finding
	var holders []*growing
	for _, k := range slices.Sorted(maps.Keys(byLine)) {
		// What is kept at one line is one thing, however many lines allocate it: the key, the value, the map.
		g := merge(byLine[k])
		if g.mayHold(e.Source) {
			holders = append(holders, g)
		}
		t, ok := g.grows(at, total, g.kept && g.keep.rank >= rankContainer, e.Source.bounds(g.keep.Holder).lookedUp)
		if ok && t.slope <= 0 && !full[k] {
			// Few samples rise in one step: then the median of all slopes is none.
			t.slope = (t.last - t.first) / max(1, (e.Heap[len(e.Heap)-1].At-e.Heap[0].At).Seconds())
		}
		g.trend = t
		if !ok && !full[k] {
			continue
		}
		if (!g.kept || g.keep.rank <= rankGoroutine) && heldByStuck(g.frames, stuck) {
			continue // goroutines that do not end hold it: that finding names them
		}
		if g.kept && g.filling(e.Source) && !g.line.same(g.keep.part) {
			continue
		}
		list = append(list, heapFinding(e, g, byLine[k]))
	}
	slices.SortStableFunc(list, func(a, b Finding) int { return cmp.Compare(b.PerHour, a.PerHour) })
	if len(list) == 0 && len(foreign) > 0 && len(stuck) == 0 {
		kept := e.Source.keptOfHanded(e, p, foreign)
		if g, of := holderOf(holders, foreign, kept); g != nil {
			list = append(list, holderFinding(e, g, of, byLine))
		} else {
			list = append(list, foreignFinding(e, p, foreign, kept))
		}
	}
	// What grows at a fiftieth of the pace of the worst is most often its shadow.
	for i, f := range list {
		if f.PerHour < list[0].PerHour/50 {
			list = list[:i]
			break
		}
	}
	return list
}

// heapNotes tells of a heap that surely grows where no line was found: the figure of the whole is exact, those of its sites are samples.
func heapNotes(e *Evidence, found []Finding) []string {
	t := heapTrend(e)
	if !t.surely() || t.levelling || t.rarer || slices.ContainsFunc(found, func(f Finding) bool { return f.Severity > Minor }) {
		return nil
	}
	return []string{fmt.Sprintf("what survives collections grew from %s to %s, by %s an hour, and there were too few samples to tell where: look again for longer, such as --for 2m",
		bytesText(t.first), bytesText(t.last), bytesText(max(t.slope, 0)*3600))}
}

// merge adds up sites that are kept at one line. The one that grows most speaks for them.
func merge(list []*growing) *growing {
	best := list[0]
	for _, g := range list {
		if g.most > best.most {
			best = g
		}
	}
	sum := *best
	sum.best = best.site
	s := *best.site
	sum.site = &s
	n := len(s.bytes)
	for _, series := range []func(*site) *[]float64{
		func(s *site) *[]float64 { return &s.objects }, func(s *site) *[]float64 { return &s.bytes }, func(s *site) *[]float64 { return &s.samples },
		func(s *site) *[]float64 { return &s.allocs }, func(s *site) *[]float64 { return &s.allocBytes },
	} {
		total := make([]float64, n)
		for _, g := range list {
			for i, v := range *series(g.site) {
				total[i] += v
			}
		}
		*series(&s) = total
	}
	return &sum
}

// filling says whether what is seen is a collection that fills up to a size that the code gives it: its length is compared with a
// limit, or something is taken out wherever something is put in, and nothing was taken out yet.
func (g *growing) filling(s *Source) bool {
	against := s.bounds(g.keep.Holder)
	b := g.best // of the others, a map that grew leaves smaller ones behind
	n := len(b.objects) - 1
	if against.checked && (against.most == 0 || b.objects[n] < 2*float64(against.most)) {
		return true
	}
	if !s.pairs(g.keep, against) {
		return false
	}
	// If in the first half some went already, and there are more and more all the same, the taking out does not work.
	h := n / 2
	return b.objects[h]-b.objects[0] > 0.8*(b.allocs[h]-b.allocs[0])
}

// keepers are packages of the standard library that keep what they allocate in structures of their own, so that the line that
// calls them is the one that has to let go. What all others allocate, they give back to the caller.
var keepers = map[string]string{
	"context":        "a context is held by its parent until it is cancelled: call the cancel function on every path",
	"time":           "a timer that is running is held by the runtime until it fires or is stopped",
	"container/list": "the list keeps each element until it is removed",
	"container/ring": "the ring keeps its elements",
	"sync":           "what is stored stays until it is deleted",
	"internal/sync":  "what is stored stays until it is deleted",
	"os/signal":      "a channel stays registered until signal.Stop",
	"database/sql":   "rows and statements hold a connection until they are closed",
	"net/http":       "a response holds its connection until its body is closed",
	"expvar":         "published variables stay for good",
	"syscall":        "a mapping stays until it is unmapped",
}

// keeps says whether a frame is of a function that keeps what it allocates.
func (p places) keeps(f Frame) bool {
	return keepers[packageOf(f.Function)] != "" && p.owner(f) == standard && !constructs[lastName(f.Function)]
}

// locate finds the line to mend.
func (g *growing) locate(e *Evidence, p places) {
	f := g.frames[g.own]
	g.line = lineOf(f, "allocated here")
	if g.own > 0 {
		// Which of the standard library did the program call? The frame right above its own.
		above := g.frames[g.own-1]
		pkg := packageOf(above.Function)
		name := lastName(above.Function)
		if p.keeps(above) {
			g.where = keepers[pkg]
			g.line.Role = "kept from here"
			g.kept, g.keep = true, Keep{Line: g.line, What: "kept by " + shortFunction(above.Function), rank: rankContainer}
			if pkg == "sync" || pkg == "internal/sync" || pkg == "container/list" {
				// The holder is what the method is called on; it may be bounded.
				g.keep.Holder = e.Source.receiver(f, name)
			}
			return
		}
	}
	keeps := e.Source.keeps(g.frames, g.own, p)
	if len(keeps) == 0 {
		return
	}
	g.keep, g.kept = e.Source.unboundedOf(keeps), true
	g.line = g.keep.Line
	g.where = g.keep.What
	size := g.bytes[len(g.bytes)-1] / max(g.objects[len(g.objects)-1], 1)
	if g.keep.pool.known() && slices.ContainsFunc(keeps, func(k Keep) bool { return k.rank >= rankContainer && !k.pool.known() }) {
		g.keep.pool = Line{} // it is kept elsewhere too
	}
	switch {
	case g.keep.pool.known():
		// Memory that comes back out of the pool with its object is not lost by what fills it, but by what gives it back full.
		g.line, g.line.Role = g.keep.pool, "goes back to the pool here with all it has"
		g.where = "it is " + g.keep.What + ", and its owner goes back to a sync.Pool as it is"
	case g.keep.part.known() && size >= 512 && (g.keep.small || e.Source.isText(g.keep.part)):
		// A part keeps the whole alive. Where the whole is much larger than what is wanted of it, to copy the part is the mend.
		g.line = g.keep.part
		g.where = fmt.Sprintf("only a part of each %s is wanted, and the part keeps the whole", bytesText(size))
	}
}

// constructs are functions of keepers that only make something.
var constructs = map[string]bool{"NewRequest": true, "NewRequestWithContext": true, "Clone": true, "New": true, "ReadAll": true, "Header": true, "FormValue": true, "ParseForm": true, "PostFormValue": true, "Format": true, "Parse": true, "String": true}

// heapFinding is about one line; list are the sites whose memory it keeps.
func heapFinding(e *Evidence, g *growing, list []*growing) Finding {
	slope, grown, confidence := max(0, g.slope), g.last-g.first, g.confidence
	objects := g.objects[len(g.objects)-1] - g.objects[0]
	f := Finding{Severity: Major, Line: g.line, Confidence: confidence, PerHour: slope * 3600, rank: 50}
	f.Sentence = fmt.Sprintf("the heap grows by %s an hour and does not let go: %s", bytesText(slope*3600), g.line)
	if slope == 0 {
		f.Sentence = fmt.Sprintf("objects of a pool get larger each time: %s", g.line)
		f.Confidence = 0.9
	}
	if g.where != "" {
		f.Sentence += ", " + g.where
	}
	span := e.Heap[len(e.Heap)-1].At - e.Heap[0].At
	f.Evidence = append(f.Evidence, fmt.Sprintf("%s more survived in %s, over %d profiles: from %s to %s (medians of the first and last quarter)",
		bytesText(grown), span.Round(time.Second/10), len(e.Heap), bytesText(g.first), bytesText(g.last)))
	taken := g.samples[len(g.samples)-1] - g.samples[0]
	f.Evidence = append(f.Evidence, fmt.Sprintf("about %.0f more objects, estimated from %.0f samples: the profiler takes one for each %s allocated on average", objects, taken, bytesText(float64(e.Heap[0].Rate))))
	if confidence >= 0.99 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("Mann-Kendall test: %.4f sure that it rises; the second half rises as the first does", confidence))
	}
	if n := len(g.allocs); g.allocs[n-1] > g.allocs[0] {
		f.Evidence = append(f.Evidence, fmt.Sprintf("of each 100 objects that the line allocated meanwhile, %.0f are still there", 100*min(1, max(0, (g.objects[n-1]-g.objects[0])/(g.allocs[n-1]-g.allocs[0])))))
	}
	f.Advice = "let go of what is not needed any more: delete it, bound the collection, or give it a time to live"
	if g.kept && keepers[packageOf(frameAbove(g.site))] != "" && g.where == keepers[packageOf(frameAbove(g.site))] {
		f.Advice = g.where
	}
	switch {
	case g.line.same(g.keep.pool):
		f.Advice = "reset the object before Put: truncate what it holds, and drop it if it has become large"
	case g.line.same(g.keep.part):
		f.Advice = "copy the part (strings.Clone, bytes.Clone, slices.Clone), so that the whole can go"
	case strings.Contains(g.where, "finalizer"):
		f.Advice = "an object with a finalizer in a cycle is never collected: break the cycle, or use runtime.AddCleanup on a part without one"
	}
	if b := e.Source.bounds(g.keep.Holder); g.kept && b.shrunk {
		f.Related = append(f.Related, b.shrinks)
		f.Advice = "there is code that makes it smaller, but not as fast as it grows: see whether it is reached on every path, and with the same keys"
	}
	if g.library {
		f.Advice = "the library keeps it in a variable of its own and has no way to let go: take a version that has one, or make one thing of it and keep it"
	}
	for _, o := range list {
		if a := lineOf(o.frames[o.own], "allocated here"); !a.same(f.Line) && !slices.ContainsFunc(f.Related, a.same) {
			f.Related = append(f.Related, a)
		}
	}
	if g.kept && !g.keep.Line.same(f.Line) && !slices.ContainsFunc(f.Related, g.keep.Line.same) {
		f.Related = append(f.Related, g.keep.Line)
	}
	return f
}

func frameAbove(g *site) string {
	if g.own < 1 {
		return ""
	}
	return g.frames[g.own-1].Function
}

// mayHold says whether objects of the program's own are kept for good, and are more each time, by what few samples tell of
// them: they may be small, and hold much that others' code allocated.
func (g *growing) mayHold(s *Source) bool {
	n := len(g.bytes) - 1
	return g.kept && g.keep.rank >= rankContainer && !g.keep.guessed && !g.keep.pool.known() &&
		g.best.samples[n]-g.best.samples[0] >= 1.8 && g.best.samples[n/2] > g.best.samples[0] && !s.bounds(g.keep.Holder).checked && !g.filling(s)
}

// holderOf finds the program's own objects that there are as many more of as of what grows in others' code: a connection in a
// map holds the buffers that net/http had made for it. Where kept, the places that keep what a server handed out, has some of them, only
// those count. Both are nil where there are none.
func holderOf(holders []*growing, foreign []growing, kept []handed) (*growing, *growing) {
	also := func(g *growing) bool {
		return slices.ContainsFunc(kept, func(h handed) bool { return h.Line.same(g.line) })
	}
	if slices.ContainsFunc(holders, also) {
		holders = slices.DeleteFunc(slices.Clone(holders), func(g *growing) bool { return !also(g) })
	}
	var best *growing
	var of *growing
	least := math.Log(3) // few samples are right within this factor
	for i := range foreign {
		f := &foreign[i]
		n := len(f.objects) - 1
		for _, g := range holders {
			own, others := g.best.objects[n]-g.best.objects[0], f.objects[n]-f.objects[0]
			if own <= 0 || others <= 0 {
				continue
			}
			if off := math.Abs(math.Log(own / others)); off < least {
				best, of, least = g, f, off
			}
		}
	}
	return best, of
}

// holderFinding is about the line that keeps small objects, and with them what others' code allocated.
func holderFinding(e *Evidence, g, of *growing, byLine map[string][]*growing) Finding {
	n := len(of.objects) - 1
	own, others := g.best.objects[n]-g.best.objects[0], of.objects[n]-of.objects[0]
	sum := *g
	sum.trend = of.trend
	f := heapFinding(e, &sum, byLine[fmt.Sprintf("%s:%d", g.line.File, g.line.Line)])
	f.Confidence = min(f.Confidence, 0.9)
	name := shortFunction(of.frames[0].Function)
	f.Sentence += fmt.Sprintf("; what grows most was allocated in %s, and there are as many more of both", name)
	f.Evidence = append([]string{fmt.Sprintf("about %.0f more objects of %s, and about %.0f more of what is kept here, which hold them as far as the numbers tell", others, name, own)}, f.Evidence...)
	return f
}

// foreignFinding is about memory that only others' code allocates, in goroutines of its own.
func foreignFinding(e *Evidence, p places, list []growing, kept []handed) Finding {
	slices.SortStableFunc(list, func(a, b growing) int { return cmp.Compare(b.slope, a.slope) })
	g := list[0]
	f := Finding{Severity: Major, Confidence: g.confidence, PerHour: g.slope * 3600, rank: 40}
	signs := func(r *resource) bool {
		return slices.ContainsFunc(list, func(g growing) bool {
			return slices.ContainsFunc(g.frames, func(f Frame) bool { return r.runs(f.Function) })
		})
	}
	name := g.frames[0].Function
	f.Sentence = fmt.Sprintf("the heap grows by %s an hour in %s, which no line of the program is on the stack of", bytesText(f.PerHour), shortFunction(name))
	f.Evidence = []string{fmt.Sprintf("from %s to %s, allocated below %s", bytesText(g.first), bytesText(g.last), g.frames[len(g.frames)-1].Function)}
	f.Advice = "look for what is opened and not closed"
	if len(kept) > 0 {
		f.Line, f.Line.Role = kept[0].Line, "keeps what the server handed to the program"
		f.Sentence += fmt.Sprintf("; it belongs to what the server hands to the program, which is kept here: %s, %s", f.Line, kept[0].What)
		f.Advice = "let go of the request or the connection when it is over: take it out of the collection on every path"
		f.Confidence = min(f.Confidence, 0.8)
		for _, h := range kept[1:min(len(kept), 4)] {
			h.Line.Role = "may be another"
			f.Related = append(f.Related, h.Line)
		}
		return f
	}
	for _, r := range resources {
		if signs(r) {
			if c := e.Source.unreleased(r, e, p); len(c) > 0 {
				f.Line, f.Related = c[0].line, related(c)
				f.Advice = r.advice
				return f
			}
		}
	}
	return f
}
