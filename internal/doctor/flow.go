package doctor

import (
	"cmp"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strconv"
	"strings"
)

// Keep is a place where a value that was allocated is kept.
type Keep struct {
	Line   Line
	What   string       // in words: "stored in the map", "appended to"
	Holder types.Object // the variable or field that keeps it, nil if it is none of ours
	rank   int
	// part is the place where a part was taken that keeps the whole alive, the zero Line if none was; small says that the
	// part is small for sure.
	part  Line
	small bool
	pool  Line // where the holder goes back to a pool with what it holds
	// guessed says that it is others' code that keeps it, as far as its name tells.
	guessed bool
	// registered says that the runtime or a parent has it, and the program has no hand on it there: a timer that was thrown away, a context
	// whose cancel function nobody is sure to call.
	registered bool
}

// How sure a place is the one that keeps. Containers grow; a field that is set keeps one value at a time; a variable of
// a function ends with the function; what others' code does with an argument is known by its name only.
const (
	rankArgument = 1 + iota
	rankLocal
	rankGoroutine
	rankField
	rankContainer
)

// keeps follows a value from the line that allocated it to where it is kept. frames is the stack of the allocation,
// the callee first; own the index of the first frame of the program's own. It is empty where the source does not tell.
//
// Values are followed by name: through assignments, composite values, parts, calls of the program's own functions, their
// results up the stack, and captures. That takes no types of others' packages, and is meant to be right for how people
// write, not for all that could be written.
func (s *Source) keeps(frames []Frame, own int, p places) []Keep {
	if s == nil || own < 0 {
		return nil
	}
	k := &follower{s: s, frames: frames, p: p, seen: map[visit]bool{}, left: 4000}
	begin := 0
	for _, e := range s.allocations(frames, own) {
		begin++
		if c, ok := e.(*ast.CallExpr); ok && own > 0 {
			if k.fills(c, trail{frame: own}); len(k.found) > 0 {
				continue // it is there, and not in the error or the number that the call returns
			}
		}
		k.expr(e, trail{frame: own})
	}
	if begin == 0 {
		// A variable that was moved to the heap is allocated where it is declared.
		s.at(frames[own].File, frames[own].Line, func(n ast.Node) {
			if id, ok := n.(*ast.Ident); ok {
				if v, ok := s.info.Defs[id].(*types.Var); ok && !v.IsField() {
					k.object(v, trail{frame: own})
				}
			}
		})
	}
	if len(k.found) == 0 {
		k.calledBack()
	}
	slices.SortStableFunc(k.found, func(a, b Keep) int {
		return cmp.Or(b.rank-a.rank, yesFirst(!ofLibrary(a.Line.File), !ofLibrary(b.Line.File)))
	})
	return k.found
}

// ofLibrary says whether a file belongs to a module of others.
func ofLibrary(file string) bool {
	return strings.Contains(file, "@v") || strings.Contains(file, "/vendor/")
}

// calledBack follows a value that a library was given, and of which nothing more is known, into the functions that the library may
// call with it: those of the program that have a parameter of one of the library's types, as the hook of a logger has.
func (k *follower) calledBack() {
	s := k.s
	given := map[string]bool{}
	for _, c := range k.given {
		file, _ := s.position(c)
		for _, i := range s.files[file].Imports {
			if path, err := strconv.Unquote(i.Path.Value); err == nil && strings.Contains(strings.SplitN(path, "/", 2)[0], ".") {
				given[path] = true
			}
		}
	}
	if len(given) == 0 {
		return
	}
	for _, name := range sortedKeys(s.files) {
		if ofLibrary(name) {
			continue
		}
		for _, d := range s.files[name].Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil {
				continue
			}
			for _, field := range fn.Type.Params.List {
				t := field.Type
				if st, ok := t.(*ast.StarExpr); ok {
					t = st.X
				}
				sel, ok := t.(*ast.SelectorExpr)
				if !ok {
					continue
				}
				id, ok := sel.X.(*ast.Ident)
				if !ok {
					continue
				}
				pkg, ok := s.info.Uses[id].(*types.PkgName)
				if !ok || !given[pkg.Imported().Path()] {
					continue
				}
				for _, n := range field.Names {
					if o := s.info.Defs[n]; o != nil {
						k.object(o, trail{frame: len(k.frames)})
					}
				}
			}
		}
	}
	k.found = slices.DeleteFunc(k.found, func(f Keep) bool { return f.rank < rankContainer || f.guessed })
}

// fills follows what others' code may have put the memory into, beside its result: what a pointer among its arguments points
// to, as json.Unmarshal does, or what the method is called on, as a buffer's Write does.
func (k *follower) fills(c *ast.CallExpr, t trail) {
	s := k.s
	into := func(e ast.Expr) {
		if u, ok := ast.Unparen(e).(*ast.UnaryExpr); ok && u.Op == token.AND {
			e = u.X
		}
		root, holder := s.root(e)
		switch {
		case root == nil || holder == nil:
		case isGlobal(root) || isField(holder):
			rank := rankField
			if !isGlobal(root) && !s.isParameter(root) {
				rank = rankLocal
				k.object(root, t)
			}
			k.keep(c, t, rank, "filled by "+calledText(c), holder)
		default:
			k.object(root, t)
		}
	}
	pkg, name := s.callName(c)
	if sel, ok := ast.Unparen(c.Fun).(*ast.SelectorExpr); ok && pkg == "" && (strings.HasPrefix(name, "Write") || name == "ReadFrom" || name == "Grow" || name == "Scan") {
		into(sel.X)
	}
	for _, a := range c.Args {
		switch {
		case isAddress(a): // whatever it is called: what was allocated below the call and survives has to be somewhere
			into(a)
		case strings.HasPrefix(name, "Unmarshal"), strings.HasPrefix(name, "Decode"), strings.HasPrefix(name, "Fprint"), name == "Copy", strings.HasPrefix(name, "Scan"), strings.HasPrefix(name, "Sscan"), strings.HasPrefix(name, "Fscan"), name == "Read":
			into(a)
		}
	}
}

