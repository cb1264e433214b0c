package doctor

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
)

// places are told from all the stacks of the evidence.
func (e *Evidence) places() places {
	return learnPlaces(e.Build.Module, e.frames)
}

// frames visits the frames of all stacks, until visit returns false.
func (e *Evidence) frames(visit func(Frame) bool) {
	each := func(frames []Frame) bool {
		for _, f := range frames {
			if !visit(f) {
				return false
			}
		}
		return true
	}
	if c, ok := last(e.Counts); ok {
		for _, s := range c.Stacks {
			if !each(s.Frames) {
				return
			}
		}
	}
	if d, ok := last(e.Goroutines); ok {
		for _, g := range d.Goroutines {
			if !each(g.Frames) || g.Created.Function != "" && !visit(g.Created) {
				return
			}
		}
	}
	if h, ok := last(e.Heap); ok {
		for _, s := range h.Sites {
			if !each(s.Frames) {
				return
			}
		}
	}
	for _, l := range e.Locks {
		for _, c := range l.Stacks {
			if !each(c.Frames) {
				return
			}
		}
	}
	if s := e.Schedule; s != nil {
		for _, l := range s.Locks {
			if !each(l.Frames) || !each(l.Holder) {
				return
			}
		}
		for _, d := range slices.Concat(s.Assists, s.Runs) {
			if !each(d.Frames) {
				return
			}
		}
	}
}

// receiver is the holder that a method of that name is called on at a frame's line: x of x.Store(k, v).
func (s *Source) receiver(f Frame, method string) (holder types.Object) {
	if s == nil {
		return nil
	}
	s.at(f.File, f.Line, func(n ast.Node) {
		if c, ok := n.(*ast.CallExpr); ok {
			if sel, ok := ast.Unparen(c.Fun).(*ast.SelectorExpr); ok && sel.Sel.Name == method {
				_, holder = s.root(sel.X)
			}
		}
	})
	return holder
}

// isText says whether a part that is taken at a line is of a string, or found by searching: then it is a word out of a text.
// A part of bytes up to a length that was read is all there is.
func (s *Source) isText(l Line) bool {
	found := false
	s.at(l.File, l.Line, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.CallExpr:
			if pkg, name := s.callName(n); (pkg == "strings" || pkg == "bytes") && returnsPart[name] {
				found = true
			}
		case *ast.SliceExpr:
			if tv, ok := s.info.Types[n.X]; ok && tv.Type != nil {
				if b, ok := tv.Type.Underlying().(*types.Basic); ok && b.Info()&types.IsString != 0 {
					found = true
				}
			}
		}
	})
	return found
}

// functionAt is the innermost function around a frame's line, nil if unknown.
func (s *Source) functionAt(f Frame) (fn ast.Node) {
	if s == nil || s.files[slashes(f.File)] == nil {
		return nil
	}
	ast.Inspect(s.files[slashes(f.File)], func(n ast.Node) bool {
		if n == nil {
			return false
		}
		begin, end := s.set.Position(n.Pos()).Line, s.set.Position(n.End()).Line
		if begin > f.Line || end < f.Line {
			return false
		}
		switch n := n.(type) {
		case *ast.FuncDecl, *ast.FuncLit:
			// A line may hold several: a literal that begins on the line of a frame of the function around it is not it.
			if begin < f.Line || fn == nil || begin == end {
				fn = n
			}
		}
		return true
	})
	return fn
}

func bodyOf(fn ast.Node) *ast.BlockStmt {
	switch f := fn.(type) {
	case *ast.FuncDecl:
		return f.Body
	case *ast.FuncLit:
		return f.Body
	}
	return nil
}

// inspectOwn visits the nodes of a function but not those of literals in it. Literals that are deferred or run right there count
// as its own.
func (s *Source) inspectOwn(fn ast.Node, visit func(ast.Node)) {
	body := bodyOf(fn)
	if body == nil {
		return
	}
	ast.Inspect(body, func(n ast.Node) bool {
		if n == nil {
			return false
		}
		if lit, ok := n.(*ast.FuncLit); ok {
			c, called := s.parents[lit].(*ast.CallExpr)
			if !called || c.Fun != ast.Expr(lit) {
				return false
			}
			if _, isGo := s.parents[c].(*ast.GoStmt); isGo {
				return false
			}
		}
		visit(n)
		return true
	})
}

