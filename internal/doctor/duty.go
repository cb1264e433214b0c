package doctor

import (
	"go/ast"
	"go/token"
	"go/types"
	"path"
	"slices"
	"strings"
)

// Who got something has to give it back, or to hand it on: to a caller by a return, to a function as an argument, to a collection that
// keeps it. The duty goes along. Here it is followed to the one who forgets it.

// How deep a duty is followed, through callers and through functions that a thing is given to.
const mostDuties = 4

// course is what becomes of a thing in one function.
type course struct {
	gives    bool         // it is given back on some path
	exit     ast.Node     // a way out on which it is neither given back nor handed on; nil where there is none
	forgets  ast.Node     // the same, in a function that it was given to
	result   int          // which result of the function it leaves by, -1 for none
	wrapped  bool         // it leaves as a part of another thing
	part     types.Object // the field that it is in then, where that is known
	keeper   ast.Node     // what puts it into a collection
	elsewise bool         // it goes where it is not followed
}

// courseOf follows the thing that variable o holds in function fn from the call take on; where take is nil, from the beginning.
// got is the statement that got it, nil for a parameter.
func (s *Source) courseOf(r *resource, fn ast.Node, o types.Object, take *ast.CallExpr, got *ast.AssignStmt, depth int) course {
	c := course{result: -1}
	gives := map[ast.Node]bool{} // the nodes with which the duty ends
	for _, use := range s.uses[o] {
		for n := ast.Node(use); n != nil && n != fn; n = s.parents[n] {
			if s.gives(r, n, o) {
				c.gives, gives[n] = true, true
			}
		}
		s.courseOfUse(r, fn, o, use, depth, &c, gives)
	}
	if f, ok := fn.(*ast.FuncDecl); ok && f.Type.Results != nil && c.result < 0 && !c.gives {
		c.result = namedResult(s, f, o)
	}
	if fn == nil {
		return c
	}
	out := s.unpaired(fn, take, func(n ast.Node) bool {
		if gives[n] {
			return true
		}
		ret, ok := n.(*ast.ReturnStmt)
		if !ok {
			return false
		}
		// A way out where it was never got needs nothing, nor does one that hands it on.
		return got != nil && s.isErrorPath(ret, got) || s.isNothing(ret, o) || c.result >= 0 && len(ret.Results) == 0
	})
	if ret, ok := out.(*ast.ReturnStmt); ok {
		c.exit = ret
	} else if out != nil && len(gives) == 0 {
		c.exit = out
	}
	return c
}

// courseOfUse looks at one place where the variable stands.
func (s *Source) courseOfUse(r *resource, fn ast.Node, o types.Object, use *ast.Ident, depth int, c *course, gives map[ast.Node]bool) {
	var e ast.Expr = use
	wrapped := false
	defer func() {
		if wrapped && c.part == nil {
			c.part = s.fieldOf(use)
		}
	}()
	for {
		switch p := s.parents[e].(type) {
		case *ast.ParenExpr:
			e = p
			continue
		case *ast.UnaryExpr:
			if p.Op == token.AND {
				e = p
				continue
			}
		case *ast.KeyValueExpr:
			if p.Value == e {
				e, wrapped = p, true
				continue
			}
		case *ast.CompositeLit:
			e, wrapped = p, true
			continue
		case *ast.CallExpr:
			if s.isConversion(p) || len(p.Args) == 1 && isConversionSyntax(p) {
				e = p
				continue
			}
		}
		break
	}
	switch p := s.parents[e].(type) {
	case *ast.ReturnStmt:
		if s.enclosing(p) != fn {
			c.elsewise = true
			return
		}
		c.result, c.wrapped = slices.Index(p.Results, e), c.wrapped || wrapped
		gives[p] = true
	case *ast.SendStmt:
		if p.Value == e {
			c.keeper, gives[p] = p, true
		}
	case *ast.IndexExpr:
		if a, ok := s.parents[p].(*ast.AssignStmt); ok && p.Index == e && slices.Contains(a.Lhs, ast.Expr(p)) {
			c.keeper, gives[a] = a, true // the key of a set
		}
	case *ast.AssignStmt:
		i := slices.Index(p.Rhs, e)
		if i < 0 || len(p.Lhs) != len(p.Rhs) {
			return
		}
		switch l := p.Lhs[i].(type) {
		case *ast.Ident:
			if l.Name == "_" {
				return
			}
			if alias := s.object(l); wrapped && alias != nil && alias != o && !isGlobal(alias) && depth < mostDuties && s.enclosing(p) == fn {
				// The whole that it is a part of: it goes where that goes.
				sub := s.courseOf(wholeOf(r), fn, alias, nil, nil, depth+1)
				c.join(sub)
				c.wrapped = true
				gives[p] = true
				if sub.result < 0 && sub.keeper == nil {
					c.elsewise = true
				}
				return
			}
			c.elsewise = true
		case *ast.IndexExpr:
			c.keeper = p
		default:
			c.elsewise = true
		}
		gives[p] = true
	case *ast.CallExpr:
		i := slices.Index(p.Args, e)
		if i < 0 {
			return
		}
		if s.isBuiltin(p, "append") {
			gives[p] = true
			if a, ok := s.parents[p].(*ast.AssignStmt); ok {
				if root, holder := s.root(a.Lhs[0]); isField(holder) || root != nil && isGlobal(root) {
					c.keeper = a
					return
				}
			}
			c.elsewise = true
			return
		}
		if _, isGo := s.parents[p].(*ast.GoStmt); isGo && len(s.callee(p)) == 0 {
			c.elsewise, gives[p] = true, true
			return
		}
		for _, d := range s.callee(p) {
			in := parameter(s, d.Type, i)
			if in == nil || d.Body == nil || depth >= mostDuties {
				c.elsewise, gives[p] = true, true
				continue
			}
			sub := s.courseOf(r, d, in, nil, nil, depth+1)
			c.gives = c.gives || sub.gives
			switch {
			case sub.gives:
				gives[p] = true
				if sub.exit != nil {
					c.forgets = sub.exit
				} else if c.forgets == nil {
					c.forgets = sub.forgets
				}
			case sub.keeper != nil:
				c.keeper, gives[p] = sub.keeper, true
			case sub.result >= 0, sub.elsewise:
				c.elsewise, gives[p] = true, true
			}
		}
	}
}

