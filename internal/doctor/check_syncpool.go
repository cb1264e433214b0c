package doctor

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
)

// syncPoolCheck asks whether a sync.Pool ever has what it is asked for. One whose objects are not put back makes each anew, and is only a
// detour to the allocator.
var syncPoolCheck = Check{
	Name: "object pools",
	Skip: func(e *Evidence) string {
		if len(e.Heap) < 2 || len(e.Memory) < 2 || len(e.Counts) == 0 {
			return "it takes two heap profiles of one run, the runtime's memory statistics beside them (…/heap?debug=1), and a goroutine profile"
		}
		return ""
	},
	Ask: askSyncPools,
}

const poolGet = "sync.(*Pool).Get"

// refill is what New made anew for one line that calls a pool's Get, while it was looked.
type refill struct {
	get     Frame   // the line
	callers []Frame // the program's own frames below it on the stack, the nearest first
	made    Frame   // of New
	objects float64 // estimated
	bytes   float64
	taken   float64 // samples behind them
}

// outer is the program's own frame nearest to where the goroutine began.
func (r *refill) outer() Frame {
	if n := len(r.callers); n > 0 {
		return r.callers[n-1]
	}
	return r.get
}

// refillsOf are those of the program's own lines; of one that several lines call, each of them is by itself.
func refillsOf(e *Evidence, p places) []refill {
	made := map[string]map[string]float64{} // by the line that allocates: New may make several things at once
	all := map[string]*refill{}
	var order []string
	for i, h := range []HeapSample{e.Heap[0], e.Heap[len(e.Heap)-1]} {
		sign := float64(2*i - 1)
		for _, s := range h.Sites {
			get := slices.IndexFunc(s.Frames, func(f Frame) bool { return f.Function == poolGet })
			if get < 1 || get+1 >= len(s.Frames) || p.owner(s.Frames[get+1]) != ownCode || ofProfiler(s.Frames) {
				continue
			}
			at := s.Frames[get+1]
			k := fmt.Sprintf("%s:%d", at.File, at.Line)
			var callers []Frame
			for _, f := range s.Frames[get+2:] {
				if p.owner(f) == ownCode {
					callers = append(callers, f)
				}
			}
			if len(callers) > 0 {
				k += fmt.Sprintf(" %s:%d", callers[0].File, callers[0].Line)
			}
			if all[k] == nil {
				all[k], made[k] = &refill{get: at, callers: callers, made: s.Frames[get-1]}, map[string]float64{}
				order = append(order, k)
			}
			r := all[k]
			made[k][fmt.Sprintf("%s:%d", s.Frames[0].File, s.Frames[0].Line)] += sign * float64(s.AllocObjects)
			r.bytes += sign * float64(s.AllocBytes)
			r.taken += sign * samples(s.AllocObjects, s.AllocBytes, h.Rate)
		}
	}
	var list []refill
	for _, k := range order {
		r := *all[k]
		for _, n := range made[k] {
			r.objects = max(r.objects, n)
		}
		list = append(list, r)
	}
	slices.SortStableFunc(list, func(a, b refill) int { return cmp.Compare(b.bytes, a.bytes) })
	return list
}

// inAtOnce is the most goroutines that were seen in a function of the program's own at one time.
func (e *Evidence) inAtOnce(function string) (most int64) {
	function = declared(function)
	for _, c := range e.Counts {
		n := int64(0)
		for _, s := range c.Stacks {
			if slices.ContainsFunc(s.Frames, func(f Frame) bool { return declared(f.Function) == function }) {
				n += s.Count
			}
		}
		most = max(most, n)
	}
	return most
}

