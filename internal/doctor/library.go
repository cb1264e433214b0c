package doctor

import (
	"go/ast"
	"go/token"
	"go/types"
	"path"
	"slices"
	"strings"
)

// What a library leaks is for its users to end, if it gives them a way; if it does not, the line to mend is the library's.

// loadLibraries reads the packages of others that are on stacks which grew.
func (c *Collector) loadLibraries(e *Evidence) {
	p := e.places()
	var frames []Frame
	take := func(stack []Frame) {
		for _, f := range stack {
			dir := path.Dir(slashes(f.File))
			if p.owner(f) != thirdParty || !strings.HasSuffix(f.File, ".go") {
				continue
			}
			if !slices.Contains(e.libraries, dir) {
				if len(e.libraries) == 12 {
					continue
				}
				e.libraries = append(e.libraries, dir)
			}
			frames = append(frames, f)
		}
	}
	for _, f := range grownHeap(e.Heap) {
		take(f)
	}
	for _, f := range grownGoroutines(e.Counts) {
		take(f)
	}
	if len(frames) == 0 {
		return
	}
	p.also = e.libraries
	e.Libraries = LoadSource(c.Root, c.SourceDir, p, frames)
}

// grownHeap are the stacks of which more is alive at the end than at first.
func grownHeap(h []HeapSample) (stacks [][]Frame) {
	if len(h) < 2 {
		return nil
	}
	before := map[string]int64{}
	for _, s := range h[0].Sites {
		before[stackKey(s.Frames)] += s.Bytes
	}
	for _, s := range h[len(h)-1].Sites {
		if s.Bytes > before[stackKey(s.Frames)] {
			stacks = append(stacks, s.Frames)
		}
	}
	return stacks
}

// grownGoroutines are the stacks that more goroutines have at the end than at first.
func grownGoroutines(c []GoroutineCounts) (stacks [][]Frame) {
	if len(c) < 2 {
		return nil
	}
	before := map[string]int64{}
	for _, s := range c[0].Stacks {
		before[stackKey(s.Frames)] += s.Count
	}
	for _, s := range c[len(c)-1].Stacks {
		if s.Count >= before[stackKey(s.Frames)]+4 {
			stacks = append(stacks, s.Frames)
		}
	}
	return stacks
}

// closers are what methods are called that end what a library has going.
var closers = []string{"Close", "Stop", "Shutdown", "Cancel", "Disconnect", "Quit", "End", "Release", "Destroy", "Terminate", "Dispose"}

// blameLibrary finds the line to mend for goroutines of a library that does not end them. Where the library has a way to end
// them that the program does not take, that is the program's line, and why says so; otherwise it is where the library waits.
func (e *Evidence) blameLibrary(p places, frames []Frame) (l Line, why, advice string, ok bool) {
	i := slices.IndexFunc(frames, func(f Frame) bool { return p.owner(f) == thirdParty })
	if i < 0 || e.Libraries == nil || e.Libraries.files[slashes(frames[i].File)] == nil {
		return l, "", "", false
	}
	pkg := packageOf(frames[i].Function)
	if gives := e.Libraries.closersOf(pkg); len(gives) > 0 {
		r := &resource{kind: "of a library", packages: []string{pkg}, gets: e.Libraries.makersOf(pkg), gives: gives}
		if found := e.Source.unreleased(r, e, p); len(found) > 0 && !found[0].once {
			return found[0].line, "what the library made is never ended", "call " + strings.Join(gives, " or ") + " on what the library returns, when it is not needed any more", true
		}
		return l, "", "", false // it is ended somewhere, or passed on: what made it is the best line
	}
	return lineOf(frames[i], "waits here, in a library"), "", "", true
}

// startedBelow is the line of the program's own that a go statement of others was reached from, as stacks of allocations tell: of those that
// passed through the function with the go statement, the one that allocated most meanwhile. The goroutine itself does not say.
func (e *Evidence) startedBelow(p places, created Frame) (l Line) {
	if created.Function == "" || len(e.Heap) < 2 {
		return l
	}
	made := map[lineKey]int64{}
	frames := map[lineKey]Frame{}
	for sign, h := range map[int64]HeapSample{-1: e.Heap[0], 1: e.Heap[len(e.Heap)-1]} {
		for _, s := range h.Sites {
			i := slices.IndexFunc(s.Frames, func(f Frame) bool { return f.Function == created.Function })
			if i < 0 {
				continue
			}
			if j := p.firstOwn(s.Frames[i:]); j >= 0 {
				f := s.Frames[i+j]
				k := lineKey{slashes(f.File), f.Line}
				made[k] += sign * s.AllocObjects
				frames[k] = f
			}
		}
	}
	var most int64
	for k, n := range made {
		if n > most || n == most && n > 0 && lineOf(frames[k], "").String() < l.String() {
			l, most = lineOf(frames[k], "started from here"), n
		}
	}
	return l
}

// makersBelow are the lines of the program's own from which a library allocated more meanwhile, where the library has a go statement: few
// allocations are sampled, and those of the function with the statement may be none of them.
func (e *Evidence) makersBelow(p places, created Frame) (list []Line) {
	module, _, ok := moduleOf(slashes(created.File))
	if !ok || len(e.Heap) < 2 {
		return nil
	}
	for _, frames := range grownHeap(e.Heap) {
		i := p.firstOwn(frames)
		if i < 1 || !slices.ContainsFunc(frames[:i], func(f Frame) bool { m, _, ok := moduleOf(slashes(f.File)); return ok && m == module }) {
			continue
		}
		l := lineOf(frames[i], "made here")
		once := false
		if s := e.Source; s != nil {
			s.at(l.File, l.Line, func(n ast.Node) {
				if c, ok := n.(*ast.CallExpr); ok {
					once = once || s.runsOnce(c, 0)
				}
			})
		}
		if !once && !slices.ContainsFunc(list, l.same) {
			list = append(list, l)
		}
	}
	return list
}