// fieldOf is the field that a variable is put into in a literal of a struct, nil if unknown.
func (s *Source) fieldOf(use *ast.Ident) types.Object {
	for n := ast.Node(use); n != nil; n = s.parents[n] {
		switch p := s.parents[n].(type) {
		case *ast.KeyValueExpr:
			if key, ok := p.Key.(*ast.Ident); ok && p.Value == n {
				return s.object(key)
			}
		case *ast.CompositeLit:
			if st, ok := underlyingStruct(s.info.Types[p].Type); ok {
				if i := slices.Index(p.Elts, n.(ast.Expr)); i >= 0 && i < st.NumFields() {
					return origin(st.Field(i))
				}
			}
			return nil
		case *ast.CallExpr, *ast.ParenExpr:
		default:
			return nil
		}
	}
	return nil
}

func (c *course) join(o course) {
	c.gives = c.gives || o.gives
	if o.keeper != nil {
		c.keeper = o.keeper
	}
	if o.result >= 0 {
		c.result = o.result
	}
	c.elsewise = c.elsewise || o.elsewise
}

// wholeOf is the kind of a thing that has one of kind r as a part: what ends it may have other names.
func wholeOf(r *resource) *resource {
	whole := *r
	whole.gives, whole.whole = slices.Concat(r.gives, closers), true
	return &whole
}

// namedResult is which result of a function a variable is, -1 for none.
func namedResult(s *Source, d *ast.FuncDecl, o types.Object) int {
	i := 0
	for _, field := range d.Type.Results.List {
		for _, name := range field.Names {
			if s.object(name) == o {
				return i
			}
			i++
		}
	}
	return -1
}

// isNothing says whether a way out is taken because a variable is nil: there is nothing to give back.
func (s *Source) isNothing(ret ast.Node, o types.Object) bool {
	for n := s.parents[ret]; n != nil; n = s.parents[n] {
		i, ok := n.(*ast.IfStmt)
		if !ok || !within(ret, i.Body) {
			continue
		}
		if b, ok := ast.Unparen(i.Cond).(*ast.BinaryExpr); ok && b.Op == token.EQL {
			for x, y := b.X, b.Y; x != nil; x, y = y, nil {
				id, isID := ast.Unparen(x).(*ast.Ident)
				nothing, isNil := ast.Unparen(or(y, b.X)).(*ast.Ident)
				if isID && isNil && nothing.Name == "nil" && s.object(id) == o {
					return true
				}
			}
		}
	}
	return false
}

func or(a, b ast.Expr) ast.Expr {
	if a != nil {
		return a
	}
	return b
}