func askSyncPools(e *Evidence) (list []Finding) {
	const (
		leastMade  = 500 // objects; what is rarer costs nobody anything
		leastTaken = 8.0 // samples, to be sure of about so many
		margin     = 4   // beyond what a pool that gets its objects back would make
		elsewhere  = 5   // and beyond that, where the source does not tell what becomes of them
	)
	p := e.places()
	first, last := e.Memory[0], e.Memory[len(e.Memory)-1]
	span := (e.Heap[len(e.Heap)-1].At - e.Heap[0].At).Seconds()
	if last.NumGC < first.NumGC || span <= 0 {
		return nil
	}
	collections := last.NumGC - first.NumGC
	stray := int64(16) // objects that wait where another CPU put them
	if e.Schedule != nil {
		stray += int64(e.Schedule.Procs)
	}
	for _, r := range refillsOf(e, p) {
		if r.objects < leastMade || r.taken < leastTaken {
			continue
		}
		fate := e.Source.fateOfPooled(r.get, r.callers)
		if fate.known && !fate.line.known() {
			continue // put back on every path
		}
		// A pool that gets its objects back makes one for each that is out at once, and loses those to a collection that nobody wanted
		// since the one before: so many, a few times over.
		holder := r.outer().Function
		most := float64(margin)
		if fate.known {
			holder = cmp.Or(fate.line.Function, r.get.Function)
		} else {
			most *= elsewhere
		}
		out := e.inAtOnce(holder)
		if r.objects < most*float64(collections+1)*float64(out+stray) {
			continue
		}
		f := Finding{Severity: Minor, Confidence: 0.9, rank: 15, Line: lineOf(r.get, "taken here")}
		f.Sentence = fmt.Sprintf("the pool has nothing to give: New makes %.0f objects (%s) a second for %s", r.objects/span, bytesText(r.bytes/span), lineOf(r.get, ""))
		f.Evidence = []string{
			fmt.Sprintf("about %.0f objects were made anew, estimated from %.0f samples", r.objects, r.taken),
			fmt.Sprintf("there were %d collections, and never more than %d goroutines at once in %s: a pool that gets its objects back makes a few for each", collections, out, shortFunction(declared(holder))),
		}
		f.Advice = "put the object back on every path: defer Put right after Get, or allocate it and do without a pool"
		switch {
		case !fate.known:
			f.Confidence = 0.7
			f.Sentence += ": what is taken seems not to be put back"
		case fate.never:
			f.Line = fate.line
			f.Sentence += "; what is taken is never put back: " + f.Line.String()
		default:
			f.Line = fate.line
			f.Sentence += "; what is taken is not put back on every path: " + f.Line.String()
		}
		if fate.exit.known() {
			f.Related = append(f.Related, fate.exit)
		}
		if get := lineOf(r.get, "asks the pool"); !get.same(f.Line) {
			f.Related = append(f.Related, get)
		}
		if p.owner(r.made) == ownCode {
			f.Related = append(f.Related, lineOf(r.made, "made anew here"))
		}
		list = append(list, f)
	}
	return list
}

// pooledFate is what the source says of objects that one line takes of a pool. The zero value says nothing.
type pooledFate struct {
	known bool // every use was followed to its end
	line  Line // that has to see to it that the object goes back, and does not; zero where all do
	exit  Line // the way out on which it is forgotten
	never bool // it goes back on no path
}

// fateOfPooled follows the object that a frame's line takes of a sync.Pool, as those that called it do.
func (s *Source) fateOfPooled(at Frame, callers []Frame) (fate pooledFate) {
	if s == nil {
		return fate
	}
	var get *ast.CallExpr
	s.at(at.File, at.Line, func(n ast.Node) {
		if c, ok := n.(*ast.CallExpr); ok && get == nil && len(c.Args) == 0 && len(s.callee(c)) == 0 {
			if _, name := s.callName(c); name == "Get" {
				get = c
			}
		}
	})
	if get == nil {
		return fate
	}
	if _, pool, _ := s.methodCall(get); pool != nil && len(s.uses[pool]) > 0 && !s.putTo(pool) {
		return pooledFate{known: true, line: s.line(get, "taken here"), never: true}
	}
	return s.followPooled(get, callers, 0)
}

