package doctor

import (
	"go/ast"
	"go/types"
	"path"
	"slices"
)

// resource is a kind of thing that has to be given back, and how the program gets and returns it. When the figures say
// that such things pile up, and no stack leads to the line, the source is searched for those that are not returned.
type resource struct {
	kind     string
	packages []string // packages whose functions get one; "" where a method of any type does
	gets     []string
	gives    []string // methods or functions that give it back
	through  string   // the field on which the method is called, as Body
	asArg    bool     // it is given back as an argument: munmap(p), C.free(p)
	why      string
	advice   string
	// Functions of the standard library whose goroutines or allocations show that the thing piles up.
	signs []string
}

func (r *resource) runs(function string) bool { return slices.Contains(r.signs, function) }

// resourceRunBy is the kind of thing that a goroutine with these frames serves, nil if none is known.
func resourceRunBy(frames []Frame) *resource {
	for _, r := range resources {
		if slices.ContainsFunc(frames, func(f Frame) bool { return r.runs(f.Function) }) {
			return r
		}
	}
	return nil
}

var resources = []*resource{
	{
		kind: "response", packages: []string{"net/http", ""}, gets: []string{"Get", "Post", "PostForm", "Head", "Do", "RoundTrip"}, gives: []string{"Close"}, through: "Body",
		why: "they serve connections whose response was not read to the end and closed", advice: "defer resp.Body.Close() right after the error is checked, on every path",
		signs: []string{"net/http.(*persistConn).readLoop", "net/http.(*persistConn).writeLoop", "net/http.(*Transport).dialConn", "net/http.(*http2ClientConn).readLoop", "net/http.(*Transport).dialConnFor", "net/http.(*persistConn).addTLS"},
	},
	{
		kind: "rows", packages: []string{""}, gets: []string{"Query", "QueryContext", "Queryx", "QueryxContext"}, gives: []string{"Close"},
		why: "they watch rows that were not closed, each of which holds a connection", advice: "defer rows.Close() right after the error is checked",
		signs: []string{"database/sql.(*Rows).awaitDone"},
	},
	{
		kind: "transaction", packages: []string{""}, gets: []string{"Begin", "BeginTx", "Beginx"}, gives: []string{"Commit", "Rollback"},
		why: "they watch transactions that were neither committed nor rolled back", advice: "defer tx.Rollback() right after Begin; after Commit it does nothing",
		signs: []string{"database/sql.(*Tx).awaitDone"},
	},
	{
		kind: "pooled connection", packages: []string{""}, gets: []string{"Conn", "Acquire"}, gives: []string{"Close", "Release"},
		why: "connections of a pool are taken and not given back", advice: "defer conn.Release() (or Close) right after the error is checked",
	},
	{
		kind: "database", packages: []string{"database/sql"}, gets: []string{"Open", "OpenDB"}, gives: []string{"Close"},
		why: "each belongs to a sql.DB that was opened and not closed", advice: "open one sql.DB for the program and share it",
		signs: []string{"database/sql.(*DB).connectionOpener", "database/sql.(*DB).connectionCleaner"},
	},
	{
		kind: "command", packages: []string{""}, gets: []string{"Start"}, gives: []string{"Wait"},
		why: "they belong to commands that were started and not waited for", advice: "call Wait for each command that was started",
		signs: []string{"os/exec.(*Cmd).Start.func2", "os/exec.(*Cmd).watchCtx.func1", "os/exec.(*Cmd).writerDescriptor.func1"},
	},
	{
		kind: "timeout context", packages: []string{"context"}, gets: []string{"WithCancel", "WithTimeout", "WithDeadline", "WithCancelCause"}, gives: []string{"()"},
		why: "they carry the end of a parent context to children that were never cancelled", advice: "call the cancel function on every path",
		signs: []string{"context.(*cancelCtx).propagateCancel.func2"},
	},
	{
		kind: "mapping", packages: []string{"syscall", "golang.org/x/sys/unix"}, gets: []string{"Mmap", "MmapPtr"}, gives: []string{"Munmap", "MunmapPtr"}, asArg: true,
		why: "memory was mapped and not unmapped", advice: "unmap what was mapped when it is not needed any more",
	},
	{
		kind: "C memory", packages: []string{"C"}, gets: []string{"malloc", "calloc", "CString", "CBytes", "strdup", "realloc"}, gives: []string{"free"}, asArg: true,
		why: "memory was allocated by C and not freed", advice: "free it: defer C.free(unsafe.Pointer(p)) right after, or give it to something that frees it",
	},
	{
		kind: "connection", packages: []string{"net", ""}, gets: []string{"Accept", "AcceptTCP", "AcceptUnix", "Dial", "DialTCP", "DialTimeout", "DialContext", "DialUnix", "Hijack"}, gives: []string{"Close"},
		why: "connections are not closed", advice: "close the connection on every path, also when the peer has closed its side (read returns io.EOF)",
	},
	{
		kind: "file", packages: []string{"os"}, gets: []string{"Open", "OpenFile", "Create", "CreateTemp", "Pipe"}, gives: []string{"Close"},
		why: "files are not closed", advice: "defer f.Close() right after the error is checked",
	},
	{
		kind: "ticker", packages: []string{"time"}, gets: []string{"NewTicker"}, gives: []string{"Stop"},
		why: "tickers are not stopped", advice: "defer t.Stop()",
	},
}