// methodCall is the holder and name of x.Name(…), nil if a node is not one.
func (s *Source) methodCall(n ast.Node) (c *ast.CallExpr, holder types.Object, name string) {
	c, ok := n.(*ast.CallExpr)
	if !ok {
		return nil, nil, ""
	}
	sel, ok := ast.Unparen(c.Fun).(*ast.SelectorExpr)
	if !ok {
		return nil, nil, ""
	}
	_, holder = s.root(sel.X)
	return c, holder, sel.Sel.Name
}

// unpaired looks for a way out of a function on which what was taken is not given back: between a call take and the way
// out there is no call give on the way, nor a deferred one. take may be nil: then it counts as taken from the beginning.
func (s *Source) unpaired(fn ast.Node, take *ast.CallExpr, gives func(ast.Node) bool) (exit ast.Node) {
	body := bodyOf(fn)
	if body == nil {
		return nil
	}
	begin := body.Pos()
	if take != nil {
		begin = take.Pos()
	}
	var releases []ast.Node
	var exits []ast.Node
	deferred := false
	s.inspectOwn(fn, func(n ast.Node) {
		if n.Pos() < begin {
			return
		}
		if gives(n) {
			releases = append(releases, n)
			for p := s.parents[n]; p != nil && p != fn; p = s.parents[p] {
				if _, ok := p.(*ast.DeferStmt); ok {
					deferred = true
				}
			}
		}
		if r, ok := n.(*ast.ReturnStmt); ok && (take == nil || !within(take, r)) {
			// A return in a literal that is deferred leaves only that.
			if s.enclosing(r) == fn {
				exits = append(exits, r)
			}
		}
	})
	if deferred && len(exits) == 0 {
		return nil
	}
	for _, r := range exits {
		covered := false
		for _, give := range releases {
			if give.Pos() > r.End() {
				continue
			}
			// A release before the way out is on the way if its block is around the way out too.
			block := s.block(give)
			if block != nil && within(r, block) || within(give, r) {
				covered = true
			}
		}
		if !covered {
			return r
		}
	}
	if len(releases) == 0 && !endsInReturn(body) {
		return body
	}
	return nil
}

// within says whether n stands in outer.
func within(n, outer ast.Node) bool { return outer.Pos() <= n.Pos() && n.End() <= outer.End() }

// block is the innermost list of statements around a node.
func (s *Source) block(n ast.Node) ast.Node {
	for n = s.parents[n]; n != nil; n = s.parents[n] {
		switch n.(type) {
		case *ast.BlockStmt:
			// A deferred literal gives back for the function around it.
			if lit, ok := s.parents[n].(*ast.FuncLit); ok {
				if c, ok := s.parents[lit].(*ast.CallExpr); ok && c.Fun == ast.Expr(lit) {
					if d, ok := s.parents[c].(*ast.DeferStmt); ok {
						return s.block(d)
					}
				}
			}
			return n
		case *ast.CaseClause, *ast.CommClause:
			return n
		}
	}
	return nil
}

func endsInReturn(b *ast.BlockStmt) bool {
	if len(b.List) == 0 {
		return false
	}
	switch st := b.List[len(b.List)-1].(type) {
	case *ast.ReturnStmt:
		return true
	case *ast.ForStmt:
		return st.Cond == nil
	}
	return false
}

