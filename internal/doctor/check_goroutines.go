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

// goroutineCheck asks which goroutines do not end, where they wait, and why nobody wakes them.
var goroutineCheck = Check{
	Name: "goroutine leak",
	Skip: func(e *Evidence) string {
		if len(e.Counts) < 4 && len(e.Goroutines) == 0 && len(e.Leaked) == 0 {
			return "there is no goroutine profile"
		}
		return ""
	},
	Ask: askGoroutines,
}

// crowd is the goroutines that stand at one place.
type crowd struct {
	frames  []Frame
	own     int // index of the program's own frame nearest to the wait; -1 if there is none
	counts  []float64
	members []Goroutine // of the last dump
	stayed  int         // of those of an earlier dump, how many are still here
	before  int         // how many those were
	leaked  int64       // proven by the runtime
	trend   trend
	grows   bool
}

func (c *crowd) state() string {
	n := map[string]int{}
	for _, g := range c.members {
		n[g.State]++
	}
	best := ""
	for _, s := range slices.Sorted(maps.Keys(n)) {
		if best == "" || n[s] > n[best] {
			best = s
		}
	}
	return best
}

// serves says whether they are of connections of net/http that wait for what comes next, which is what they are for. Of a server,
// more of them are more clients. Of a client, they are its idle connections, up to some size; those of a response that was not closed
// wait otherwise (in a select of readLoop, until the body is read).
func (c *crowd) serves() bool {
	if c.own >= 0 || c.leaked > 0 {
		return false
	}
	const pool = 100 // idle connections: far beyond what a transport keeps for one host unless it is told to
	switch idle := strings.HasPrefix(c.state(), "IO wait"); c.frames[len(c.frames)-1].Function {
	case "net/http.(*conn).serve":
		return idle
	case "net/http.(*persistConn).readLoop":
		return idle && c.trend.last < pool
	case "net/http.(*persistConn).writeLoop":
		return c.trend.last < pool
	}
	return false
}

func (c *crowd) wait() (longest time.Duration) {
	for _, g := range c.members {
		longest = max(longest, g.Wait)
	}
	return longest
}

// crowdKey is the place where a goroutine stands: the line of the program's own and where it began. A stack without such a
// line is known by what it waits in and began with.
func crowdKey(p places, frames []Frame) (key string, own int) {
	own = p.firstOwn(frames)
	root := frames[len(frames)-1].Function
	if own >= 0 {
		return fmt.Sprintf("%s:%d %s", frames[own].File, frames[own].Line, root), own
	}
	return "std " + root, own
}

func crowdsOf(e *Evidence, p places) map[string]*crowd {
	crowds := map[string]*crowd{}
	get := func(frames []Frame) *crowd {
		key, own := crowdKey(p, frames)
		c := crowds[key]
		if c == nil {
			c = &crowd{frames: frames, own: own, counts: make([]float64, len(e.Counts))}
			crowds[key] = c
		}
		return c
	}
	for i, s := range e.Counts {
		for _, st := range s.Stacks {
			if len(st.Frames) > 0 && !ofProfiler(st.Frames) {
				get(st.Frames).counts[i] += float64(st.Count)
			}
		}
	}
	if d, ok := last(e.Goroutines); ok {
		now := map[int64]string{}
		for _, g := range d.Goroutines {
			if len(g.Frames) == 0 || ofProfiler(g.Frames) {
				continue
			}
			c := get(g.Frames)
			c.members = append(c.members, g)
			now[g.ID], _ = crowdKey(p, g.Frames)
			if g.Leaked {
				c.leaked++
			}
		}
		// Who of an earlier moment is still at the same place? The earliest dump that saw some tells the most.
		for _, earlier := range e.Goroutines[:len(e.Goroutines)-1] {
			stayed, before := map[string]int{}, map[string]int{}
			for _, g := range earlier.Goroutines {
				if len(g.Frames) == 0 {
					continue
				}
				key, _ := crowdKey(p, g.Frames)
				before[key]++
				if now[g.ID] == key {
					stayed[key]++
				}
			}
			for key, n := range before {
				if c := crowds[key]; c != nil && c.before < 5 {
					c.before, c.stayed = n, stayed[key]
				}
			}
		}
	}
	for _, st := range e.Leaked {
		if len(st.Frames) > 0 {
			c := get(st.Frames)
			c.leaked = max(c.leaked, st.Count)
		}
	}
	var times []time.Duration
	for _, s := range e.Counts {
		times = append(times, s.At)
	}
	at := workAxis(e, times)
	for _, c := range crowds {
		c.trend, c.grows = growsAsCount(at, c.counts)
		// More goroutines under more load come and go; those that leak stay.
		if c.before >= 5 && float64(c.stayed) < 0.6*float64(c.before) {
			c.grows = false
		}
	}
	return crowds
}