// isAddress says whether an expression is &x of a variable or a part of one, and of no new value.
func isAddress(e ast.Expr) bool {
	u, ok := ast.Unparen(e).(*ast.UnaryExpr)
	if !ok || u.Op != token.AND {
		return false
	}
	_, lit := ast.Unparen(u.X).(*ast.CompositeLit)
	return !lit
}

// allocations are the expressions on a frame's line that allocate, as far as its callee's name tells which.
func (s *Source) allocations(frames []Frame, own int) []ast.Expr {
	var calls, others []ast.Expr
	callee := ""
	if own > 0 {
		callee = lastName(frames[own-1].Function)
	}
	f := frames[own]
	s.at(f.File, f.Line, func(n ast.Node) {
		switch x := n.(type) {
		case *ast.CallExpr:
			if _, name := s.callName(x); callee != "" && name == callee {
				calls = append(calls, x)
			} else if callee == "" && (s.isBuiltin(x, "make") || s.isBuiltin(x, "new") || s.isBuiltin(x, "append") || s.isConversion(x)) {
				others = append(others, x)
			} else if callee != "" && len(s.callee(x)) == 0 && !s.isBuiltin(x, "append") {
				others = append(others, x)
			}
		case *ast.CompositeLit, *ast.FuncLit:
			if callee == "" {
				others = append(others, n.(ast.Expr))
			}
		case *ast.BinaryExpr:
			if tv := s.info.Types[x]; callee == "" && x.Op == token.ADD && (tv.Type == nil || isString(tv.Type)) {
				others = append(others, x)
			}
		}
	})
	if len(calls) > 0 {
		return calls
	}
	if declared(f.Function) != f.Function {
		// It is within a function literal: one on the same line that others of these are within is that one, and not allocated here.
		all := slices.Clone(others)
		others = slices.DeleteFunc(others, func(e ast.Expr) bool {
			return slices.ContainsFunc(all, func(o ast.Expr) bool { return o != e && inLiteralOf(e, o) })
		})
	}
	if len(others) == 0 && callee == "" {
		// The map or the variable of a store is what the runtime allocates then.
		s.at(f.File, f.Line, func(n ast.Node) {
			if a, ok := n.(*ast.AssignStmt); ok {
				for _, l := range a.Lhs {
					if ix, ok := l.(*ast.IndexExpr); ok && len(others) == 0 {
						others = append(others, ix.Index) // the key is stored with the rest
					}
				}
			}
		})
	}
	return others
}

// inLiteralOf says whether an expression is in the body of a function literal that is, or is in, another.
func inLiteralOf(e, o ast.Expr) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		if l, ok := n.(*ast.FuncLit); ok && within(o, l.Body) {
			found = true
		}
		return !found
	})
	return found
}

func isString(t types.Type) bool {
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsString != 0
}

// lastName is the name of a function without package and receiver.
func lastName(function string) string {
	function = strings.TrimSuffix(function, "[...]")
	function = declared(function)
	return function[strings.LastIndexByte(function, '.')+1:]
}

// isConversion says whether a call converts to a type, as far as types are known.
func (s *Source) isConversion(c *ast.CallExpr) bool {
	if tv, ok := s.info.Types[c.Fun]; ok && tv.IsType() {
		return true
	}
	_, array := ast.Unparen(c.Fun).(*ast.ArrayType)
	return array
}

// copies says whether a conversion copies bytes.
func (s *Source) copies(c *ast.CallExpr) bool {
	switch f := ast.Unparen(c.Fun).(type) {
	case *ast.ArrayType:
		return true
	case *ast.Ident:
		return f.Name == "string"
	}
	return false
}

// visit is what a follower has seen: an object or an expression, in one call.
type visit struct {
	node   any
	call   *trailCall
	result int
}

// trailCall is a call of ours that the value went into.
type trailCall struct {
	call *ast.CallExpr
	up   *trailCall
	at   int // the frame in which the call stands
}

// trail is how the value came here.
type trail struct {
	frame  int // of the stack, whose function the value is in, where calls is nil
	calls  *trailCall
	result int  // which result of a call it is
	inside bool // it is inside something else that is appended
	part   Line
	small  bool
	depth  int
}

type follower struct {
	s      *Source
	frames []Frame
	p      places
	seen   map[visit]bool
	found  []Keep
	given  []*ast.CallExpr // calls of others' code that it went into, and of which nothing is known
	left   int             // steps
}

func (k *follower) keep(n ast.Node, t trail, rank int, what string, holder types.Object) {
	l := k.s.line(n, "kept here")
	for i, o := range k.found {
		if o.Line.same(l) && (o.Holder == holder || o.Holder == nil || holder == nil) {
			if o.rank < rank {
				k.found[i].rank, k.found[i].What, k.found[i].Holder = rank, what, holder
			}
			return
		}
	}
	k.found = append(k.found, Keep{Line: l, What: what, Holder: holder, rank: rank, part: t.part, small: t.small})
}

// step bounds the work.
func (k *follower) step(node any, t trail) bool {
	v := visit{node, t.calls, t.result}
	if k.left <= 0 || t.depth > 60 || k.seen[v] {
		return false
	}
	k.left--
	k.seen[v] = true
	return true
}

// object follows every use of a variable.
func (k *follower) object(o types.Object, t trail) {
	if o == nil || !k.step(o, t) {
		return
	}
	t.depth++
	home := k.s.enclosingOf(o)
	for _, id := range k.s.uses[o] {
		// A function literal that uses it keeps it.
		for lit := k.s.enclosing(id); lit != nil && lit != home; lit = k.s.enclosing(lit) {
			if l, ok := lit.(*ast.FuncLit); ok {
				k.expr(l, t)
			}
		}
		k.expr(id, t)
	}
}