// resourceOf is a kind by name.
func resourceOf(kind string) *resource {
	return resources[slices.IndexFunc(resources, func(r *resource) bool { return r.kind == kind })]
}

// unreturned is a call that gets something and does not see to it that it is given back.
type unreturned struct {
	line   Line
	exit   Line // the way out on which it is forgotten, where there are others
	weight float64
}

// unreleased finds the calls that get a resource and do not return it, the likeliest first.
func (s *Source) unreleased(r *resource, e *Evidence, p places) []unreturned {
	if s == nil {
		return nil
	}
	// A package that is on no stack, of goroutines or of any allocation since the start, was hardly running. But stacks of
	// allocations are samples.
	ran := e.ranPackages(p)
	if list := s.search(r, e, p, func(file string) bool { return ran[path.Dir(file)] }); len(list) > 0 {
		return list
	}
	return s.search(r, e, p, func(string) bool { return true })
}

func (s *Source) search(r *resource, e *Evidence, p places, in func(file string) bool) []unreturned {
	active := e.activity(p)
	var list []unreturned
	for _, name := range sortedKeys(s.files) {
		if !in(name) {
			continue
		}
		ast.Inspect(s.files[name], func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok || !s.getsOne(r, c) {
				return true
			}
			u := s.fate(r, c)
			if u.weight == 0 {
				return true
			}
			u.line = s.line(c, "opened here")
			// A line that was seen to allocate is one that runs; one whose memory grows, more so.
			if a, ok := active[lineKey{u.line.File, u.line.Line}]; ok {
				u.weight *= 2
				if a > 0 {
					u.weight *= 4
				}
			}
			list = append(list, u)
			return true
		})
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
	return list
}

// ranPackages are the directories of the program's own packages that stacks have.
func (e *Evidence) ranPackages(p places) map[string]bool {
	m := map[string]bool{}
	e.frames(func(f Frame) bool {
		if p.owner(f) == ownCode {
			m[path.Dir(slashes(f.File))] = true
		}
		return true
	})
	return m
}

type lineKey struct {
	file string
	line int
}

// activity is, for each line of the program's own on the stack of an allocation, by how much its memory grew.
func (e *Evidence) activity(p places) map[lineKey]float64 {
	m := map[lineKey]float64{}
	for i, h := range e.Heap {
		sign := 0.0
		switch i {
		case 0:
			sign = -1
		case len(e.Heap) - 1:
			sign = 1
		}
		for _, s := range h.Sites {
			for _, f := range s.Frames {
				if p.owner(f) == ownCode {
					m[lineKey{slashes(f.File), f.Line}] += sign * float64(s.Bytes)
				}
			}
		}
	}
	return m
}