// putTo says whether there is a call that puts something into a pool.
func (s *Source) putTo(pool types.Object) bool {
	for _, id := range s.uses[pool] {
		var x ast.Expr = id
		if sel, ok := s.parents[id].(*ast.SelectorExpr); ok && sel.Sel == id {
			x = sel
		}
		switch p := s.parents[x].(type) {
		case *ast.SelectorExpr:
			if p.X == x && p.Sel.Name == "Put" {
				return true
			}
		case *ast.KeyValueExpr: // where it is made
		default:
			return true // it is handed to something that may
		}
	}
	return false
}

// followPooled follows what a call gives: into a variable, and out of the function to those that call it.
func (s *Source) followPooled(c *ast.CallExpr, callers []Frame, depth int) (fate pooledFate) {
	if depth > 3 {
		return fate
	}
	var lhs ast.Expr
	var taken *ast.AssignStmt
	switch x := s.consumer(c).(type) {
	case *ast.ExprStmt:
		return pooledFate{known: true, line: s.line(c, "taken here"), never: true}
	case *ast.ReturnStmt:
		if len(x.Results) == 1 {
			return s.callersOfPooled(x, callers, depth)
		}
	case *ast.AssignStmt:
		lhs, taken = x.Lhs[0], x
	case *ast.ValueSpec:
		lhs = x.Names[0]
	}
	id, ok := lhs.(*ast.Ident)
	if !ok {
		return fate
	}
	o := s.object(id)
	fn := s.enclosing(c)
	if o == nil || fn == nil || isGlobal(o) {
		return fate
	}
	for _, use := range s.uses[o] {
		if r, ok := s.parents[use].(*ast.ReturnStmt); ok {
			if r.Results[0] != ast.Expr(use) {
				return fate
			}
			return s.callersOfPooled(r, callers, depth)
		}
	}
	if s.escapesPool(o, fn, 0) {
		return fate
	}
	any := false
	gives := func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if s.putsBack(n, o, 0) {
				any = true
				return true
			}
		case *ast.ReturnStmt:
			return taken != nil && s.isErrorPath(n, taken) // it was never got
		}
		return false
	}
	out := s.unpairedInLoop(fn, c, gives)
	fate.known = true
	if out != nil {
		fate.line, fate.never = s.line(c, "taken here"), !any
		if any {
			fate.exit = s.line(out, "leaves without putting it back")
			if out == ast.Node(bodyOf(fn)) {
				fate.exit = Line{} // the function just ends
			}
		}
	}
	return fate
}

// callersOfPooled follows what a function of the program's own returns.
func (s *Source) callersOfPooled(r *ast.ReturnStmt, callers []Frame, depth int) (fate pooledFate) {
	d, ok := s.enclosing(r).(*ast.FuncDecl)
	if !ok {
		return fate
	}
	calls := 0
	followed := true
	var further []Frame
	if len(callers) > 0 {
		further = callers[1:]
	}
	s.callsOf(d, func(c *ast.CallExpr) {
		if at := s.line(c, ""); len(callers) > 0 && !at.same(lineOf(callers[0], "")) {
			return // another's
		}
		calls++
		one := s.followPooled(c, further, depth+1)
		followed = followed && one.known
		if one.line.known() && !fate.line.known() {
			fate = one
		}
	})
	if !fate.line.known() {
		fate.known = calls > 0 && followed
	}
	return fate
}

// putsBack says whether a call puts a variable into a pool: itself, or a function of the program's own whose argument or receiver it is.
func (s *Source) putsBack(c *ast.CallExpr, o types.Object, depth int) bool {
	given := func(e ast.Expr) bool {
		if u, ok := ast.Unparen(e).(*ast.UnaryExpr); ok {
			e = u.X
		}
		id, ok := ast.Unparen(e).(*ast.Ident)
		return ok && s.object(id) == o
	}
	own := s.callee(c)
	if _, name := s.callName(c); name == "Put" && len(own) == 0 {
		return slices.ContainsFunc(c.Args, given)
	}
	if depth > 2 {
		return false
	}
	for _, d := range own {
		var inside types.Object
		if i := slices.IndexFunc(c.Args, given); i >= 0 {
			inside = parameter(s, d.Type, i)
		} else if sel, ok := ast.Unparen(c.Fun).(*ast.SelectorExpr); ok && given(sel.X) && d.Recv != nil && len(d.Recv.List) == 1 && len(d.Recv.List[0].Names) == 1 {
			inside = s.info.Defs[d.Recv.List[0].Names[0]]
		}
		if inside == nil {
			continue
		}
		found := false
		s.inspectOwn(d, func(n ast.Node) {
			if call, ok := n.(*ast.CallExpr); ok && !found {
				found = s.putsBack(call, inside, depth+1)
			}
		})
		if found {
			return true
		}
	}
	return false
}

