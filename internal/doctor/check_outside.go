package doctor

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// outsideCheck asks for memory that no heap profile shows: stacks, C, mappings, holes between objects.
var outsideCheck = Check{
	Name: "outside the heap",
	Skip: func(e *Evidence) string {
		if len(e.Memory) < 4 {
			return "there are no memory statistics of the runtime over time"
		}
		return ""
	},
	Ask: func(e *Evidence) []Finding {
		var list []Finding
		list = append(list, askStacks(e)...)
		list = append(list, askHoles(e)...)
		list = append(list, askForeignMemory(e)...)
		list = append(list, askIdle(e)...)
		return list
	},
}

// askForeignMemory compares what is resident with what the runtime has.
func askForeignMemory(e *Evidence) []Finding {
	var times []time.Duration
	var outside, mappings, files []float64
	for _, s := range e.Process {
		// The runtime's figures of about the same time.
		i, _ := slices.BinarySearchFunc(e.Memory, s.At, func(m MemStats, at time.Duration) int { return int(m.At - at) })
		m := e.Memory[min(i, len(e.Memory)-1)]
		if s.Resident == 0 {
			continue
		}
		times = append(times, s.At)
		outside = append(outside, float64(s.Resident)-float64(m.Sys-m.HeapReleased))
		mappings = append(mappings, float64(s.Mappings))
		files = append(files, float64(s.FileBacked+s.Shared))
	}
	if len(times) < 4 {
		return nil
	}
	t, maps := trendOf(workAxis(e, times), outside), trendOf(workAxis(e, times), mappings)
	areas := maps.confidence >= 0.99 && !maps.levelling && !maps.fell && beyondChance(maps.first, maps.last) && maps.last-maps.first >= 16
	// The runtime's own figures are as of another moment, and touch memory later than they count it: a few MiB are noise.
	grows := t.confidence >= 0.99 && !t.levelling && !t.fell && t.last-t.first >= 4<<20
	if !grows && !areas {
		return nil
	}
	f := Finding{Severity: Major, Confidence: max(t.confidence, maps.confidence), PerHour: t.slope * 3600, rank: 60}
	f.Evidence = append(f.Evidence, fmt.Sprintf("resident memory beyond the runtime's own accounts: %s at first, %s at last (medians of quarters)", bytesText(max(0, t.first)), bytesText(max(0, t.last))))
	if areas {
		f.Evidence = append(f.Evidence, fmt.Sprintf("mappings of the process: %.0f at first, %.0f at last", maps.first, maps.last))
	}
	p := e.places()
	order := []*resource{resourceOf("C memory"), resourceOf("mapping")}
	if fileTrend := trendOf(workAxis(e, times), files); areas || fileTrend.confidence >= 0.99 && fileTrend.last-fileTrend.first > (t.last-t.first)/2 {
		slices.Reverse(order)
	}
	for _, r := range order {
		found := e.Source.unreleased(r, e, p)
		if len(found) == 0 {
			continue
		}
		f.Line, f.Related, f.Advice = found[0].line, related(found), found[0].advise(r.advice)
		f.Sentence = fmt.Sprintf("memory outside the Go heap grows by %s an hour: %s, %s", bytesText(max(0, f.PerHour)), r.why, found[0].opened())
		return []Finding{f}
	}
	f.Sentence = fmt.Sprintf("memory outside the Go heap grows by %s an hour: C code or mappings; no profile of Go shows it", bytesText(max(0, f.PerHour)))
	f.Advice = "look for C.malloc without C.free, Mmap without Munmap, and libraries in C"
	return []Finding{f}
}

// askStacks looks for stacks that get ever deeper.
func askStacks(e *Evidence) []Finding {
	if len(e.Goroutines) < 3 {
		return nil
	}
	depth := func(g Goroutine) int { return len(g.Frames) + g.Elided }
	seen := map[int64][]int{}
	for _, d := range e.Goroutines {
		for _, g := range d.Goroutines {
			seen[g.ID] = append(seen[g.ID], depth(g))
		}
	}
	p := e.places()
	d, _ := last(e.Goroutines)
	var list []Finding
	for _, g := range d.Goroutines {
		depths := seen[g.ID]
		// Deep is more than any parser or walk of a tree goes; a recursion that returns is less deep at some look.
		if len(depths) < len(e.Goroutines) || depth(g) < 1000 || !slices.IsSorted(depths) || depths[0] == depths[len(depths)-1] {
			continue
		}
		if half := depths[len(depths)/2]; half == depths[len(depths)-1] {
			continue
		}
		calls := map[Frame]int{}
		for _, f := range g.Frames {
			if p.owner(f) == ownCode {
				calls[f]++
			}
		}
		var most Frame
		for _, f := range g.Frames {
			if calls[f] > calls[most] {
				most = f
			}
		}
		m0, m1 := e.Memory[0], e.Memory[len(e.Memory)-1]
		list = append(list, Finding{
			Severity: Major, Confidence: 0.95, rank: 70, Line: lineOf(most, "calls itself here"),
			Sentence: fmt.Sprintf("a goroutine's stack gets deeper all the time: %d calls now, %d at first, at %s", depth(g), depths[0], lineOf(most, "")),
			Evidence: []string{fmt.Sprintf("goroutine %d at %d looks: %v calls deep; stacks take %s, %s at first", g.ID, len(depths), depths, bytesText(float64(m1.StackInuse)), bytesText(float64(m0.StackInuse)))},
			Advice:   "make the call in place of the end of the function a loop: Go keeps the frame of every call",
		})
	}
	return list
}