// enclosingOf is the function in which a variable is declared, nil for a package's.
func (s *Source) enclosingOf(o types.Object) ast.Node {
	for _, f := range s.files {
		if o.Pos() < f.Pos() || o.Pos() > f.End() {
			continue
		}
		var found ast.Node
		ast.Inspect(f, func(n ast.Node) bool {
			if n == nil || o.Pos() < n.Pos() || o.Pos() >= n.End() {
				return false
			}
			switch n.(type) {
			case *ast.FuncDecl, *ast.FuncLit:
				found = n
			}
			return true
		})
		return found
	}
	return nil
}

// expr follows the value of an expression into what stands around it.
func (k *follower) expr(e ast.Expr, t trail) {
	if !k.step(e, t) {
		return
	}
	t.depth++
	s := k.s
	switch p := s.parents[e].(type) {
	case *ast.ParenExpr:
		k.expr(p, t)
	case *ast.UnaryExpr:
		if p.Op == token.AND {
			k.expr(p, t)
		}
	case *ast.TypeAssertExpr:
		k.expr(p, t)
	case *ast.SliceExpr:
		if p.X == e {
			t.part = s.line(p, "a part is taken here")
			t.small = t.small || s.constant(p.High)
			k.expr(p, t)
		}
	case *ast.KeyValueExpr:
		if lit, ok := s.parents[p].(*ast.CompositeLit); ok {
			k.expr(lit, t)
		}
	case *ast.CompositeLit:
		if p.Type != e {
			k.expr(p, t)
		}
	case *ast.IndexExpr:
		switch {
		case p.Index == e:
			switch a := s.parents[p].(type) {
			case *ast.AssignStmt:
				if slices.Contains(a.Lhs, ast.Expr(p)) {
					k.store(p, a, t)
				}
			case *ast.IncDecStmt: // the key of a map of counts
				k.store(p, a, t)
			}
		case p.X == e:
			if a, ok := s.parents[p].(*ast.AssignStmt); !ok || !slices.Contains(a.Lhs, ast.Expr(p)) {
				k.expr(p, t)
			}
		}
	case *ast.SelectorExpr:
		k.selector(p, t)
	case *ast.CallExpr:
		k.call(e, p, t)
	case *ast.AssignStmt:
		i := slices.Index(p.Rhs, e)
		if i < 0 {
			return
		}
		if len(p.Rhs) == 1 && len(p.Lhs) > 1 {
			i = min(t.result, len(p.Lhs)-1)
		}
		t.result = 0
		k.store(p.Lhs[i], p, t)
	case *ast.ValueSpec:
		i := slices.Index(p.Values, e)
		if i < 0 {
			return
		}
		if len(p.Values) == 1 && len(p.Names) > 1 {
			i = min(t.result, len(p.Names)-1)
		}
		t.result = 0
		if o := s.object(p.Names[i]); isGlobal(o) {
			k.keep(p, t, rankField, "held by "+o.Name(), o)
		} else {
			k.object(o, t)
		}
	case *ast.ReturnStmt:
		t.result = max(slices.Index(p.Results, e), 0)
		k.leave(p, t)
	case *ast.SendStmt:
		if p.Value == e {
			_, holder := s.root(p.Chan)
			rank := rankField
			if k.receives(holder, t, 0) {
				rank = rankLocal // it goes on
			}
			k.keep(p, t, rank, "sent to a channel that holds it", holder)
		}
	case *ast.RangeStmt:
		if p.X == e {
			if id, ok := p.Value.(*ast.Ident); ok {
				k.object(s.object(id), t)
			}
		}
	}
}

// receives follows a value out of a channel, wherever the program receives from it, and says whether it does.
func (k *follower) receives(channel types.Object, t trail, depth int) (any bool) {
	if channel == nil || depth > 3 {
		return false
	}
	s := k.s
	t.calls, t.frame, t.result, t.inside = nil, len(k.frames), 0, false // whoever receives is not on the stack
	for _, id := range s.uses[channel] {
		var e ast.Expr = id
		if sel, ok := s.parents[id].(*ast.SelectorExpr); ok && sel.Sel == id {
			e = sel
		}
		switch p := s.parents[e].(type) {
		case *ast.UnaryExpr:
			if p.Op == token.ARROW {
				any = true
				k.expr(p, t)
			}
		case *ast.RangeStmt:
			if id, ok := p.Key.(*ast.Ident); ok && p.X == e {
				any = true
				k.object(s.object(id), t)
			}
		case *ast.CallExpr:
			for _, d := range s.callee(p) {
				if i := slices.Index(p.Args, e); i >= 0 {
					any = k.receives(parameter(s, d.Type, i), t, depth+1) || any
				}
			}
		}
	}
	return any
}

// constant says whether an expression is a constant, as a slice's bound that keeps little is.
func (s *Source) constant(e ast.Expr) bool {
	if e == nil {
		return false
	}
	tv, ok := s.info.Types[e]
	return ok && tv.Value != nil
}

// selector follows x.f: a part of x, or the receiver of a call.
func (k *follower) selector(p *ast.SelectorExpr, t trail) {
	c, ok := k.s.parents[p].(*ast.CallExpr)
	if !ok || c.Fun != p {
		if a, isAssign := k.s.parents[p].(*ast.AssignStmt); isAssign && slices.Contains(a.Lhs, ast.Expr(p)) {
			return
		}
		// A method as a value keeps its receiver; a field that is read is a part of the whole.
		k.expr(p, t)
		return
	}
	k.deferred(c, t)
	decls := k.s.callee(c)
	for _, d := range decls {
		if d.Recv != nil && len(d.Recv.List) > 0 && len(d.Recv.List[0].Names) > 0 {
			t.calls = &trailCall{c, t.calls, t.frame}
			k.object(k.s.object(d.Recv.List[0].Names[0]), t)
			t.calls = t.calls.up
		}
	}
	if len(decls) == 0 && (p.Sel.Name == "Bytes" || p.Sel.Name == "String" || p.Sel.Name == "Next") {
		k.expr(c, t) // of a buffer: its bytes, not a copy, but for bytes.Buffer.String
	}
}