// duties are the lines that forget what a call got, as its result of that index: the call's own, or, where the thing leaves by a return,
// those of the callers, each with the line that opened it.
func (s *Source) duties(r *resource, c *ast.CallExpr, index, depth int) []unreturned {
	u := s.fate(r, c, index)
	if u.weight > 0 && !u.line.known() {
		u.line = s.line(c, "opened here")
	}
	if u.keep.known() && depth > 0 {
		u.line = u.keep // who keeps it is another than who opened it
	}
	d := s.declaration(c)
	if u.keep.known() || u.result < 0 || depth == mostDuties || d == nil || s.enclosing(c) != ast.Node(d) {
		if u.weight == 0 {
			return nil
		}
		return []unreturned{u}
	}
	var list []unreturned
	calls := 0
	whole := r
	if u.wrapped {
		whole = wholeOf(r)
		if u.part != nil && isField(u.part) && u.weight > 0 && !s.givenBackAnywhere(r, u.part) {
			return []unreturned{u} // what it is a part of has no way to give it back: no caller can
		}
	}
	s.callersOf(d, func(call *ast.CallExpr) {
		calls++
		for _, above := range s.duties(whole, call, u.result, depth+1) {
			if above.bounded {
				above.line = s.line(c, "opened here")
			} else {
				above.from = append(above.from, s.line(c, "opened here"))
			}
			list = append(list, above)
		}
	})
	if u.exit.known() { // it forgets it itself on a way out
		return append(list, u)
	}
	if calls == 0 && u.weight > 0 {
		return []unreturned{u}
	}
	return list
}

// passOn takes a finding whose line gets something, and hands it on by a return, to the line that should have given it back.
func (e *Evidence) passOn(f *Finding, p places) {
	s := e.Source
	if s == nil || !f.Line.known() || s.files[slashes(f.Line.File)] == nil {
		return
	}
	var list []unreturned
	advice := ""
	s.at(f.Line.File, f.Line.Line, func(n ast.Node) {
		c, ok := n.(*ast.CallExpr)
		if !ok {
			return
		}
		for _, r := range resources {
			if s.getsOne(r, c) {
				if u := s.fate(r, c, 0); u.result >= 0 || u.keep.known() {
					list, advice = append(list, s.duties(r, c, 0, 0)...), r.advice
				}
			}
		}
	})
	if r, from := s.registered(f.Line); r != nil {
		for _, u := range from {
			list, advice = append(list, u), r.advice
		}
	}
	e.likeliest(list, p)
	if len(list) == 0 || list[0].line.same(f.Line) {
		return
	}
	old := f.Line
	f.Sentence += "; " + list[0].why()
	f.Line, f.Advice = list[0].line, list[0].advise(advice)
	for _, l := range append(related(list), old) {
		if !l.same(f.Line) && !slices.ContainsFunc(f.Related, l.same) {
			f.Related = append(f.Related, l)
		}
	}
}

// why says what is wrong with the line.
func (u *unreturned) why() string {
	if u.keep.known() {
		return "it is kept at " + u.keep.String()
	}
	return "its caller does not give it back on every path: " + u.line.String()
}

// opened says where it was opened, and who forgets to give it back if that is another.
func (u *unreturned) opened() string {
	switch {
	case len(u.from) > 0:
		return "opened at " + u.from[len(u.from)-1].String() + "; " + u.why()
	case u.keep.known():
		return "opened at " + u.line.String() + "; " + u.why()
	}
	return "opened at " + u.line.String()
}

// advise is the advice of the kind, or, where the thing is kept, what ends that.
func (u *unreturned) advise(advice string) string {
	if u.keep.known() {
		return "it stays open as long as it is kept: take it out of the collection when it is not needed any more, and close it there"
	}
	return advice
}

// registered finds out whether a line puts something into a collection that only its own end takes it out of: a view that Release takes
// out of the views. Then whoever got it has to call that. r is nil where it is not so.
func (s *Source) registered(l Line) (r *resource, list []unreturned) {
	s.at(l.File, l.Line, func(n ast.Node) {
		a, ok := n.(*ast.AssignStmt)
		if !ok || len(a.Lhs) != 1 || len(a.Rhs) != 1 {
			return
		}
		ix, ok := a.Lhs[0].(*ast.IndexExpr)
		if !ok {
			return
		}
		_, holder := s.root(ix.X)
		ends := s.endsOf(holder)
		if len(ends) == 0 {
			return
		}
		fn := s.declaration(a)
		for _, x := range []ast.Expr{ix.Index, a.Rhs[0]} {
			id, ok := ast.Unparen(x).(*ast.Ident)
			if !ok {
				continue
			}
			of := &resource{kind: "registered", gives: ends, advice: "call " + strings.Join(ends, " or ") + " on every path, with defer right after the error is checked"}
			for _, u := range s.dutiesOf(of, fn, s.object(id), 0) {
				r, list = of, append(list, u)
			}
		}
	})
	return r, list
}