// askIdle looks for memory of the heap that the runtime has and neither uses nor gives back.
func askIdle(e *Evidence) []Finding {
	half := e.Memory[len(e.Memory)/2:]
	first, least := uint64(0), uint64(1<<62)
	var m MemStats
	for _, m = range half {
		had := m.HeapSys - min(m.HeapSys, m.HeapReleased)
		// What the heap may grow to before the next collection is over is kept on purpose, and a tenth above it.
		keep := max(m.NextGC, m.HeapInuse)
		keep += keep / 10
		if had < keep || had-keep < 32<<20 || had-keep < had/2 {
			return nil
		}
		if first == 0 {
			first = had - keep
		}
		least = min(least, had-keep)
	}
	// It is given back bit by bit: what becomes less is on its way.
	if least < first/10*9 || m.At-half[0].At < 10*time.Second {
		return nil
	}
	return []Finding{{
		Severity: Minor, Confidence: 0.9, rank: 44,
		Sentence: fmt.Sprintf("%s of the heap are idle and are not given back: the program uses %s, and the next collection begins at %s", bytesText(float64(least)), bytesText(float64(m.HeapInuse)), bytesText(float64(m.NextGC))),
		Evidence: []string{fmt.Sprintf("so at each of the last %d looks, and not becoming less", len(half))},
		Advice:   "a rush made the heap as large as it is: GOMEMLIMIT has the runtime give idle memory back before that much is used; debug.FreeOSMemory after a rush does it at once",
	}}
}

// askHoles looks for spans that few survivors keep from being given back.
func askHoles(e *Evidence) []Finding {
	half := e.Memory[len(e.Memory)/2:]
	least := uint64(1 << 62)
	for _, m := range half {
		hole := m.HeapInuse - min(m.HeapAlloc, m.HeapInuse)
		// Half of what is in use and more, at every look: collecting more does not help.
		if hole < 24<<20 || hole < m.HeapInuse/2 {
			return nil
		}
		least = min(least, hole)
	}
	m := half[len(half)-1]
	f := Finding{Severity: Minor, Confidence: 0.9, rank: 45}
	f.Sentence = fmt.Sprintf("%s of the heap are holes between objects that live: memory in use is %s, objects are %s", bytesText(float64(least)), bytesText(float64(m.HeapInuse)), bytesText(float64(m.HeapAlloc)))
	f.Evidence = []string{fmt.Sprintf("so at each of the last %d looks", len(half))}
	f.Advice = "few objects that live long lie among many that died: allocate the two apart (long-lived ones in slices of their own), or build them anew in one go"
	if h, ok := last(e.Heap); ok {
		// The site with the most survivors among many that died: each may hold a span.
		p := e.places()
		sites := sitesOf(e, p)
		best, most := "", 0.0
		churn, freed := "", 0.0 // where no survivor was sampled: the site whose objects died most, by bytes
		for _, k := range slices.Sorted(maps.Keys(sites)) {
			g := sites[k]
			n := len(g.objects) - 1
			if g.own < 0 || g.allocs[n] == 0 || g.allocBytes[n]/g.allocs[n] > 32<<10 {
				continue
			}
			if dead := g.allocBytes[n] - g.bytes[n]; dead > freed {
				churn, freed = k, dead
			}
			if score := g.objects[n] * (1 - g.objects[n]/max(1, g.allocs[n])); score > most {
				best, most = k, score
			}
		}
		if best == "" {
			best = churn
		}
		if best != "" {
			g := growing{site: sites[best]}
			g.locate(e, p)
			f.Line = g.line
			n := len(g.objects) - 1
			f.Evidence = append(f.Evidence, fmt.Sprintf("about %.0f objects of %s on average survive from there, of %.0f that it allocated (sampled, one for each %s)",
				g.objects[n], bytesText(g.allocBytes[n]/max(1, g.allocs[n])), g.allocs[n], bytesText(float64(h.Rate))))
		}
	}
	return []Finding{f}
}
