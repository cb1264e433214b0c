package doctor

import (
	"go/ast"
	"slices"
	"strings"
)

// acceptor finds the line for which a program does not accept: where the goroutine stands that should, or where it has left its loop, or where
// the listener was opened that nobody accepts from.
func (s *Source) acceptor(e *Evidence, p places) (line Line, says string, more []Line) {
	loops := s.acceptLoops()
	if d, ok := last(e.Goroutines); ok {
		best := -1
		for i, g := range d.Goroutines {
			at, in := s.standsBeforeAccept(g.Frames, loops, p)
			if at < 0 || best >= 0 && d.Goroutines[best].Wait >= g.Wait {
				continue
			}
			best = i
			line, more = lineOf(g.Frames[at], "the loop that accepts is here"), nil
			if in != nil {
				more = append(more, s.line(in, "accepts here"))
			}
			if own := p.firstOwn(g.Frames); own >= 0 && own < at {
				more = append(more, lineOf(g.Frames[own], "and waits here"))
			}
		}
		if best >= 0 {
			return line, "the goroutine that accepts does something else first", more
		}
	}
	if s == nil {
		return Line{}, "", nil
	}
	ran := map[string]bool{}
	e.frames(func(f Frame) bool {
		ran[slashes(f.File)] = true
		return true
	})
	for _, c := range loops {
		file, _ := s.position(c)
		fn := s.enclosing(c)
		if !ran[file] || s.anyIn(e, fn) {
			continue
		}
		if out := s.leavesAfter(fn, c); out != nil {
			return s.line(out, "leaves the loop here"), "nobody accepts any more", []Line{s.line(c, "accepts here")}
		}
	}
	if len(loops) > 0 {
		return Line{}, "", nil
	}
	for _, name := range sortedKeys(s.files) {
		if !ran[name] {
			continue
		}
		var open ast.Node
		ast.Inspect(s.files[name], func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok && open == nil {
				if pkg, f := s.callName(c); pkg == "net" && (f == "Listen" || f == "ListenTCP") && !s.handedOn(c) {
					open = c
				}
			}
			return open == nil
		})
		if open != nil {
			return s.line(open, "opened here"), "nobody accepts from it", nil
		}
	}
	return Line{}, "", nil
}

// acceptLoops are the calls of Accept in the program's own source.
func (s *Source) acceptLoops() (calls []*ast.CallExpr) {
	if s == nil {
		return nil
	}
	for _, name := range sortedKeys(s.files) {
		ast.Inspect(s.files[name], func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok && len(c.Args) == 0 && s.enclosing(c) != nil {
				if pkg, f := s.callName(c); pkg == "" && (f == "Accept" || f == "AcceptTCP" || f == "AcceptUnix") {
					if _, isMethod := ast.Unparen(c.Fun).(*ast.SelectorExpr); isMethod {
						calls = append(calls, c)
					}
				}
			}
			return true
		})
	}
	return calls
}

// standsBeforeAccept is the index of the frame in a function that accepts, of a goroutine that does something else; -1 if it is none. in is the
// call of Accept, nil where a listener of others is in the way.
func (s *Source) standsBeforeAccept(frames []Frame, loops []*ast.CallExpr, p places) (at int, in *ast.CallExpr) {
	if slices.ContainsFunc(frames, func(f Frame) bool { return f.Function == "net.(*netFD).accept" }) {
		return -1, nil
	}
	for i, f := range frames {
		if p.owner(f) != ownCode {
			// A listener of others that lets only so many in, say.
			if strings.HasSuffix(f.Function, ").Accept") && packageOf(f.Function) != "net" {
				if own := p.firstOwn(frames[i:]); own >= 0 {
					return i + own, nil
				}
			}
			continue
		}
		fn := s.functionAt(f)
		for _, c := range loops {
			if fn != nil && s.enclosing(c) == fn {
				return i, c
			}
		}
	}
	return -1, nil
}

// anyIn says whether a goroutine is in a function.
func (s *Source) anyIn(e *Evidence, fn ast.Node) bool {
	d, _ := last(e.Goroutines)
	return slices.ContainsFunc(d.Goroutines, func(g Goroutine) bool {
		return slices.ContainsFunc(g.Frames, func(f Frame) bool { return s.functionAt(f) == fn })
	})
}

// leavesAfter is the first way out of a function below a call in it.
func (s *Source) leavesAfter(fn ast.Node, c *ast.CallExpr) (out ast.Node) {
	ast.Inspect(fn, func(n ast.Node) bool {
		if r, ok := n.(*ast.ReturnStmt); ok && out == nil && r.Pos() > c.End() && s.enclosing(r) == fn {
			out = r
		}
		return out == nil
	})
	return out
}

// handedOn says whether what a call got is given to something else, which may accept from it.
func (s *Source) handedOn(c *ast.CallExpr) bool {
	a, ok := s.consumer(c).(*ast.AssignStmt)
	if !ok {
		return true
	}
	id, ok := a.Lhs[0].(*ast.Ident)
	if !ok {
		return true
	}
	for _, use := range s.uses[s.object(id)] {
		switch p := s.parents[use].(type) {
		case *ast.SelectorExpr:
		case *ast.AssignStmt:
			if slices.Contains(p.Rhs, ast.Expr(use)) {
				return true
			}
		default:
			return true
		}
	}
	return false
}
