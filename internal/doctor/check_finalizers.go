package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// finalizerCheck asks whether the goroutine that runs all finalizers is stuck in one: then no other object with a finalizer is ever
// freed. Cleanups of runtime.AddCleanup have a few goroutines, and the same trouble.
var finalizerCheck = Check{
	Name: "finalizers",
	Skip: func(e *Evidence) string {
		if len(e.Goroutines) < 2 {
			return "it takes two dumps of the goroutines, at different times"
		}
		return ""
	},
	Ask: func(e *Evidence) []Finding {
		p := e.places()
		at := map[string]int{}
		stuck := map[string]Goroutine{}
		for _, d := range e.Goroutines {
			for _, g := range d.Goroutines {
				if !slices.ContainsFunc(g.Frames, runsFinalizers) || g.State == "running" || g.State == "runnable" {
					continue
				}
				if i := p.firstOwn(g.Frames); i >= 0 {
					key := fmt.Sprintf("%d %s:%d", g.ID, g.Frames[i].File, g.Frames[i].Line)
					at[key]++
					stuck[key] = g
				}
			}
		}
		var list []Finding
		for _, key := range sortedKeys(at) {
			// Those that wait for a moment are not there at every look.
			if at[key] < len(e.Goroutines) {
				continue
			}
			g := stuck[key]
			f := g.Frames[p.firstOwn(g.Frames)]
			list = append(list, Finding{
				Severity: Major, Confidence: 0.95, rank: 110, Line: lineOf(f, "waits here"),
				Sentence: fmt.Sprintf("a finalizer or cleanup is stuck in %s at %s: none that comes after it runs, and what they belong to stays", g.State, lineOf(f, "")),
				Evidence: []string{fmt.Sprintf("goroutine %d, which runs them, was there at each of %d looks", g.ID, at[key])},
				Advice:   "a finalizer must not wait: hand the work to a goroutine of its own over a channel with room, or close explicitly and do without one",
			})
		}
		return list
	},
}

func runsFinalizers(f Frame) bool {
	return strings.HasPrefix(f.Function, "runtime.runfinq") || strings.HasPrefix(f.Function, "runtime.runFinalizers") || strings.HasPrefix(f.Function, "runtime.runCleanups")
}