// endsOf are the methods that take out of a collection, and end what they are called on: nil where something else takes out too, or where
// they are methods of what has the collection.
func (s *Source) endsOf(holder types.Object) (names []string) {
	if holder == nil || !isField(holder) {
		return nil
	}
	for _, id := range s.uses[holder] {
		sel, ok := s.parents[id].(*ast.SelectorExpr)
		if !ok {
			continue
		}
		c, ok := s.parents[sel].(*ast.CallExpr)
		if !ok || !s.isBuiltin(c, "delete") {
			continue
		}
		d := s.declaration(c)
		if d == nil {
			return nil
		}
		of := receiverName(d)
		for range 2 {
			if receiverName(d) != of && slices.Contains(closers, d.Name.Name) {
				break
			}
			var callers []*ast.FuncDecl
			s.callersOf(d, func(c *ast.CallExpr) {
				if up := s.declaration(c); up != nil && !slices.Contains(callers, up) {
					callers = append(callers, up)
				}
			})
			if len(callers) != 1 {
				return nil
			}
			d = callers[0]
		}
		if receiverName(d) == of || !slices.Contains(closers, d.Name.Name) || d.Recv == nil {
			return nil
		}
		if !slices.Contains(names, d.Name.Name) {
			names = append(names, d.Name.Name)
		}
	}
	return names
}

// receiverName is the name of the type that a method is of, "" for a function.
func receiverName(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return ""
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(types.ExprString(d.Recv.List[0].Type), "*"), "[")
	return name
}

// dutiesOf is duties for what a variable of a function holds: it came as an argument, or was made there.
func (s *Source) dutiesOf(r *resource, fn *ast.FuncDecl, o types.Object, depth int) (list []unreturned) {
	if fn == nil || o == nil || depth == mostDuties {
		return nil
	}
	if s.isParameter(o) {
		index := parameterIndex(fn, o)
		s.callersOf(fn, func(c *ast.CallExpr) {
			if index < 0 || index >= len(c.Args) {
				return
			}
			id, ok := ast.Unparen(c.Args[index]).(*ast.Ident)
			up, isDecl := s.enclosing(c).(*ast.FuncDecl)
			if ok && isDecl {
				list = append(list, s.dutiesOf(r, up, s.object(id), depth+1)...)
			}
		})
		return list
	}
	c := s.courseOf(r, fn, o, nil, nil, 0)
	if c.result < 0 {
		return nil
	}
	s.callersOf(fn, func(call *ast.CallExpr) {
		list = append(list, s.duties(r, call, c.result, depth+1)...)
	})
	return list
}

// likeliest puts the likeliest first: lines that were seen to allocate, or whose packages were seen at all, before others.
func (e *Evidence) likeliest(list []unreturned, p places) {
	active, ran := e.activity(p), e.ranPackages(p)
	for i := range list {
		u := &list[i]
		// A line that was seen to allocate is one that runs; one whose memory grows, more so.
		if a, ok := active[lineKey{u.line.File, u.line.Line}]; ok {
			u.weight *= 2
			if a > 0 {
				u.weight *= 4
			}
		}
		if !ran[path.Dir(u.line.File)] {
			u.weight /= 16
		}
	}
	slices.SortStableFunc(list, func(a, b unreturned) int {
		switch {
		case a.weight > b.weight:
			return -1
		case a.weight < b.weight:
			return 1
		}
		return 0
	})
}

// runsOnce says whether a call is made once in the life of the program: in main or init, or in what only they call, outside of loops. What
// is got once does not pile up.
func (s *Source) runsOnce(n ast.Node, depth int) bool {
	d, ok := s.enclosing(n).(*ast.FuncDecl)
	if !ok {
		// At the top of a package, or in a literal, which runs as often as it is called.
		return s.enclosing(n) == nil
	}
	if s.inLoop(n) {
		return false
	}
	if d.Recv == nil && (d.Name.Name == "main" || d.Name.Name == "init") {
		return true
	}
	if depth == mostDuties {
		return false
	}
	calls, once := 0, true
	s.callersOf(d, func(c *ast.CallExpr) {
		calls++
		once = once && s.runsOnce(c, depth+1)
	})
	// Two lines that call it make two, no more.
	return calls > 0 && once && calls == len(s.uses[origin(s.info.Defs[d.Name])])
}