// deferred notes a call that is deferred in a loop: it holds what it was given until the function returns.
func (k *follower) deferred(c *ast.CallExpr, t trail) {
	if d, ok := k.s.parents[c].(*ast.DeferStmt); ok && k.s.inLoop(d) {
		k.keep(d, t, rankContainer, "deferred in a loop, and so held until the function returns", nil)
	}
}

// returnsPart are functions of the standard library whose result is a part of their argument.
var returnsPart = map[string]bool{
	"Trim": true, "TrimSpace": true, "TrimLeft": true, "TrimRight": true, "TrimPrefix": true, "TrimSuffix": true, "TrimFunc": true,
	"Split": true, "SplitN": true, "SplitAfter": true, "Fields": true, "FieldsFunc": true, "Cut": true, "CutPrefix": true, "CutSuffix": true,
}

// retains are the names under which others' code keeps an argument: it is in a collection, a timer or a registry afterwards.
var retains = map[string]bool{
	"PushBack": true, "PushFront": true, "InsertBefore": true, "InsertAfter": true, "Store": true, "LoadOrStore": true, "Swap": true,
	"CompareAndSwap": true, "Set": true, "Put": true, "Push": true, "Register": true, "MustRegister": true, "Subscribe": true, "Handle": true, "HandleFunc": true,
	"Insert": true, "Enqueue": true, "AfterFunc": true, "SetFinalizer": true, "AddCleanup": true, "Notify": true,
	"ReplaceOrInsert": true, "Publish": true, "RegisterOnShutdown": true, "Cleanup": true, "Do": false, "AddListener": true, "On": true, "OnClose": true,
	"SetValue": true, "SetDefault": true, "Append": true, "AppendFunc": true,
}

// wraps are functions whose result keeps their argument.
var wraps = map[string]bool{
	"NewReader": true, "NewReaderSize": true, "NewWriter": true, "NewWriterSize": true, "NewBuffer": true, "NewBufferString": true, "NopCloser": true, "LimitReader": true,
	"WithCancel": true, "WithTimeout": true, "WithDeadline": true, "WithValue": true, "WithCancelCause": true, "WithoutCancel": true,
	"NewScanner": true, "String": true, "Pointer": true, "TeeReader": true, "MultiReader": true, "MultiWriter": true, "Client": true, "NewRequest": true, "NewRequestWithContext": true,
	"Clip": true, "Grow": true, "Compact": true, "ValueOf": true, "Join": false,
}

// call follows an argument.
func (k *follower) call(e ast.Expr, c *ast.CallExpr, t trail) {
	s := k.s
	if c.Fun == e {
		// A function literal or value that is called: what runs it decides.
		if _, ok := s.parents[c].(*ast.GoStmt); ok {
			k.keep(c, t, rankGoroutine, "held by the goroutine that is started", nil)
		}
		return
	}
	arg := slices.Index(c.Args, e)
	if arg < 0 {
		return
	}
	k.deferred(c, t)
	if s.isBuiltin(c, "append") {
		// What is appended byte by byte is copied.
		if arg > 0 && c.Ellipsis.IsValid() {
			return
		}
		if arg > 0 {
			t.inside = true
		}
		k.expr(c, t)
		return
	}
	for _, b := range []string{"len", "cap", "copy", "delete", "print", "println", "panic", "clear", "make", "new", "close"} {
		if s.isBuiltin(c, b) {
			return
		}
	}
	if s.isConversion(c) {
		if !s.copies(c) {
			k.expr(c, t)
		}
		return
	}
	decls := s.callee(c)
	if len(decls) == 0 {
		// A function value of ours: the literal that a variable was given.
		if lit := s.literal(c.Fun); lit != nil {
			if o := parameter(s, lit.Type, arg); o != nil {
				t.calls = &trailCall{c, t.calls, t.frame}
				k.object(o, t)
				return
			}
		}
		k.foreign(e, c, arg, t)
		return
	}
	if _, ok := s.parents[c].(*ast.GoStmt); ok {
		k.keep(c, t, rankGoroutine, "held by the goroutine that is started", nil)
	}
	if t.calls.deep() > 12 {
		return
	}
	t.calls = &trailCall{c, t.calls, t.frame}
	for _, d := range decls {
		if o := parameter(s, d.Type, arg); o != nil {
			k.object(o, t)
		}
	}
}

func (c *trailCall) deep() (n int) {
	for ; c != nil; c = c.up {
		n++
	}
	return n
}

// literal is the function literal that a called expression stands for, nil if none.
func (s *Source) literal(fun ast.Expr) *ast.FuncLit {
	switch x := ast.Unparen(fun).(type) {
	case *ast.FuncLit:
		return x
	case *ast.Ident:
		o := s.object(x)
		if o == nil {
			return nil
		}
		var lit *ast.FuncLit
		s.definitions(o, func(e ast.Expr, _ ast.Node) {
			if l, ok := e.(*ast.FuncLit); ok {
				lit = l
			}
		})
		return lit
	}
	return nil
}