// escapesPool says whether a variable's object may be kept by others, who may put it back some day: stored, sent, captured, or handed to
// a goroutine or to a function that does.
func (s *Source) escapesPool(o types.Object, fn ast.Node, depth int) bool {
	for _, use := range s.uses[o] {
		if inner := s.enclosing(use); inner != fn {
			// A literal that is deferred or run right there is the function's own.
			lit, _ := inner.(*ast.FuncLit)
			c, called := s.parents[lit].(*ast.CallExpr)
			if lit == nil || !called || c.Fun != ast.Expr(lit) {
				return true
			}
			if _, starts := s.parents[c].(*ast.GoStmt); starts {
				return true
			}
		}
		switch p := s.parents[use].(type) {
		case *ast.KeyValueExpr, *ast.CompositeLit, *ast.SendStmt:
			return true
		case *ast.AssignStmt:
			if slices.Contains(p.Rhs, ast.Expr(use)) {
				return true
			}
		case *ast.CallExpr:
			if s.escapesCall(p, use, depth) {
				return true
			}
		}
	}
	return false
}

// escapesCall says the same of an argument.
func (s *Source) escapesCall(c *ast.CallExpr, use *ast.Ident, depth int) bool {
	i := slices.Index(c.Args, ast.Expr(use))
	if i < 0 {
		return false
	}
	if _, starts := s.parents[c].(*ast.GoStmt); starts || s.isBuiltin(c, "append") || depth > 2 {
		return true
	}
	for _, d := range s.callee(c) {
		v := parameter(s, d.Type, i)
		if v == nil || d.Body == nil || s.escapesPool(v, d, depth+1) {
			return true
		}
	}
	return false
}

// unpairedInLoop looks for a way out as unpaired does, and for two more: the next turn of a loop in which it was taken, and the end of
// the block in which it was.
func (s *Source) unpairedInLoop(fn ast.Node, take *ast.CallExpr, gives func(ast.Node) bool) (exit ast.Node) {
	if exit = s.unpaired(fn, take, gives); exit != nil {
		return exit
	}
	var given, turns []ast.Node
	s.inspectOwn(fn, func(n ast.Node) {
		if n.Pos() < take.Pos() {
			return
		}
		if gives(n) {
			given = append(given, n)
		}
		if b, ok := n.(*ast.BranchStmt); ok && b.Tok == token.CONTINUE && s.loopOf(b) != nil && within(take, s.loopOf(b)) {
			turns = append(turns, b)
		}
	})
	covered := func(n ast.Node) bool {
		return slices.ContainsFunc(given, func(give ast.Node) bool {
			block := s.block(give)
			return give.Pos() < n.End() && block != nil && within(n, block)
		})
	}
	for _, b := range turns {
		if !covered(b) {
			return b
		}
	}
	// Where the block of the take is left at its end, something must have given it back that runs whenever that is reached.
	b, ok := s.block(take).(*ast.BlockStmt)
	if !ok || endsInReturn(b) {
		return nil
	}
	if !slices.ContainsFunc(given, func(give ast.Node) bool { b := s.block(give); return b != nil && within(take, b) }) {
		return bodyOf(fn)
	}
	return nil
}

// loopOf is the innermost loop around a node of its function, nil if there is none.
func (s *Source) loopOf(n ast.Node) ast.Node {
	for n = s.parents[n]; n != nil; n = s.parents[n] {
		switch n.(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			return n
		case *ast.FuncDecl, *ast.FuncLit:
			return nil
		}
	}
	return nil
}
