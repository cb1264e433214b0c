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
	whole    bool     // it has the thing as a part, and methods of its own that give that back
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
	from   []Line // where it was opened, if the line is of a caller
	keep   Line   // what puts it into a collection, where something does
	// bounded says that a collection with a limit has it, which lets go: but what it lets go is not given back.
	bounded bool
	once    bool // the line runs once in the life of the program

	result  int          // which result of the function it leaves by, -1 for none
	wrapped bool         // and as a part of another thing
	part    types.Object // in this field, if known
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
			for _, u := range s.duties(r, c, 0, 0) {
				if u.once = s.runsOnce(c, 0); u.once {
					u.weight /= 64 // what is got once does not pile up
				}
				if !slices.ContainsFunc(list, func(o unreturned) bool { return o.line.same(u.line) }) {
					list = append(list, u)
				}
			}
			return true
		})
	}
	e.likeliest(list, p)
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
	if pkg == "C" && r.kind == "C memory" && s.getsPointerOfC(c, name) {
		return true
	}
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

// fate says what becomes of what a call got, as its result of that index: weight 0 when it is given back on every path, more the surer it is
// that it is not.
func (s *Source) fate(r *resource, c *ast.CallExpr, index int) (u unreturned) {
	u.result = -1
	if r.kind == "command" {
		return s.fateOfReceiver(r, c)
	}
	if weight, ok := s.replaces(r, c); ok {
		u.weight = weight
		return u
	}
	a, ok := s.consumer(c).(*ast.AssignStmt)
	if !ok {
		switch p := s.consumer(c).(type) {
		case *ast.ExprStmt:
			u.weight = 6 // nobody has it any more
		case *ast.ReturnStmt:
			u.weight = 2
			if len(p.Results) == 1 {
				u.result = index
			} else {
				u.result = slices.IndexFunc(p.Results, func(x ast.Expr) bool { return within(c, x) })
			}
		default:
			u.weight = 2 // it is handed on right away
		}
		return u
	}
	lhs := a.Lhs[0]
	if len(a.Rhs) == 1 && index < len(a.Lhs) {
		lhs = a.Lhs[index]
	} else if i := slices.IndexFunc(a.Rhs, func(x ast.Expr) bool { return within(c, x) }); i > 0 && i < len(a.Lhs) {
		lhs = a.Lhs[i]
	}
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
	fn := s.enclosing(c)
	if fn == nil {
		return u
	}
	w := s.courseOf(r, fn, s.object(id), c, a, 0)
	u.result, u.wrapped, u.part = w.result, w.wrapped, w.part
	switch {
	case w.keeper != nil:
		// What keeps it is to let go.
		u.weight, u.keep = 2, s.line(w.keeper, "kept here")
		if a, ok := w.keeper.(*ast.AssignStmt); ok {
			if _, holder := s.root(a.Lhs[0]); holder != nil && s.bounds(holder).checked {
				u.keep, u.bounded, u.result = Line{}, true, -1
			}
		}
	case w.gives || w.result >= 0:
		if w.result >= 0 {
			u.weight = 2
		}
		if ret, ok := w.exit.(*ast.ReturnStmt); ok {
			u.weight, u.exit = 3, s.line(ret, "leaves without giving it back")
		} else if w.forgets != nil {
			u.weight, u.exit = 3, s.line(w.forgets, "leaves without giving it back")
		}
	case w.elsewise:
		u.weight = 2
	default:
		u.weight = 5
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
	pkg, name := s.callName(c)
	if !slices.Contains(r.gives, name) && !(r.kind == "C memory" && pkg == "C" && freesInC(name)) {
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
		if found || !r.whole {
			return found
		}
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
				if pkg, name := s.callName(c); slices.Contains(r.gives, name) || pkg == "C" && r.kind == "C memory" && freesInC(name) {
					return true
				}
			}
		}
	}
	return false
}

func (s *Source) fateOfReceiver(r *resource, c *ast.CallExpr) (u unreturned) {
	u.result = -1
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

func related(list []unreturned) (lines []Line) {
	for i, u := range list {
		if i > 0 {
			u.line.Role = "may be another"
			lines = append(lines, u.line)
		}
		if u.exit.known() {
			lines = append(lines, u.exit)
		}
		if i == 0 {
			lines = append(lines, u.from...)
			if u.keep.known() && !u.keep.same(u.line) {
				lines = append(lines, u.keep)
			}
		}
		if len(lines) >= 4 {
			break
		}
	}
	return lines
}