// stuckFor says whether a crowd that does not grow is stuck all the same: waits that are never meant to be long, by
// several. A worker that waits for work and a connection that waits for its peer are not.
func (c *crowd) stuckFor() bool {
	if c.wait() < time.Minute {
		return false
	}
	n := 0
	for _, g := range c.members {
		if g.Wait >= time.Minute {
			n++
		}
	}
	switch s := c.state(); {
	case isLockWait(s):
		return n >= 2
	case s == "chan send":
		return n >= 10
	case s == "chan receive (nil chan)", s == "chan send (nil chan)":
		return n >= 1
	}
	return false
}

func isLockWait(state string) bool {
	return strings.HasPrefix(state, "sync.Mutex") || strings.HasPrefix(state, "sync.RWMutex") || state == "semacquire"
}

// isConsequence says whether a wait is for other goroutines of the program: they are the ones to look at first.
func isConsequence(c *crowd) bool {
	s := c.state()
	return isLockWait(s) || strings.HasPrefix(s, "sync.WaitGroup") || strings.HasPrefix(s, "sync.Cond")
}

func askGoroutines(e *Evidence) []Finding {
	p := e.places()
	crowds := crowdsOf(e, p)
	var bad []*crowd
	for _, key := range slices.Sorted(maps.Keys(crowds)) {
		c := crowds[key]
		if c.serves() {
			continue
		}
		if c.grows || c.leaked > 0 || c.stuckFor() {
			bad = append(bad, c)
		}
	}
	slices.SortStableFunc(bad, func(a, b *crowd) int {
		// Growth first; others' goroutines after those of the program; those that wait for others of the program last.
		rank := func(c *crowd) float64 {
			r := 0.0
			if c.grows {
				r += 8
			}
			if c.own >= 0 {
				r += 2
			} else if resourceRunBy(c.frames) != nil {
				r++ // what kind of thing holds them is known
			}
			if !isConsequence(c) {
				r += 4
			}
			return r
		}
		return cmp.Or(cmp.Compare(rank(b), rank(a)), cmp.Compare(b.trend.slope, a.trend.slope), cmp.Compare(b.leaked, a.leaked))
	})
	var list []Finding
	for i, c := range bad {
		f := goroutineFinding(e, p, c, crowds)
		f.rank = 100 - float64(i)
		list = append(list, f)
		if len(list) == 8 {
			break
		}
	}
	return together(list, bad)
}

// together makes one of findings about goroutines of one library that grow at the same pace, or at a whole multiple of it: a client has
// several loops. The first with a line of its own stays; crowds are what the findings are about.
func together(list []Finding, crowds []*crowd) []Finding {
	module := func(c *crowd) string {
		if c.own >= 0 {
			return ""
		}
		for _, f := range c.frames {
			if m, _, ok := moduleOf(slashes(f.File)); ok && strings.HasPrefix(slashes(f.File), "/") {
				return m
			}
		}
		return ""
	}
	gone := map[int]bool{}
	for i := range list {
		if !list[i].Line.known() || module(crowds[i]) == "" || gone[i] {
			continue
		}
		for j := range list {
			if i == j || gone[j] || module(crowds[j]) != module(crowds[i]) || list[j].Line.known() && j < i || !samePace(crowds[i].trend.slope, crowds[j].trend.slope) {
				continue
			}
			gone[j] = true
			list[i].Evidence = append(list[i].Evidence, list[j].Sentence)
			if l := list[j].Line; l.known() && !l.same(list[i].Line) && !slices.ContainsFunc(list[i].Related, l.same) {
				list[i].Related = append(list[i].Related, l)
			}
			list[i].rank = max(list[i].rank, list[j].rank)
		}
	}
	var out []Finding
	for i, f := range list {
		if !gone[i] {
			out = append(out, f)
		}
	}
	return out
}

// samePace says whether one of two grows as fast as the other, twice, three or four times as fast.
func samePace(a, b float64) bool {
	if a < b {
		a, b = b, a
	}
	if b <= 0 {
		return false
	}
	times := math.Round(a / b)
	return times <= 4 && math.Abs(a/b-times) <= 0.05*times
}