// definitions visits what a local variable is given where it is declared or assigned: the expression (of several results
// the call), and the statement.
func (s *Source) definitions(o types.Object, visit func(ast.Expr, ast.Node)) {
	assigned := func(a *ast.AssignStmt, id *ast.Ident) {
		for i, l := range a.Lhs {
			if l == ast.Expr(id) {
				if len(a.Rhs) == len(a.Lhs) {
					visit(a.Rhs[i], a)
				} else {
					visit(a.Rhs[0], a)
				}
			}
		}
	}
	for _, f := range s.files {
		if o.Pos() < f.Pos() || o.Pos() > f.End() {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if n == nil || o.Pos() < n.Pos() || o.Pos() >= n.End() {
				return false
			}
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, l := range n.Lhs {
					if id, ok := l.(*ast.Ident); ok && id.Pos() == o.Pos() {
						assigned(n, id)
					}
				}
			case *ast.RangeStmt:
				for _, l := range []ast.Expr{n.Key, n.Value} {
					if id, ok := l.(*ast.Ident); ok && id.Pos() == o.Pos() {
						visit(n.X, n)
					}
				}
			case *ast.ValueSpec:
				for i, id := range n.Names {
					if id.Pos() == o.Pos() && len(n.Values) > 0 {
						visit(n.Values[min(i, len(n.Values)-1)], n)
					}
				}
			}
			return true
		})
	}
	for _, id := range s.uses[o] {
		if a, ok := s.parents[id].(*ast.AssignStmt); ok {
			assigned(a, id)
		}
	}
}

// parameter is the variable of a function's argument, nil if it has no name.
func parameter(s *Source, f *ast.FuncType, arg int) types.Object {
	i := 0
	for _, field := range f.Params.List {
		for _, name := range field.Names {
			if _, variadic := field.Type.(*ast.Ellipsis); i == arg || variadic {
				return s.object(name)
			}
			i++
		}
		if len(field.Names) == 0 {
			i++
		}
	}
	return nil
}

// foreign follows an argument of a function that is not the program's own.
func (k *follower) foreign(e ast.Expr, c *ast.CallExpr, arg int, t trail) {
	s := k.s
	pkg, name := s.callName(c)
	switch {
	case (pkg == "strings" || pkg == "bytes") && returnsPart[name]:
		t.part = s.line(c, "a part is taken here")
		for t.result = range 2 {
			if t.result == 0 || name == "Cut" {
				k.expr(c, t)
			}
		}
	case pkg == "context" || wraps[name]:
		t.result = 0
		if pkg == "context" && arg == 0 && s.uncancelled(c) {
			k.keep(c, t, rankContainer, "held by the parent context until it is cancelled", nil)
			k.mark(c, func(f *Keep) { f.registered = true })
		}
		k.expr(c, t)
	case pkg == "strings" || pkg == "strconv" || pkg == "fmt" || pkg == "log" || pkg == "log/slog" || pkg == "encoding/json" || pkg == "hash/crc32":
		// They are done with it when they return.
	case pkg == "runtime" && (name == "SetFinalizer" || name == "AddCleanup") && arg == 0:
		// The finalizer gets the object, and may store it: then it lives again.
		if lit := s.literal(c.Args[min(1, len(c.Args)-1)]); lit != nil && name == "SetFinalizer" {
			k.object(parameter(s, lit.Type, 0), t)
		}
		k.keep(c, t, rankContainer, "has a finalizer, which keeps whatever the object reaches until it runs", nil)
	case s.ofRequest(c.Fun):
		// What a request or its answer gets goes with it.
	case retains[name]:
		var holder types.Object
		if sel, ok := ast.Unparen(c.Fun).(*ast.SelectorExpr); ok && pkg == "" {
			_, holder = s.root(sel.X)
		}
		k.keep(c, t, rankContainer, "kept by "+calledText(c), holder)
		_, thrownAway := s.parents[c].(*ast.ExprStmt)
		k.mark(c, func(f *Keep) {
			f.guessed = true
			f.registered = pkg == "time" && name == "AfterFunc" && thrownAway
		})
		if strings.HasPrefix(name, "Push") || strings.HasPrefix(name, "Insert") {
			t.result = 0
			k.expr(c, t) // the element of the list that it returns has the value
		}
		if id, ok := ast.Unparen(e).(*ast.Ident); ok && name == "Put" && len(c.Args) == 1 {
			l := s.line(c, "goes back to the pool here with all it has")
			if i := slices.IndexFunc(k.found, func(f Keep) bool { return f.Line.same(l) }); i >= 0 {
				if o := s.object(id); o != nil && !s.emptied(o, nil) {
					k.found[i].pool = l
				}
			}
		}
	case pkg == "" && name != "" && name[0] >= 'A' && name[0] <= 'Z' && (strings.HasPrefix(name, "Add") || strings.HasPrefix(name, "Push") || strings.HasPrefix(name, "Put") || strings.HasPrefix(name, "Set") || strings.HasPrefix(name, "Register")):
		k.keep(c, t, rankArgument, "given to "+calledText(c), nil)
	case pkg == "":
		k.given = append(k.given, c)
	}
}

func calledText(c *ast.CallExpr) string { return types.ExprString(c.Fun) }

// mark changes what was found at a call.
func (k *follower) mark(c *ast.CallExpr, change func(*Keep)) {
	if i := slices.IndexFunc(k.found, func(f Keep) bool { return f.Line.same(k.s.line(c, "")) }); i >= 0 {
		change(&k.found[i])
	}
}

// ofRequest says whether a method is called on a handler's request or answer, or on a part of one, as w.Header() is.
func (s *Source) ofRequest(fun ast.Expr) bool {
	sel, ok := ast.Unparen(fun).(*ast.SelectorExpr)
	if !ok {
		return false
	}
	e := sel.X
	for {
		e = innermost(e)
		c, ok := e.(*ast.CallExpr)
		if !ok {
			break
		}
		if e, ok = ast.Unparen(c.Fun).(*ast.SelectorExpr); !ok {
			return false
		}
	}
	id, ok := e.(*ast.Ident)
	if !ok {
		return false
	}
	o := s.object(id)
	return o != nil && handedTypes[s.parameterType(o)]
}

