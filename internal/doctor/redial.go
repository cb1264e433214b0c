package doctor

import (
	"cmp"
	"go/ast"
	"go/token"
	"go/types"
	"path"
	"slices"
	"strings"
)

// leastDial is what dialling a connection allocates at least, in bytes.
const leastDial = 500

// dials is what dialling allocated while the program was looked at, by the lines that asked for it.
type dials struct {
	rate   int64             // of the profile, bytes a sample; 0 where there is none
	bytes  float64           // all
	http   float64           // by transports of net/http, in goroutines of their own
	direct map[Frame]float64 // lines of the program's own that dial
	asks   map[Frame]float64 // lines that make requests of net/http
	lines  map[lineKey]float64
}

func dialsOf(e *Evidence, p places) dials {
	d := dials{direct: map[Frame]float64{}, asks: map[Frame]float64{}, lines: map[lineKey]float64{}}
	if len(e.Heap) < 2 {
		return d
	}
	add := func(h HeapSample, sign float64) {
		for _, s := range h.Sites {
			dials, transport, asks := false, false, false
			for _, f := range s.Frames {
				pkg := packageOf(f.Function)
				name := strings.TrimPrefix(f.Function, pkg+".")
				dials = dials || pkg == "net" && (strings.HasPrefix(name, "(*sysDialer).") || strings.HasPrefix(name, "(*Dialer).Dial")) || pkg == "net/http" && strings.HasPrefix(name, "(*Transport).dialConn")
				transport = transport || pkg == "net/http" && strings.HasPrefix(name, "(*Transport).")
				asks = asks || pkg == "net/http" && (strings.HasPrefix(name, "(*Client).") || name == "(*Transport).RoundTrip")
			}
			bytes := sign * float64(s.AllocBytes)
			own := p.firstOwn(s.Frames)
			if own >= 0 {
				d.lines[lineKey{slashes(s.Frames[own].File), s.Frames[own].Line}] += bytes
			}
			if dials {
				d.bytes += bytes
				if transport {
					d.http += bytes
				} else if own >= 0 {
					d.direct[s.Frames[own]] += bytes
				}
			}
			if asks && own >= 0 {
				d.asks[s.Frames[own]] += bytes
			}
		}
	}
	newest := e.Heap[len(e.Heap)-1]
	d.rate = newest.Rate
	add(e.Heap[0], -1)
	add(newest, 1)
	return d
}

// most is the line with the most bytes; ok is false where none has any.
func most(m map[Frame]float64) (f Frame, bytes float64) {
	for at, n := range m {
		if n > bytes || n == bytes && n > 0 && (at.File < f.File || at.File == f.File && at.Line < f.Line) {
			f, bytes = at, n
		}
	}
	return f, bytes
}

// redial is a place in the source that has connections used once.
type redial struct {
	at     ast.Node
	why    string
	advice string
	weight float64
}

// redials finds the line for which the program dials again and again.
func (s *Source) redials(e *Evidence, p places, d dials) (line Line, more []Line, why, advice string) {
	const keep = "make one http.Client and one Transport for the whole program, read each response's body to its end and close it, and have MaxIdleConnsPerHost (2 if it is not set) be as many as ask at once"
	const pool = "keep the connection and use it again: a pool, or one for each worker"
	at, bytes := most(d.direct)
	if bytes > d.http {
		return lineOf(at, "dials here"), nil, "it is dialled for each use", pool
	}
	var found []redial
	if s != nil {
		ran := e.ranPackages(p)
		in := func(file string) bool { return ran[path.Dir(file)] }
		if found = s.searchRedials(in, d); len(found) == 0 {
			found = s.searchRedials(func(string) bool { return true }, d)
		}
	}
	if len(found) == 0 {
		if at, bytes = most(d.asks); bytes > 0 {
			return lineOf(at, "asks here"), nil, "the request is made at", keep
		}
		if dial := s.dialCall(e, p); dial != nil && d.http == 0 {
			return s.line(dial, "dials here"), nil, "it is dialled for each use", pool
		}
		return Line{}, nil, "", keep
	}
	for _, r := range found[1:min(len(found), 4)] {
		more = append(more, s.line(r.at, "may be another"))
	}
	return s.line(found[0].at, "dials for one use"), more, found[0].why, cmp.Or(found[0].advice, keep)
}

// dialCall is the first call in a file that runs which dials a connection; nil if there is none.
func (s *Source) dialCall(e *Evidence, p places) (dial ast.Node) {
	if s == nil {
		return nil
	}
	ran := e.ranPackages(p)
	for _, name := range sortedKeys(s.files) {
		ast.Inspect(s.files[name], func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok && dial == nil && ran[path.Dir(name)] {
				if pkg, f := s.callName(c); pkg == "net" && strings.HasPrefix(f, "Dial") {
					dial = c
				}
			}
			return dial == nil
		})
	}
	return dial
}