// stuckFunctions are the functions of the program's own that goroutines which leak are in or were started by.
func stuckFunctions(e *Evidence) map[string]bool {
	p := e.places()
	functions := map[string]bool{}
	for _, c := range crowdsOf(e, p) {
		if !c.grows && c.leaked == 0 || c.serves() {
			continue
		}
		for _, f := range c.frames {
			if p.owner(f) == ownCode {
				functions[declared(f.Function)] = true
			}
		}
		for _, g := range c.members {
			if g.Created.Function != "" && p.owner(g.Created) == ownCode {
				functions[declared(g.Created.Function)] = true
			}
		}
		if c.own < 0 {
			functions[c.frames[len(c.frames)-1].Function] = true
		}
	}
	delete(functions, "main.main")
	return functions
}

// heldByStuck says whether an allocation's stack shares a function with goroutines that leak.
func heldByStuck(frames []Frame, stuck map[string]bool) bool {
	return slices.ContainsFunc(frames, func(f Frame) bool { return stuck[f.Function] || stuck[declared(f.Function)] })
}

func goroutineFinding(e *Evidence, p places, c *crowd, all map[string]*crowd) Finding {
	f := Finding{Severity: Major, Confidence: c.trend.confidence}
	state := c.state()
	waiting := "waiting"
	if state != "" {
		waiting = "in " + state
	}
	if c.own >= 0 {
		f.Line = lineOf(c.frames[c.own], "waits here")
	}
	var created Line
	for _, g := range c.members {
		if g.Created.File != "" {
			created = lineOf(g.Created, "started here")
			break
		}
	}
	why, advice := "", ""
	switch {
	case c.own < 0:
		why, advice = blameStandard(e, p, c, &f)
	default:
		why, advice = blame(e, p, c, all, &f)
	}
	count := fmt.Sprintf("%d", len(c.members))
	if len(c.members) == 0 && len(c.counts) > 0 {
		count = fmt.Sprintf("%.0f", c.counts[len(c.counts)-1])
	}
	switch {
	case c.grows:
		f.Sentence = fmt.Sprintf("goroutines do not end: %.0f more an hour, %s now, %s at %s", c.trend.slope*3600, count, waiting, place(c))
	case c.leaked > 0:
		f.Sentence = fmt.Sprintf("%d goroutines can never go on, %s at %s: nothing that lives can wake them", c.leaked, waiting, place(c))
		f.Confidence = 1
	default:
		f.Sentence = fmt.Sprintf("%s goroutines are stuck %s at %s, the longest for %s", count, waiting, place(c), c.wait())
		f.Confidence = 0.9
	}
	if why != "" {
		f.Sentence += "; " + why
	}
	if n := len(c.counts); n > 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("from %.0f to %.0f in %s, over %d profiles", c.counts[0], c.counts[n-1], (e.Counts[n-1].At-e.Counts[0].At).Round(time.Second/10), n))
	}
	if c.before > 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("of %d that stood there at the beginning, %d still do", c.before, c.stayed))
	}
	if c.leaked > 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("the runtime's own goroutineleak profile has %d of them", c.leaked))
	}
	if w := c.wait(); w > 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("the longest has waited for %s", w))
	}
	if created.known() && !created.same(f.Line) && !slices.ContainsFunc(f.Related, created.same) {
		f.Related = append(f.Related, created)
	}
	if c.own >= 0 {
		if at := lineOf(c.frames[c.own], "waits here"); !at.same(f.Line) && !slices.ContainsFunc(f.Related, at.same) {
			f.Related = append(f.Related, at)
		}
	}
	f.Advice = advice
	if f.Advice == "" {
		f.Advice = adviceFor(state)
	}
	// A goroutine costs its stack, 2 KiB at the least, and what it holds.
	f.PerHour = c.trend.slope * 3600 * 2048
	return f
}

func place(c *crowd) string {
	if c.own < 0 {
		return shortFunction(c.frames[len(c.frames)-1].Function)
	}
	return lineOf(c.frames[c.own], "").String()
}