// parameterType is the type of a parameter as it is written, "" for what is none.
func (s *Source) parameterType(o types.Object) string {
	var f *ast.FuncType
	switch fn := s.enclosingOf(o).(type) {
	case *ast.FuncDecl:
		f = fn.Type
	case *ast.FuncLit:
		f = fn.Type
	default:
		return ""
	}
	for _, field := range f.Params.List {
		for _, n := range field.Names {
			if n.Pos() == o.Pos() {
				return types.ExprString(field.Type)
			}
		}
	}
	return ""
}

// uncancelled says whether a call makes a context whose cancel function is handed on, and called nowhere for sure: its parent has it
// until then.
func (s *Source) uncancelled(c *ast.CallExpr) bool {
	switch _, name := s.callName(c); name {
	case "WithCancel", "WithTimeout", "WithDeadline", "WithCancelCause":
	default:
		return false
	}
	return s.forgetsCancel(c, 0)
}

// forgetsCancel says of a call that gives a context and its cancel function what uncancelled asks; the call may be of a function that returns
// what context's gave it.
func (s *Source) forgetsCancel(c *ast.CallExpr, depth int) bool {
	if _, ok := s.parents[c].(*ast.ReturnStmt); ok && depth < 3 {
		forgets := false
		if d, ok := s.enclosing(c).(*ast.FuncDecl); ok {
			s.callsOf(d, func(call *ast.CallExpr) { forgets = forgets || s.forgetsCancel(call, depth+1) })
		}
		return forgets
	}
	a, ok := s.parents[c].(*ast.AssignStmt)
	if !ok || len(a.Lhs) != 2 || len(a.Rhs) != 1 {
		return false
	}
	cancel := a.Lhs[1]
	if s.dropped(cancel) {
		return true
	}
	_, o := s.root(cancel)
	handed := isField(o)
	for hops := 0; o != nil && hops < 2; hops++ {
		var next types.Object
		called := false
		for _, id := range s.uses[o] {
			var e ast.Expr = id
			if sel, ok := s.parents[id].(*ast.SelectorExpr); ok && sel.Sel == id {
				e = sel
			}
			switch p := s.parents[e].(type) {
			case *ast.CallExpr:
				if p.Fun != e {
					return false // somebody else calls it
				}
				if _, ok := s.parents[p].(*ast.DeferStmt); ok {
					return false
				}
				called = true
			case *ast.KeyValueExpr:
				if key, ok := p.Key.(*ast.Ident); ok && p.Value == e {
					handed, next = true, s.object(key)
				}
			case *ast.ReturnStmt:
				if fn, ok := s.enclosing(p).(*ast.FuncDecl); ok && depth < 3 {
					forgets := false
					s.callsOf(fn, func(call *ast.CallExpr) { forgets = forgets || s.forgetsCancel(call, depth+1) })
					return forgets
				}
				return false // its caller's to call
			case *ast.DeferStmt:
				return false
			}
		}
		if called && !isField(o) {
			// It has to be called on each way out.
			return s.unpaired(s.enclosing(c), c, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return false
				}
				id, ok := ast.Unparen(call.Fun).(*ast.Ident)
				return ok && s.object(id) == o
			}) != nil
		}
		o = next
	}
	return handed
}

// leave follows a result to the caller: the call that led here, or the next frame of the stack.
func (k *follower) leave(r *ast.ReturnStmt, t trail) {
	s := k.s
	// A literal's result goes to whoever calls it, which is not known, but for one that the stack names.
	if t.calls != nil {
		c := t.calls
		t.calls, t.frame = c.up, c.at
		if _, inLit := s.enclosing(r).(*ast.FuncLit); inLit && s.literal(c.call.Fun) == nil {
			return
		}
		k.expr(c.call, t)
		return
	}
	for i := t.frame + 1; i < len(k.frames); i++ {
		f := k.frames[i]
		if k.p.owner(f) != ownCode {
			continue
		}
		above := k.frames[i-1]
		name := lastName(above.Function)
		// Where others' code called the function, such as a driver or a callback, they have its result now.
		if i > t.frame+1 && k.p.keeps(above) {
			s.at(f.File, f.Line, func(n ast.Node) {
				if c, ok := n.(*ast.CallExpr); ok {
					if _, called := s.callName(c); called == name {
						k.keep(c, t, rankContainer, "kept by "+shortFunction(above.Function), nil)
					}
				}
			})
			return
		}
		t.frame = i
		var fallback *ast.CallExpr
		found := false
		s.at(f.File, f.Line, func(n ast.Node) {
			c, ok := n.(*ast.CallExpr)
			if !ok {
				return
			}
			if _, called := s.callName(c); called == name {
				found = true
				k.expr(c, t)
			} else if fallback == nil || s.callsValue(c) && !s.callsValue(fallback) {
				fallback = c // a function that is in a field or a variable has another name there
			}
		})
		if !found && fallback != nil {
			k.expr(fallback, t)
		}
		return
	}
}

// callsValue says whether what is called is a field or a variable, and no declared function.
func (s *Source) callsValue(c *ast.CallExpr) bool {
	fun := ast.Unparen(c.Fun)
	if sel, ok := fun.(*ast.SelectorExpr); ok {
		fun = sel.Sel
	}
	id, ok := fun.(*ast.Ident)
	if !ok {
		return false
	}
	_, isVar := s.object(id).(*types.Var)
	return isVar
}