// searchRedials looks for what is known to end a connection after one use, the likeliest first.
func (s *Source) searchRedials(in func(file string) bool, d dials) (list []redial) {
	add := func(n ast.Node, weight float64, why, advice string) {
		file, line := s.position(n)
		if d.lines[lineKey{file, line}] > 0 { // it allocated while it was looked at: it runs again and again
			weight *= 4
		}
		list = append(list, redial{n, why, advice, weight})
	}
	for _, name := range sortedKeys(s.files) {
		if !in(name) {
			continue
		}
		ast.Inspect(s.files[name], func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if k, ok := n.Key.(*ast.Ident); ok && k.Name == "DisableKeepAlives" && isTrue(n.Value) {
					add(n, 16, "the transport may not keep connections", "leave DisableKeepAlives away")
				}
			case *ast.AssignStmt:
				for i, l := range n.Lhs {
					sel, ok := l.(*ast.SelectorExpr)
					if !ok || len(n.Rhs) != len(n.Lhs) || !isTrue(n.Rhs[i]) {
						continue
					}
					switch sel.Sel.Name {
					case "DisableKeepAlives":
						add(n, 16, "the transport may not keep connections", "leave DisableKeepAlives away")
					case "Close":
						add(n, 5, "the request asks for its connection to be closed", "leave Close of the request away")
					}
				}
			case *ast.CallExpr:
				s.callRedials(n, add)
			case *ast.CompositeLit:
				if sel, ok := n.Type.(*ast.SelectorExpr); ok && s.isOf(sel, "net/http", "Transport") && s.inUse(n) {
					add(n, 4, "a transport with connections of its own is made for one use", "")
				}
			}
			return true
		})
	}
	slices.SortStableFunc(list, func(a, b redial) int { return cmp.Compare(b.weight, a.weight) })
	return list
}

func (s *Source) callRedials(c *ast.CallExpr, add func(n ast.Node, weight float64, why, advice string)) {
	pkg, name := s.callName(c)
	sel, isMethod := ast.Unparen(c.Fun).(*ast.SelectorExpr)
	switch {
	case pkg != "" && pkg != "net/http" || !isMethod:
	case name == "Clone" && len(c.Args) == 0:
		// http.DefaultTransport.(*http.Transport).Clone()
		x := ast.Unparen(sel.X)
		if t, ok := x.(*ast.TypeAssertExpr); ok {
			if d, ok := ast.Unparen(t.X).(*ast.SelectorExpr); ok && s.isOf(d, "net/http", "DefaultTransport") && s.inUse(c) {
				add(c, 4, "a transport with connections of its own is made for one use", "")
			}
		}
	case (name == "Set" || name == "Add") && len(c.Args) == 2:
		h, ok := ast.Unparen(sel.X).(*ast.SelectorExpr) // a response's is w.Header()
		if ok && h.Sel.Name == "Header" && isText(c.Args[0], "connection") && isText(c.Args[1], "close") {
			add(c, 5, "the request asks for its connection to be closed", "leave the header Connection: close away")
		}
	case name == "Do" && len(c.Args) == 1, name == "Get", name == "Post", name == "PostForm", name == "RoundTrip":
		if s.closedUnread(c) {
			add(c, 3, "the response is closed before it was read to its end, and its connection with it", "read the body to its end before it is closed: io.Copy(io.Discard, resp.Body)")
		}
	}
}

// isOf says whether x.Name is a package's.
func (s *Source) isOf(sel *ast.SelectorExpr, pkg, name string) bool {
	id, ok := sel.X.(*ast.Ident)
	if !ok || sel.Sel.Name != name {
		return false
	}
	p, ok := s.info.Uses[id].(*types.PkgName)
	return ok && p.Imported().Path() == pkg
}

// inUse says whether a node stands in a function that is not for the program's start only.
func (s *Source) inUse(n ast.Node) bool {
	d := s.declaration(n)
	if d == nil || d.Recv == nil && (d.Name.Name == "main" || d.Name.Name == "init") {
		return false
	}
	for f := s.enclosing(n); f != nil; f = s.enclosing(f) {
		if c, ok := s.parents[f].(*ast.CallExpr); ok {
			if pkg, name := s.callName(c); pkg == "sync" || name == "Do" {
				return false // once
			}
		}
	}
	return true
}

// closedUnread says whether the body of a response is closed and nothing else is done with it.
func (s *Source) closedUnread(c *ast.CallExpr) bool {
	a, ok := s.consumer(c).(*ast.AssignStmt)
	if !ok {
		return false
	}
	id, ok := a.Lhs[0].(*ast.Ident)
	if !ok || s.object(id) == nil {
		return false
	}
	closed := false
	for _, use := range s.uses[s.object(id)] {
		sel, ok := s.parents[use].(*ast.SelectorExpr)
		if !ok {
			if _, assigned := s.parents[use].(*ast.AssignStmt); assigned {
				continue
			}
			return false // it is handed on
		}
		if sel.Sel.Name != "Body" {
			continue
		}
		if m, ok := s.parents[sel].(*ast.SelectorExpr); !ok || m.Sel.Name != "Close" {
			return false
		}
		closed = true
	}
	return closed
}

func isTrue(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "true"
}

// isText says whether an expression is a text, whatever the case of its letters.
func isText(e ast.Expr, text string) bool {
	b, ok := e.(*ast.BasicLit)
	return ok && b.Kind == token.STRING && strings.EqualFold(strings.Trim(b.Value, "\"`"), text)
}