func (s *Source) getsOne(r *resource, c *ast.CallExpr) bool {
	pkg, name := s.callName(c)
	if !slices.Contains(r.gets, name) || !slices.Contains(r.packages, pkg) {
		return false
	}
	if _, isMethod := ast.Unparen(c.Fun).(*ast.SelectorExpr); !isMethod {
		return false // a function of ours that happens to have the name
	}
	if pkg == "" {
		// A method that has a declaration of ours is followed by itself.
		if len(s.callee(c)) > 0 {
			return false
		}
		// A method that is known to belong to one of the packages that were loaded, such as sync.Once's Do, is another.
		if _, known := s.object(ast.Unparen(c.Fun).(*ast.SelectorExpr).Sel).(*types.Func); known {
			return false
		}
		if r.kind == "response" && len(c.Args) != 1 && name != "Post" {
			return false
		}
		if len(c.Args) == 1 {
			if _, isFunc := c.Args[0].(*ast.FuncLit); isFunc {
				return false
			}
		}
	}
	return true
}

// fate says what becomes of what a call got: weight 0 when it is given back on every path, more the surer it is that it is not.
func (s *Source) fate(r *resource, c *ast.CallExpr) (u unreturned) {
	if r.kind == "command" {
		return s.fateOfReceiver(r, c)
	}
	a, ok := s.consumer(c).(*ast.AssignStmt)
	if !ok {
		switch s.consumer(c).(type) {
		case *ast.ExprStmt:
			u.weight = 6 // nobody has it any more
		default:
			u.weight = 2 // it is returned, or handed on right away
		}
		return u
	}
	lhs := a.Lhs[0]
	if r.gives[0] == "()" && len(a.Lhs) > 1 {
		lhs = a.Lhs[1]
		if s.dropped(lhs) {
			u.weight = 6
		}
		return u
	}
	id, ok := lhs.(*ast.Ident)
	if !ok {
		_, holder := s.root(lhs)
		if s.givenBackAnywhere(r, holder) {
			u.weight = 0.5
		} else {
			u.weight = 4
		}
		return u
	}
	if id.Name == "_" {
		u.weight = 6
		return u
	}
	o := s.object(id)
	fn := s.enclosing(c)
	gives := func(n ast.Node) bool { return s.gives(r, n, o) }
	any, escapes := false, false
	for _, use := range s.uses[o] {
		switch p := s.parents[use].(type) {
		case *ast.ReturnStmt, *ast.KeyValueExpr, *ast.CompositeLit, *ast.SendStmt:
			escapes = true
		case *ast.AssignStmt:
			if slices.Contains(p.Rhs, ast.Expr(use)) || slices.ContainsFunc(p.Lhs, func(l ast.Expr) bool { ix, ok := l.(*ast.IndexExpr); return ok && ix.Index == ast.Expr(use) }) {
				escapes = true
			}
		case *ast.IndexExpr:
			escapes = escapes || p.Index == ast.Expr(use)
		case *ast.CallExpr:
			if slices.Contains(p.Args, ast.Expr(use)) {
				escapes = escapes || s.isBuiltin(p, "append") || len(s.callee(p)) > 0
			}
		}
		for n := ast.Node(use); n != nil && n != fn; n = s.parents[n] {
			if gives(n) {
				any = true
			}
		}
	}
	switch {
	case !any && !escapes:
		u.weight = 5
	case !any:
		u.weight = 2
	default:
		if out := s.unpaired(fn, c, gives); out != nil {
			if ret, ok := out.(*ast.ReturnStmt); ok && !s.isErrorPath(ret, a) {
				u.weight, u.exit = 3, s.line(out, "leaves without giving it back")
			} else if ok {
				// The first way out is where getting it failed. Look for another.
				if ret := s.unpairedAfterError(fn, c, a, gives); ret != nil {
					u.weight, u.exit = 3, s.line(ret, "leaves without giving it back")
				}
			}
		}
	}
	return u
}

// consumer is the statement that takes a call's results: the assignment, or what stands around the expression.
func (s *Source) consumer(c *ast.CallExpr) ast.Node {
	var n ast.Node = c
	for {
		p := s.parents[n]
		switch x := p.(type) {
		case *ast.ParenExpr, *ast.TypeAssertExpr, *ast.StarExpr, *ast.UnaryExpr:
			n = p
		case *ast.CallExpr:
			// A conversion: (*T)(C.malloc(n)), unsafe.Pointer(p).
			if s.isConversion(x) || len(x.Args) == 1 && isConversionSyntax(x) {
				n = p
				continue
			}
			return p
		case *ast.SelectorExpr:
			return p
		case *ast.SliceExpr:
			n = p
		default:
			return p
		}
	}
}