// endsOfCall is how what a line gets from a library ends: with the context that it was given, or with what it returned. It is empty where
// neither is known.
func (e *Evidence) endsOfCall(l Line) (why, advice string) {
	s := e.Source
	if s == nil || !l.known() {
		return "", ""
	}
	s.at(l.File, l.Line, func(n ast.Node) {
		c, ok := n.(*ast.CallExpr)
		if !ok || advice != "" || len(s.callee(c)) > 0 {
			return
		}
		if len(c.Args) > 0 && s.givenContext(c.Args[0]) {
			why = "what was begun there goes on until its context ends, and that is the caller's"
			advice = "give it a context of its own: ctx, cancel := context.WithCancel(ctx), and defer cancel()"
			return
		}
		if pkg, _ := s.callName(c); pkg != "" && e.Libraries != nil {
			if gives := e.Libraries.closersOf(pkg); len(gives) > 0 {
				why = "what the library made is never ended"
				advice = "call " + strings.Join(gives, " or ") + " on what the library returns, when it is not needed any more"
			}
		}
	})
	return why, advice
}

// givenContext says whether an argument is a context that the function was given, and that it does not end itself.
func (s *Source) givenContext(arg ast.Expr) bool {
	id, ok := ast.Unparen(arg).(*ast.Ident)
	if !ok {
		return false
	}
	o := s.object(id)
	if o == nil || !s.isParameter(o) {
		return false
	}
	d, ok := s.enclosing(arg).(*ast.FuncDecl)
	if !ok {
		return false
	}
	for _, field := range d.Type.Params.List {
		if slices.ContainsFunc(field.Names, func(n *ast.Ident) bool { return s.object(n) == o }) {
			sel, ok := field.Type.(*ast.SelectorExpr)
			return ok && sel.Sel.Name == "Context" && !s.reassigned(o)
		}
	}
	return false
}

// reassigned says whether a variable gets another value after its declaration.
func (s *Source) reassigned(o types.Object) bool {
	return slices.ContainsFunc(s.uses[o], func(id *ast.Ident) bool {
		a, ok := s.parents[id].(*ast.AssignStmt)
		return ok && slices.Contains(a.Lhs, ast.Expr(id))
	})
}

// closersOf are the methods of a package's exported types that end something.
func (s *Source) closersOf(pkg string) (names []string) {
	for _, name := range closers {
		if slices.ContainsFunc(s.methods[name], func(d *ast.FuncDecl) bool {
			o := s.info.Defs[d.Name]
			return o != nil && o.Pkg() != nil && o.Pkg().Path() == pkg && d.Recv != nil && len(d.Recv.List) == 1 && (exportedType(d.Recv.List[0].Type) || s.embedded(pkg, receiverName(d)))
		}) {
			names = append(names, name)
		}
	}
	return names
}

// embedded says whether a type is embedded in an exported one of its package, whose methods its own are then.
func (s *Source) embedded(pkg, name string) bool {
	for id, o := range s.info.Defs {
		t, ok := o.(*types.TypeName)
		if !ok || !id.IsExported() || t.Pkg() == nil || t.Pkg().Path() != pkg {
			continue
		}
		st, ok := underlyingStruct(t.Type())
		if !ok {
			continue
		}
		for f := range st.Fields() {
			if f.Embedded() && f.Name() == name {
				return true
			}
		}
	}
	return false
}

func exportedType(t ast.Expr) bool {
	switch x := t.(type) {
	case *ast.StarExpr:
		return exportedType(x.X)
	case *ast.IndexExpr:
		return exportedType(x.X)
	case *ast.IndexListExpr:
		return exportedType(x.X)
	case *ast.Ident:
		return x.IsExported()
	}
	return false
}

// makersOf are the exported functions of a package that return something.
func (s *Source) makersOf(pkg string) (names []string) {
	for o, d := range s.decls {
		if o.Pkg() != nil && o.Pkg().Path() == pkg && d.Recv == nil && d.Name.IsExported() && d.Type.Results != nil && len(d.Type.Results.List) > 0 {
			names = append(names, d.Name.Name)
		}
	}
	slices.Sort(names)
	return names
}

// locateInLibrary looks for a variable of a library that keeps what it allocated, and that nothing takes out of: then the program has
// no hand on it.
func (g *growing) locateInLibrary(e *Evidence, p places) {
	if e.Libraries == nil {
		return
	}
	i := slices.IndexFunc(g.frames[:g.own], func(f Frame) bool { return p.owner(f) == thirdParty })
	if i < 0 {
		return
	}
	p.also = e.libraries
	for _, k := range e.Libraries.keeps(g.frames, i, p) {
		if k.rank < rankContainer || !e.Libraries.storesInGlobal(k.Line) || e.Libraries.bounds(k.Holder).shrunk {
			continue
		}
		g.keep, g.kept, g.library = k, true, true
		g.line, g.where = k.Line, k.What+" of a library"
		g.line.Role = "kept here, in a library"
		return
	}
}

// storesInGlobal says whether a line assigns to a variable of a package, or a part of one.
func (s *Source) storesInGlobal(l Line) (yes bool) {
	s.at(l.File, l.Line, func(n ast.Node) {
		a, ok := n.(*ast.AssignStmt)
		if !ok || a.Tok == token.DEFINE {
			return
		}
		for _, x := range a.Lhs {
			if root, _ := s.root(x); root != nil && isGlobal(root) {
				yes = true
			}
		}
	})
	return yes
}