// lockHolder looks for who has the lock that goroutines wait for at a frame: a goroutine that took it and waits for
// something else, or a function that can leave without giving it back.
func (s *Source) lockHolder(e *Evidence, p places, at Frame, all map[string]*crowd) (l Line, why string) {
	if s == nil {
		return l, ""
	}
	var lock types.Object
	s.at(at.File, at.Line, func(n ast.Node) {
		if _, holder, name := s.methodCall(n); holder != nil && (name == "Lock" || name == "RLock") {
			lock = holder
		}
	})
	if lock == nil {
		return l, ""
	}
	var candidates []Line
	// Another goroutine that is in a function which took the lock before the line where it waits.
	for _, key := range sortedKeys(all) {
		c := all[key]
		if c.own < 0 || isLockWait(c.state()) && c.frames[c.own] == at {
			continue
		}
		if len(c.members) == 0 {
			continue
		}
		for i := c.own; i < len(c.frames); i++ {
			f := c.frames[i]
			if p.owner(f) != ownCode || f == at {
				continue
			}
			if s.takenBefore(f, lock) {
				w := lineOf(c.frames[c.own], "waits here while it holds the lock")
				if !slices.ContainsFunc(candidates, w.same) {
					candidates = append(candidates, w)
				}
			}
		}
	}
	if len(candidates) > 0 {
		return candidates[0], "the lock is held by a goroutine that waits for something else"
	}
	for _, id := range s.uses[lock] {
		var x ast.Expr = id
		if sel, ok := s.parents[id].(*ast.SelectorExpr); ok && sel.Sel == id {
			x = sel
		}
		sel, ok := s.parents[x].(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != "Lock" && sel.Sel.Name != "RLock" {
			continue
		}
		take, ok := s.parents[sel].(*ast.CallExpr)
		if !ok {
			continue
		}
		fn := s.enclosing(take)
		if fn == nil || s.isWrapper(fn) {
			continue
		}
		out := s.unpaired(fn, take, func(n ast.Node) bool {
			_, holder, name := s.methodCall(n)
			return holder == lock && (name == "Unlock" || name == "RUnlock")
		})
		if out != nil {
			if _, isReturn := out.(*ast.ReturnStmt); isReturn {
				return s.line(out, "leaves with the lock held"), "this way out leaves the lock held"
			}
			return s.line(take, "takes the lock and keeps it"), "the function never gives the lock back"
		}
	}
	return l, ""
}

// lockTaken is where a function takes the lock that it gives back at a line: the last Lock before it, of the same lock where the line tells
// which; a deferred Unlock runs where the function returns.
func (s *Source) lockTaken(at Line) (l Line) {
	if s == nil || !at.known() || s.files[slashes(at.File)] == nil {
		return l
	}
	var fn ast.Node
	ast.Inspect(s.files[slashes(at.File)], func(n ast.Node) bool {
		if n == nil || s.set.Position(n.Pos()).Line > at.Line || s.set.Position(n.End()).Line < at.Line {
			return false
		}
		switch n.(type) {
		case *ast.FuncDecl, *ast.FuncLit:
			fn = n
		}
		return true
	})
	if fn == nil {
		return l
	}
	var lock types.Object
	s.at(at.File, at.Line, func(n ast.Node) {
		if _, holder, name := s.methodCall(n); name == "Unlock" || name == "RUnlock" {
			lock = holder
		}
	})
	ast.Inspect(bodyOf(fn), func(n ast.Node) bool {
		c, holder, name := s.methodCall(n)
		if (name == "Lock" || name == "RLock") && len(c.Args) == 0 && (lock == nil || holder == lock) {
			if t := s.line(c, "takes the lock here"); t.Line <= at.Line {
				l = t
			}
		}
		return true
	})
	return l
}

// isWrapper says whether a function does nothing but take: its callers give back.
func (s *Source) isWrapper(fn ast.Node) bool {
	b := bodyOf(fn)
	return b != nil && len(b.List) == 1
}

// takenBefore says whether the function of a frame took a lock on the way to the frame's line and holds it there.
func (s *Source) takenBefore(f Frame, lock types.Object) bool {
	fn := s.functionAt(f)
	if fn == nil {
		return false
	}
	held := false
	s.inspectOwn(fn, func(n ast.Node) {
		c, holder, name := s.methodCall(n)
		if c == nil || holder != lock || s.set.Position(c.Pos()).Line >= f.Line {
			return
		}
		switch name {
		case "Lock", "RLock":
			held = true
		case "Unlock", "RUnlock":
			for p := s.parents[ast.Node(c)]; p != nil && p != fn; p = s.parents[p] {
				if _, ok := p.(*ast.DeferStmt); ok {
					return
				}
			}
			// One that leaves right after is on another way.
			if b, ok := s.block(c).(*ast.BlockStmt); ok && b != bodyOf(fn) && endsInReturn(b) {
				return
			}
			held = false
		}
	})
	return held
}

// missingDone looks for a goroutine that can end without telling the wait group which is waited for at a frame.
func (s *Source) missingDone(at Frame) (l Line) {
	if s == nil {
		return l
	}
	var group types.Object
	s.at(at.File, at.Line, func(n ast.Node) {
		if _, holder, name := s.methodCall(n); holder != nil && name == "Wait" {
			group = holder
		}
	})
	if group == nil {
		return l
	}
	groups := []types.Object{group}
	// The group may be handed to the function that is done as an argument.
	for _, id := range s.uses[group] {
		n := s.parents[id]
		if u, ok := n.(*ast.UnaryExpr); ok && u.Op == token.AND {
			if c, ok := s.parents[u].(*ast.CallExpr); ok {
				if i := slices.Index(c.Args, ast.Expr(u)); i >= 0 {
					for _, d := range s.callee(c) {
						if o := parameter(s, d.Type, i); o != nil {
							groups = append(groups, o)
						}
					}
				}
			}
		}
	}
	for _, g := range groups {
		for _, id := range s.uses[g] {
			var x ast.Expr = id
			if sel, ok := s.parents[id].(*ast.SelectorExpr); ok && sel.Sel == id {
				x = sel
			}
			sel, ok := s.parents[x].(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Done" {
				continue
			}
			fn := s.enclosing(sel)
			out := s.unpaired(fn, nil, func(n ast.Node) bool {
				_, holder, name := s.methodCall(n)
				return holder == g && name == "Done"
			})
			if out != nil {
				return s.line(out, "leaves without Done")
			}
		}
	}
	return l
}

// channelMade is where the channel that a frame's line sends to or receives from was made.
func (s *Source) channelMade(at Frame) (l Line) {
	for _, e := range s.channels(at) {
		_, holder := s.root(e)
		if holder == nil {
			continue
		}
		if isField(holder) {
			continue
		}
		s.definitions(holder, func(v ast.Expr, _ ast.Node) {
			if c, ok := v.(*ast.CallExpr); ok && s.isBuiltin(c, "make") && !l.known() {
				l = s.line(c, "the channel was made here")
			}
		})
	}
	return l
}

// channels are what a frame's line sends to, receives from or ranges over.
func (s *Source) channels(at Frame) (list []ast.Expr) {
	if s == nil {
		return nil
	}
	collect := func(n ast.Node) {
		switch n := n.(type) {
		case *ast.SendStmt:
			list = append(list, n.Chan)
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				list = append(list, n.X)
			}
		case *ast.RangeStmt:
			list = append(list, n.X)
		}
	}
	s.at(at.File, at.Line, func(n ast.Node) {
		if sel, ok := n.(*ast.SelectStmt); ok {
			for _, c := range sel.Body.List {
				if comm, ok := c.(*ast.CommClause); ok && comm.Comm != nil {
					ast.Inspect(comm.Comm, func(n ast.Node) bool { collect(n); return true })
				}
			}
			return
		}
		collect(n)
	})
	return list
}