func isConversionSyntax(c *ast.CallExpr) bool {
	switch f := c.Fun.(type) {
	case *ast.ParenExpr:
		_, star := f.X.(*ast.StarExpr)
		return star
	case *ast.SelectorExpr:
		return types.ExprString(f) == "unsafe.Pointer" || types.ExprString(f) == "unsafe.Slice"
	}
	return false
}

// gives says whether a node gives back what a variable holds.
func (s *Source) gives(r *resource, n ast.Node, o types.Object) bool {
	c, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	_, name := s.callName(c)
	if !slices.Contains(r.gives, name) {
		return false
	}
	if r.asArg {
		found := false
		for _, a := range c.Args {
			ast.Inspect(a, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok && s.object(id) == o {
					found = true
				}
				return !found
			})
		}
		return found
	}
	sel, ok := ast.Unparen(c.Fun).(*ast.SelectorExpr)
	if !ok {
		return false
	}
	root, _ := s.root(sel.X)
	return root == o
}

func (s *Source) givenBackAnywhere(r *resource, holder types.Object) bool {
	if holder == nil {
		return false
	}
	for _, id := range s.uses[holder] {
		for n, i := ast.Node(id), 0; n != nil && i < 5; n, i = s.parents[n], i+1 {
			if c, ok := n.(*ast.CallExpr); ok {
				if _, name := s.callName(c); slices.Contains(r.gives, name) {
					return true
				}
			}
		}
	}
	return false
}

func (s *Source) fateOfReceiver(r *resource, c *ast.CallExpr) (u unreturned) {
	_, holder, _ := s.methodCall(c)
	if holder == nil || s.givenBackAnywhere(r, holder) {
		return u
	}
	made := false
	s.definitions(holder, func(e ast.Expr, _ ast.Node) {
		if d, ok := e.(*ast.CallExpr); ok {
			if pkg, _ := s.callName(d); pkg == "os/exec" {
				made = true
			}
		}
	})
	if made {
		u.weight = 5
	}
	return u
}

// isErrorPath says whether a way out is taken because getting the thing failed: it is in if err != nil of the same error.
func (s *Source) isErrorPath(ret ast.Node, a *ast.AssignStmt) bool {
	if len(a.Lhs) < 2 {
		return false
	}
	id, ok := a.Lhs[len(a.Lhs)-1].(*ast.Ident)
	if !ok {
		return false
	}
	o := s.object(id)
	for n := s.parents[ret]; n != nil; n = s.parents[n] {
		i, ok := n.(*ast.IfStmt)
		if !ok || o == nil || !within(ret, i.Body) {
			continue
		}
		// Another assignment to the error in between makes it another's.
		again := false
		for _, use := range s.uses[o] {
			if as, ok := s.parents[use].(*ast.AssignStmt); ok && slices.Contains(as.Lhs, ast.Expr(use)) && as.Pos() > a.Pos() && as.Pos() < ret.Pos() {
				again = true
			}
		}
		if s.mentions(i.Cond, o) && !again {
			return true
		}
	}
	return false
}

// mentions says whether a variable stands in an expression; another of the same name, declared further in, does not count.
func (s *Source) mentions(e ast.Expr, o types.Object) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && s.object(id) == o {
			found = true
		}
		return !found
	})
	return found
}

func (s *Source) unpairedAfterError(fn ast.Node, c *ast.CallExpr, a *ast.AssignStmt, gives func(ast.Node) bool) (exit ast.Node) {
	return s.unpaired(fn, c, func(n ast.Node) bool {
		if gives(n) {
			return true
		}
		// A way out where it was never got needs nothing.
		r, ok := n.(*ast.ReturnStmt)
		return ok && s.isErrorPath(r, a)
	})
}

func related(list []unreturned) (lines []Line) {
	for i, u := range list {
		if i > 0 {
			u.line.Role = "may be another"
			lines = append(lines, u.line)
		}
		if u.exit.known() {
			lines = append(lines, u.exit)
		}
		if len(lines) >= 4 {
			break
		}
	}
	return lines
}