// neverEnded finds who forgets to end what goroutines work for that range over a channel of it, at a frame's line: the callers of what made it
// that do not call the method which closes the channel, the name of which is end.
func (s *Source) neverEnded(e *Evidence, p places, at Frame) (list []unreturned, end string) {
	if s == nil {
		return nil, ""
	}
	var field types.Object
	s.at(at.File, at.Line, func(n ast.Node) {
		if r, ok := n.(*ast.RangeStmt); ok {
			if _, holder := s.root(r.X); holder != nil && isField(holder) {
				field = holder
			}
		}
	})
	if field == nil {
		return nil, ""
	}
	var makers []*ast.FuncDecl
	for _, id := range s.uses[field] {
		switch x := s.parents[id].(type) {
		case *ast.SelectorExpr:
			c, ok := s.parents[x].(*ast.CallExpr)
			if d := s.declaration(x); ok && s.isBuiltin(c, "close") && d != nil && d.Recv != nil {
				end = d.Name.Name
			}
		case *ast.KeyValueExpr:
			if d := s.declaration(x); d != nil && x.Key == ast.Expr(id) && d.Type.Results != nil && !slices.Contains(makers, d) {
				makers = append(makers, d)
			}
		}
	}
	if end == "" {
		return nil, ""
	}
	r := &resource{kind: "of goroutines", gives: []string{end}}
	for _, d := range makers {
		s.callersOf(d, func(c *ast.CallExpr) {
			for _, u := range s.duties(r, c, 0, 0) {
				if u.line.same(s.line(c, "")) {
					u.line.Role = "made here"
				}
				if s.runsOnce(c, 0) {
					u.weight /= 64
				}
				list = append(list, u)
			}
		})
	}
	e.likeliest(list, p)
	return list, end
}

// replaces says whether what a call got takes the place of another in a variable that others see, and how sure it is that the other is not
// given back: x.Store(get()), x.f = get(). The weight is 0 where the function gives something of x back, too.
func (s *Source) replaces(r *resource, c *ast.CallExpr) (weight float64, ok bool) {
	var into ast.Expr
	switch p := s.consumer(c).(type) {
	case *ast.CallExpr:
		sel, isMethod := ast.Unparen(p.Fun).(*ast.SelectorExpr)
		if !isMethod || sel.Sel.Name != "Store" && sel.Sel.Name != "Swap" || !slices.ContainsFunc(p.Args, func(a ast.Expr) bool { return within(c, a) }) {
			return 0, false
		}
		if _, used := s.parents[p].(*ast.ExprStmt); !used {
			return 2, true // the old one is at hand
		}
		into = sel.X
	default:
		return 0, false
	}
	_, holder := s.root(into)
	fn := s.declaration(c)
	if holder == nil || fn == nil {
		return 0, false
	}
	given := false
	for _, id := range s.uses[holder] {
		if !within(id, fn) {
			continue
		}
		for n := ast.Node(id); n != nil && n != ast.Node(fn); n = s.parents[n] {
			call, isCall := n.(*ast.CallExpr)
			if !isCall {
				continue
			}
			if _, name := s.callName(call); slices.Contains(r.gives, name) {
				given = true
			}
			// The old one is taken out to be given back: old := x.Load(), old := x.Swap(nil).
			if a, isAssign := s.consumer(call).(*ast.AssignStmt); isAssign && len(a.Lhs) == 1 {
				if v, isVar := a.Lhs[0].(*ast.Ident); isVar && s.courseOf(r, fn, s.object(v), nil, nil, 0).gives {
					given = true
				}
			}
		}
	}
	if given {
		return 0, true
	}
	return 4, true
}

// callersOf visits the calls of a function of the program's own, those with type arguments too.
func (s *Source) callersOf(d *ast.FuncDecl, visit func(*ast.CallExpr)) {
	o := s.info.Defs[d.Name]
	if o == nil {
		return
	}
	for _, id := range s.uses[origin(o)] {
		var e ast.Expr = id
		if sel, ok := s.parents[e].(*ast.SelectorExpr); ok && sel.Sel == id {
			e = sel
		}
		switch x := s.parents[e].(type) {
		case *ast.IndexExpr:
			if x.X == e {
				e = x
			}
		case *ast.IndexListExpr:
			e = x
		}
		if c, ok := s.parents[e].(*ast.CallExpr); ok && c.Fun == e {
			visit(c)
		}
	}
}