// neverCancelled looks for the call that made a context which a frame's line waits for, and whose cancel function is never
// called. created is the go statement of the goroutine.
func (s *Source) neverCancelled(at, created Frame) (l Line) {
	for _, ch := range s.channels(at) {
		c, ok := ast.Unparen(ch).(*ast.CallExpr)
		if !ok {
			continue
		}
		sel, ok := c.Fun.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != "Done" || len(c.Args) > 0 {
			continue
		}
		_, holder := s.root(sel.X)
		if found := s.originOfContext(holder, created, 0); found.known() {
			return found
		}
	}
	return l
}

func (s *Source) originOfContext(o types.Object, created Frame, depth int) (l Line) {
	if o == nil || depth > 6 {
		return l
	}
	given := func(e ast.Expr, st ast.Node) {
		c, ok := ast.Unparen(e).(*ast.CallExpr)
		if !ok {
			if id, ok := ast.Unparen(e).(*ast.Ident); ok && !l.known() {
				l = s.originOfContext(s.object(id), created, depth+1)
			}
			return
		}
		pkg, name := s.callName(c)
		if pkg != "context" {
			return
		}
		switch name {
		case "WithCancel", "WithCancelCause", "WithTimeout", "WithDeadline":
			if a, ok := st.(*ast.AssignStmt); ok && len(a.Lhs) == 2 && s.dropped(a.Lhs[1]) {
				l = s.line(c, "made here, and never cancelled")
				return
			}
		}
		if len(c.Args) > 0 && !l.known() {
			if id, ok := c.Args[0].(*ast.Ident); ok {
				l = s.originOfContext(s.object(id), created, depth+1)
			}
		}
	}
	s.definitions(o, given)
	if l.known() {
		return l
	}
	if isField(o) {
		// What the field is given where the struct is made or set.
		for _, id := range s.uses[o] {
			switch p := s.parents[id].(type) {
			case *ast.KeyValueExpr:
				given(p.Value, p)
				if l.known() {
					return l
				}
			case *ast.SelectorExpr:
				if a, ok := s.parents[p].(*ast.AssignStmt); ok {
					if i := slices.Index(a.Lhs, ast.Expr(p)); i >= 0 {
						given(a.Rhs[min(i, len(a.Rhs)-1)], a)
						if l.known() {
							return l
						}
					}
				}
			}
		}
		return l
	}
	if !s.isParameter(o) {
		return l
	}
	// An argument: of the calls that may have given it, the go statement that is known first.
	fn := s.enclosingOf(o)
	index := parameterIndex(fn, o)
	if index < 0 {
		return l
	}
	try := func(c *ast.CallExpr) {
		if l.known() || index >= len(c.Args) {
			return
		}
		_, holder := s.root(c.Args[index])
		if inner, ok := c.Args[index].(*ast.CallExpr); ok {
			given(inner, s.parents[ast.Node(inner)])
			return
		}
		l = s.originOfContext(holder, Frame{}, depth+1)
	}
	if created.File != "" {
		s.at(created.File, created.Line, func(n ast.Node) {
			if g, ok := n.(*ast.GoStmt); ok {
				try(g.Call)
			}
		})
	}
	if d, ok := fn.(*ast.FuncDecl); ok && !l.known() {
		for _, id := range s.uses[origin(s.info.Defs[d.Name])] {
			n := s.parents[id]
			if sel, ok := n.(*ast.SelectorExpr); ok {
				n = s.parents[sel]
			}
			if c, ok := n.(*ast.CallExpr); ok {
				try(c)
			}
		}
	}
	return l
}