// store follows a value into what it is assigned to.
func (k *follower) store(lhs ast.Expr, st ast.Stmt, t trail) {
	s := k.s
	root, holder := s.root(lhs)
	verb := "stored in"
	if t.inside || s.isAppend(st, lhs) {
		verb = "appended to"
	}
	if s.chains(st, lhs, holder) {
		t.inside, verb = true, "appended to"
	}
	name := types.ExprString(lhs)
	switch x := ast.Unparen(lhs).(type) {
	case *ast.Ident:
		if x.Name == "_" || root == nil {
			return
		}
		if isGlobal(root) {
			rank := rankField
			if verb == "appended to" {
				rank = rankContainer
			}
			k.keep(st, t, rank, verb+" "+name, root)
			return
		}
		home := s.enclosingOf(root)
		if verb == "appended to" {
			rank := rankLocal
			// A variable of a function around this one lives as long as the literal does.
			if fn := s.enclosing(st); fn != home {
				rank = rankField
			}
			if s.inLoop(st) {
				if s.endless(st) {
					rank = rankContainer
				}
				k.keep(st, t, rank, verb+" "+name, root)
			}
			t.inside = true
		}
		k.object(root, t)
	case *ast.IndexExpr:
		rank := rankContainer
		if tv := s.info.Types[x.X]; tv.Type != nil {
			switch tv.Type.Underlying().(type) {
			case *types.Slice, *types.Array, *types.Pointer:
				rank = rankField // it takes the place of what was there
			}
		}
		if root != nil && !isGlobal(root) && root == holder && !s.isParameter(root) && !s.isAlias(root) {
			rank = rankLocal
			k.object(root, t)
		}
		k.keep(st, t, rank, verb+" "+types.ExprString(x.X), holder)
	case *ast.SelectorExpr, *ast.StarExpr:
		rank := rankField
		if verb == "appended to" {
			rank = rankContainer
		}
		l := len(k.found)
		k.keep(st, t, rank, verb+" "+name, holder)
		if root != nil && !isGlobal(root) {
			// The field's owner may itself be kept, or go back to a pool as it is.
			if put := s.pooled(root, 0); put.known() && len(k.found) > l && !s.emptied(root, holder) {
				k.found[l].pool = put
			}
			if !s.isParameter(root) && !s.isAlias(root) {
				if l < len(k.found) {
					k.found[l].rank = rankLocal
				}
				k.object(root, t)
			}
		}
	}
}

// chains says whether a statement makes a linked list longer: what it assigns holds what was there before, as in head = &node{next: head}.
func (s *Source) chains(n ast.Stmt, lhs ast.Expr, holder types.Object) bool {
	st, ok := n.(*ast.AssignStmt)
	if !ok || holder == nil {
		return false
	}
	i := slices.Index(st.Lhs, lhs)
	if i < 0 || i >= len(st.Rhs) {
		return false
	}
	if _, element := ast.Unparen(lhs).(*ast.IndexExpr); element {
		return false
	}
	holds := func(e ast.Expr) bool {
		if u, ok := ast.Unparen(e).(*ast.UnaryExpr); ok {
			e = u.X
		}
		switch x := ast.Unparen(e).(type) {
		case *ast.CompositeLit:
			return s.mentions(x, holder)
		case *ast.CallExpr:
			// ctx = with(ctx, v), again and again: each has the one before.
			return !s.isBuiltin(x, "append") && s.inLoop(st) && slices.ContainsFunc(x.Args, func(a ast.Expr) bool {
				id, ok := ast.Unparen(a).(*ast.Ident)
				return ok && s.object(id) == holder
			})
		}
		return false
	}
	if holds(st.Rhs[i]) {
		return true
	}
	id, ok := ast.Unparen(st.Rhs[i]).(*ast.Ident)
	if !ok {
		return false
	}
	o := s.object(id)
	if o == nil || isGlobal(o) {
		return false
	}
	found := false
	s.definitions(o, func(e ast.Expr, _ ast.Node) { found = found || holds(e) })
	for _, use := range s.uses[o] {
		sel, ok := s.parents[use].(*ast.SelectorExpr)
		if !ok || sel.X != ast.Expr(use) {
			continue
		}
		if a, ok := s.parents[sel].(*ast.AssignStmt); ok {
			if j := slices.Index(a.Lhs, ast.Expr(sel)); j >= 0 && j < len(a.Rhs) && s.mentions(a.Rhs[j], holder) {
				found = true
			}
		}
	}
	return found
}

// isAppend says whether a statement assigns append(lhs, …) to lhs.
func (s *Source) isAppend(n ast.Stmt, lhs ast.Expr) bool {
	st, ok := n.(*ast.AssignStmt)
	if !ok {
		return false
	}
	i := slices.Index(st.Lhs, lhs)
	if i < 0 || i >= len(st.Rhs) {
		return false
	}
	c, ok := ast.Unparen(st.Rhs[i]).(*ast.CallExpr)
	return ok && s.isBuiltin(c, "append")
}

// isParameter says whether a variable is an argument or a receiver: it comes from outside and outlives the function.
func (s *Source) isParameter(o types.Object) bool {
	var list []*ast.Field
	switch f := s.enclosingOf(o).(type) {
	case *ast.FuncDecl:
		list = f.Type.Params.List
		if f.Recv != nil {
			list = append(slices.Clone(list), f.Recv.List...)
		}
	case *ast.FuncLit:
		list = f.Type.Params.List
	}
	for _, field := range list {
		for _, n := range field.Names {
			if n.Pos() == o.Pos() {
				return true
			}
		}
	}
	return false
}

// isAlias says whether a local variable stands for something that was there before: it was taken out of a field, a global, an argument or
// a collection of theirs.
func (s *Source) isAlias(o types.Object) bool {
	alias := false
	s.definitions(o, func(e ast.Expr, _ ast.Node) {
		switch x := ast.Unparen(e).(type) {
		case *ast.IndexExpr, *ast.SelectorExpr, *ast.TypeAssertExpr:
			root, holder := s.root(x)
			if call, ok := innermost(x).(*ast.CallExpr); ok {
				// x.Load(k).(*T), x.Get(k).(*T): but what a pool gives is new or used, and not there for others.
				if _, on, name := s.methodCall(call); on != nil && (name == "Load" || name == "Value") {
					alias = true
				}
				return
			}
			if isGlobal(root) || isField(holder) || root != nil && s.isParameter(root) {
				alias = true
			}
		case *ast.Ident:
			if isGlobal(s.object(x)) {
				alias = true
			}
		}
	})
	return alias
}

