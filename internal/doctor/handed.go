package doctor

import (
	"cmp"
	"go/ast"
	"go/types"
	"slices"
	"strings"
)

// A server of others' code allocates what belongs to a connection or a request (buffers, headers, the request itself) on a
// stack that no line of the program is on, and then hands it to the program. Where that memory is kept, the program keeps
// something that holds it: the request, the writer, or the connection that it made of them.

// handsOut says whether a stack is that of a server which hands to the program what it allocates.
func handsOut(frames []Frame) bool {
	return slices.ContainsFunc(frames, func(f Frame) bool {
		return f.Function == "net/http.(*conn).serve" || f.Function == "net/http.(*Server).Serve" || strings.HasPrefix(f.Function, "net/http.(*http2serverConn)") || strings.HasPrefix(f.Function, "net/http.newBufio")
	})
}

// handedTypes are types of parameters by which a handler gets a request or a connection, as they are written.
var handedTypes = map[string]bool{"http.ResponseWriter": true, "*http.Request": true, "*gin.Context": true, "echo.Context": true, "*fiber.Ctx": true}

// takesOver are calls of others' code that make a connection of a request.
var takesOver = map[string]bool{"Upgrade": true, "Hijack": true, "UpgradeHTTP": true, "Accept": true}

// mostHanded bounds the places that are followed.
const mostHanded = 2000

// handed is a place that keeps what a server handed out.
type handed struct {
	Keep
	ran    bool    // the function that got it was seen on a stack
	shrunk bool    // there is code that takes something out
	grown  float64 // memory that its line was seen to allocate more of
}

// keptOfHanded finds the collections of the program in which requests or connections that a server handed to it are kept, the
// likeliest first, if that server's memory is what grows. A collection that is held to a limit is none.
func (s *Source) keptOfHanded(e *Evidence, p places, foreign []growing) []handed {
	if s == nil || !slices.ContainsFunc(foreign, func(g growing) bool { return handsOut(g.frames) }) {
		return nil
	}
	ran := e.seen()
	var all []handed
	seeds := 0
	// follow goes from one of the places where the program gets something; whether that ran is known better than whether the
	// small function ran that keeps it.
	follow := func(at ast.Node, begin func(*follower)) {
		if seeds++; seeds > mostHanded {
			return
		}
		k := &follower{s: s, p: p, seen: map[visit]bool{}, left: 4000}
		begin(k)
		in := ran[s.line(at, "").Function]
		for _, keep := range k.found {
			if i := slices.IndexFunc(all, func(h handed) bool { return h.Line.same(keep.Line) && h.Holder == keep.Holder }); i >= 0 {
				all[i].ran = all[i].ran || in
			} else {
				all = append(all, handed{Keep: keep, ran: in})
			}
		}
	}
	for _, name := range sortedKeys(s.files) {
		ast.Inspect(s.files[name], func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncType:
				for _, f := range n.Params.List {
					if !handedTypes[types.ExprString(f.Type)] {
						continue
					}
					for _, id := range f.Names {
						if o := s.info.Defs[id]; o != nil {
							follow(n, func(k *follower) { k.object(o, trail{}) })
						}
					}
				}
			case *ast.CallExpr:
				if _, called := s.callName(n); takesOver[called] && len(s.callee(n)) == 0 {
					follow(n, func(k *follower) { k.expr(n, trail{}) })
				}
			}
			return true
		})
	}
	active := e.activity(p)
	var list []handed
	for _, h := range all {
		if b := s.bounds(h.Holder); h.rank >= rankContainer && !h.guessed && !h.pool.known() && !b.checked {
			h.shrunk, h.grown = b.shrunk, active[lineKey{slashes(h.Line.File), h.Line.Line}]
			list = append(list, h)
		}
	}
	slices.SortStableFunc(list, func(a, b handed) int {
		return cmp.Or(yesFirst(a.ran, b.ran), yesFirst(!a.shrunk, !b.shrunk), cmp.Compare(b.grown, a.grown))
	})
	return list
}

// seen are the functions that were on any stack at any look: what serves a request for a moment is seldom there at the last one.
func (e *Evidence) seen() map[string]bool {
	m := map[string]bool{}
	note := func(frames []Frame) {
		for _, f := range frames {
			m[declared(f.Function)] = true
		}
	}
	for _, c := range e.Counts {
		for _, s := range c.Stacks {
			note(s.Frames)
		}
	}
	for _, d := range e.Goroutines {
		for _, g := range d.Goroutines {
			note(g.Frames)
		}
	}
	for _, h := range e.Heap {
		for _, s := range h.Sites {
			note(s.Frames)
		}
	}
	e.frames(func(f Frame) bool { // those of locks and of the execution trace as well
		m[declared(f.Function)] = true
		return true
	})
	return m
}

// yesFirst compares two answers: yes comes before no.
func yesFirst(a, b bool) int {
	switch {
	case a && !b:
		return -1
	case b && !a:
		return 1
	}
	return 0
}