func parameterIndex(fn ast.Node, o types.Object) int {
	var list []*ast.Field
	switch f := fn.(type) {
	case *ast.FuncDecl:
		list = f.Type.Params.List
	case *ast.FuncLit:
		list = f.Type.Params.List
	}
	i := 0
	for _, field := range list {
		for _, n := range field.Names {
			if n.Pos() == o.Pos() {
				return i
			}
			i++
		}
	}
	return -1
}

// dropped says whether a cancel function that is assigned is never called, deferred, stored or handed on.
func (s *Source) dropped(lhs ast.Expr) bool {
	id, ok := lhs.(*ast.Ident)
	if !ok {
		return false
	}
	if id.Name == "_" {
		return true
	}
	o := s.object(id)
	if o == nil {
		return false
	}
	for _, use := range s.uses[o] {
		if a, ok := s.parents[use].(*ast.AssignStmt); ok {
			// _ = cancel keeps the compiler quiet, no more.
			if i := slices.Index(a.Rhs, ast.Expr(use)); i >= 0 {
				if l, ok := a.Lhs[i].(*ast.Ident); ok && l.Name == "_" {
					continue
				}
			}
			if slices.Contains(a.Lhs, ast.Expr(use)) {
				continue
			}
		}
		return false
	}
	return true
}