// innermost is what a chain of indexes, selectors and assertions begins with.
func innermost(e ast.Expr) ast.Expr {
	for {
		switch x := ast.Unparen(e).(type) {
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.TypeAssertExpr:
			e = x.X
		default:
			return x
		}
	}
}

// endless says whether a statement is in a loop that has no end of its own.
func (s *Source) endless(n ast.Node) bool {
	for n = s.parents[n]; n != nil; n = s.parents[n] {
		switch p := n.(type) {
		case *ast.FuncDecl, *ast.FuncLit:
			return false
		case *ast.ForStmt:
			if p.Cond == nil {
				return true
			}
		case *ast.RangeStmt:
			if tv, ok := s.info.Types[p.X]; ok && tv.Type != nil {
				if _, channel := tv.Type.Underlying().(*types.Chan); channel {
					return true
				}
			}
		}
	}
	return false
}

// inLoop says whether a statement is in a loop of its function.
func (s *Source) inLoop(n ast.Node) bool {
	for n = s.parents[n]; n != nil; n = s.parents[n] {
		switch n.(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			return true
		case *ast.FuncDecl:
			return false
		}
	}
	return false
}

// pooled is where a variable goes back to a sync.Pool: itself, or what it is an argument or the receiver for.
func (s *Source) pooled(o types.Object, depth int) (put Line) {
	if put = s.pooledInside(o); put.known() || depth > 3 {
		return put
	}
	for _, id := range s.uses[o] {
		if c, ok := s.parents[id].(*ast.CallExpr); ok && slices.Contains(c.Args, ast.Expr(id)) {
			for _, d := range s.callee(c) {
				if v := parameter(s, d.Type, slices.Index(c.Args, ast.Expr(id))); v != nil && v != o {
					put = s.pooledInside(v)
				}
			}
		}
	}
	if put.known() || !s.isParameter(o) {
		return put
	}
	d, ok := s.enclosingOf(o).(*ast.FuncDecl)
	if !ok {
		return put
	}
	s.callsOf(d, func(c *ast.CallExpr) {
		var given ast.Expr
		if i := parameterIndex(d, o); i >= 0 && i < len(c.Args) {
			given = c.Args[i]
		} else if sel, ok := ast.Unparen(c.Fun).(*ast.SelectorExpr); ok && i < 0 {
			given = sel.X
		}
		if id, ok := given.(*ast.Ident); ok && !put.known() {
			if v := s.object(id); v != nil && v != o {
				put = s.pooled(v, depth+1)
			}
		}
	})
	return put
}

// pooledInside is where an argument of a function goes back to a pool in its body.
func (s *Source) pooledInside(o types.Object) (put Line) {
	for _, id := range s.uses[o] {
		if c, ok := s.parents[id].(*ast.CallExpr); ok && slices.Contains(c.Args, ast.Expr(id)) {
			if pkg, name := s.callName(c); pkg == "" && name == "Put" && len(c.Args) == 1 && len(s.callee(c)) == 0 {
				put = s.line(c, "goes back to the pool here")
			}
		}
	}
	return put
}

// emptied says whether a variable, or any other of its type, is emptied somewhere: by a method that is named so, by truncating or clearing
// the field that holds what it has (any, if that is nil), or by overwriting it as a whole.
func (s *Source) emptied(o, field types.Object) bool {
	same := func(e ast.Expr) bool {
		root, _ := s.root(e)
		if root == nil {
			return false
		}
		known := root.Type() != nil && root.Type() != types.Typ[types.Invalid] && o.Type() != nil
		return root == o || known && types.Identical(root.Type(), o.Type())
	}
	found := false
	for _, name := range sortedKeys(s.files) {
		ast.Inspect(s.files[name], func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if sel, ok := ast.Unparen(n.Fun).(*ast.SelectorExpr); ok {
					what := strings.ToLower(sel.Sel.Name)
					for _, w := range []string{"reset", "truncate", "clear"} {
						found = found || strings.Contains(what, w) && same(sel.X)
					}
				}
				if s.isBuiltin(n, "clear") && len(n.Args) == 1 && same(n.Args[0]) {
					_, holder := s.root(n.Args[0])
					found = found || field == nil || holder == field
				}
			case *ast.AssignStmt:
				for i, l := range n.Lhs {
					switch x := ast.Unparen(l).(type) {
					case *ast.StarExpr:
						found = found || same(x)
					case *ast.SelectorExpr:
						if _, holder := s.root(x); len(n.Rhs) == len(n.Lhs) && same(x) && (field == nil || holder == field) && s.emptier(n.Rhs[i], holder) {
							found = true
						}
					case *ast.Ident:
						// b = b[:0]
						if sl, ok := ast.Unparen(n.Rhs[min(i, len(n.Rhs)-1)]).(*ast.SliceExpr); ok && s.object(x) == o && same(sl.X) {
							found = true
						}
					}
				}
			}
			return !found
		})
	}
	return found
}

// callsOf visits the calls of a function of the program's own.
func (s *Source) callsOf(d *ast.FuncDecl, visit func(*ast.CallExpr)) {
	o := s.info.Defs[d.Name]
	if o == nil {
		return
	}
	for _, id := range s.uses[origin(o)] {
		var e ast.Expr = id
		if sel, ok := s.parents[id].(*ast.SelectorExpr); ok && sel.Sel == id {
			e = sel
		}
		if c, ok := s.parents[e].(*ast.CallExpr); ok && c.Fun == e {
			visit(c)
		}
	}
}