func adviceFor(state string) string {
	switch {
	case state == "chan send":
		return "the receiver is gone: give the channel room for the one value, or select on a context's Done beside the send"
	case strings.HasPrefix(state, "chan receive"):
		return "nobody sends or closes: close the channel when the sender is done, or select on a context's Done beside the receive"
	case strings.HasPrefix(state, "select"):
		return "no case ever comes: add one for the end (a context's Done), and see that it is cancelled"
	case strings.HasPrefix(state, "IO wait"):
		return "the peer is silent: set a read deadline, and close the connection when it passes"
	case strings.HasPrefix(state, "sleep"):
		return "the loop has no end: wait for a timer and for a context's Done"
	case strings.HasPrefix(state, "sync.WaitGroup"):
		return "a Done is missing on some path: defer it as the first thing that the goroutine does"
	case isLockWait(state):
		return "whoever holds the lock does not give it back: defer Unlock right after Lock, and do not wait for anything while it is held"
	case strings.HasPrefix(state, "sync.Cond"):
		return "nobody signals: call Broadcast when the end has come, and have the loop look for it"
	}
	return "give the goroutine a way to end, and see that it is taken"
}

// blame finds the line to mend for a crowd that waits in the program's own code. By default that is the line that waits.
func blame(e *Evidence, p places, c *crowd, all map[string]*crowd, f *Finding) (why, advice string) {
	at := c.frames[c.own]
	state := c.state()
	switch {
	case isLockWait(state):
		if l, because := e.Source.lockHolder(e, p, at, all); l.known() {
			f.Line = l
			return because, ""
		}
	case strings.HasPrefix(state, "sync.WaitGroup"):
		if l := e.Source.missingDone(at); l.known() {
			f.Line = l
			return "a goroutine that it waits for returns without Done", ""
		}
	case strings.HasPrefix(state, "chan receive"), strings.HasPrefix(state, "select"):
		var created Frame
		if len(c.members) > 0 {
			created = c.members[0].Created
		}
		if l := e.Source.neverCancelled(at, created); l.known() {
			f.Line = l
			return "the context that they wait for is never cancelled", "call the cancel function on every path, with defer where it fits"
		}
	}
	if found, end := e.Source.neverEnded(e, p, at); len(found) > 0 {
		f.Line, f.Related = found[0].line, related(found)
		return "what they work for was made there, and " + end + " is not called on it", "call " + end + " on what is replaced or no longer needed: it closes the channel that they range over"
	}
	if l := e.Source.channelMade(at); l.known() && !l.same(f.Line) {
		f.Related = append(f.Related, l)
	}
	return "", ""
}

// blameStandard finds the line to mend for goroutines that only the standard library's or others' code is on the stack of: from
// the goroutine that started them, or by what kind of thing holds them.
func blameStandard(e *Evidence, p places, c *crowd, f *Finding) (why, advice string) {
	if r := resourceRunBy(c.frames); r != nil {
		if found := e.Source.unreleased(r, e, p); len(found) > 0 {
			f.Line, f.Related = found[0].line, related(found)
			return r.why, found[0].advise(r.advice)
		}
		return r.why, r.advice
	}
	inLibrary := false
	if l, why, advice, ok := e.blameLibrary(p, c.frames); ok {
		f.Line = l
		if why != "" {
			return why, advice
		}
		inLibrary = true
	}
	if len(c.members) > 0 { // they were all started alike
		created := c.members[0].Created
		l := e.startedBelow(p, created)
		for _, from := range append([]Line{l}, e.makersBelow(p, created)...) {
			if why, advice = e.endsOfCall(from); why != "" {
				f.Line = from
				return why, advice
			}
		}
		if l.known() {
			return f.startedFrom(l, inLibrary)
		}
	}
	// The goroutine that ran the go statement, if it is still there.
	byID := map[int64]Goroutine{}
	for _, d := range e.Goroutines {
		for _, g := range d.Goroutines {
			byID[g.ID] = g
		}
	}
	for _, g := range c.members {
		for range 8 {
			if g.Created.Function != "" && p.owner(g.Created) == ownCode {
				return f.startedFrom(lineOf(g.Created, "started from here"), inLibrary)
			}
			parent, ok := byID[g.Parent]
			if !ok {
				break
			}
			if i := p.firstOwn(parent.Frames); i >= 0 {
				return f.startedFrom(lineOf(parent.Frames[i], "started from here"), inLibrary)
			}
			g = parent
		}
	}
	return f.startedFrom(Line{}, inLibrary)
}

// startedFrom takes the line of the program's own that led to goroutines of others' code: as the line to mend, or beside the library's.
func (f *Finding) startedFrom(l Line, inLibrary bool) (why, advice string) {
	switch {
	case !inLibrary:
		if l.known() {
			f.Line = l
		}
		return "", ""
	case l.known():
		f.Related = append(f.Related, l)
	}
	return "a library started them and has no way to end them", "take a version of the library that can be told to end them, or make one thing of it and keep it"
}
