package doctor

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// bound is what the source does against a holder's growth.
type bound struct {
	checked  bool  // its length is compared before something is stored or evicted
	most     int64 // what it is compared with, 0 if that is no constant
	shrunk   bool  // something is taken out, or it is begun anew
	shrinks  Line
	nodes    []ast.Node // all that make it smaller
	lookedUp bool       // a map that is asked whether it has something
}

// bounds looks for what keeps a holder small.
func (s *Source) bounds(o types.Object) (b bound) {
	if s == nil || o == nil {
		return b
	}
	shrink := func(n ast.Node) {
		b.shrunk = true
		b.nodes = append(b.nodes, n)
		if !b.shrinks.known() {
			b.shrinks = s.line(n, "made smaller here")
		}
	}
	for _, id := range s.uses[o] {
		// The expression that names the holder: x.f for a field.
		var e ast.Expr = id
		if sel, ok := s.parents[id].(*ast.SelectorExpr); ok && sel.Sel == id {
			e = sel
		}
		switch p := s.parents[e].(type) {
		case *ast.CallExpr:
			switch {
			case s.isBuiltin(p, "len"):
				if cmp, ok := s.parents[p].(*ast.BinaryExpr); ok && s.limits(cmp, p, &b) {
					b.checked = true
				}
			case s.isBuiltin(p, "delete"), s.isBuiltin(p, "clear"):
				if len(p.Args) > 0 && p.Args[0] == e {
					shrink(p)
				}
			default:
				if pkg, name := s.callName(p); pkg == "container/heap" && name == "Pop" || pkg == "slices" && strings.HasPrefix(name, "Delete") || pkg == "maps" && name == "DeleteFunc" {
					shrink(p)
				}
			}
		case *ast.SelectorExpr:
			c, ok := s.parents[p].(*ast.CallExpr)
			if !ok || c.Fun != ast.Expr(p) {
				continue
			}
			switch p.Sel.Name {
			case "Remove", "Delete", "LoadAndDelete", "CompareAndDelete", "Clear", "Init", "Pop", "PopFront", "PopBack", "Reset", "Truncate":
				shrink(c)
			case "Load", "Get", "LoadOrStore":
				b.lookedUp = true
			case "Len":
				if cmp, ok := s.parents[c].(*ast.BinaryExpr); ok && s.limits(cmp, c, &b) {
					b.checked = true
				}
			}
		case *ast.IndexExpr:
			if a, ok := s.parents[p].(*ast.AssignStmt); ok && len(a.Lhs) == 2 && len(a.Rhs) == 1 && a.Rhs[0] == ast.Expr(p) {
				b.lookedUp = true
			}
		case *ast.AssignStmt:
			i := slices.Index(p.Lhs, e)
			if i < 0 || p.Tok == token.DEFINE {
				continue
			}
			rhs := p.Rhs[min(i, len(p.Rhs)-1)]
			if s.emptier(rhs, o) && !s.guardedByNil(p, o) && !s.chains(p, p.Lhs[i], o) {
				shrink(p)
			}
		}
	}
	return b
}

// unboundedOf chooses among the places that keep a value: the first, unless that is bounded and another, in the same structure or a
// package's variable, is not. A cache that takes the oldest out of its list and leaves it in its map has both.
func (s *Source) unboundedOf(keeps []Keep) Keep {
	first := keeps[0]
	bounded := func(k Keep) bool { b := s.bounds(k.Holder); return b.checked || b.shrunk }
	if first.rank < rankContainer || first.Holder == nil || !bounded(first) {
		return first
	}
	for _, k := range keeps[1:] {
		if k.registered {
			return k
		}
		if k.rank >= rankContainer && k.Holder != nil && !bounded(k) && (isGlobal(k.Holder) || s.sameStruct(first.Holder, k.Holder)) {
			return k
		}
	}
	return first
}

// sameStruct says whether two variables are fields of one structure.
func (s *Source) sameStruct(a, b types.Object) (same bool) {
	if !isField(a) || !isField(b) {
		return false
	}
	for _, f := range s.files {
		if a.Pos() < f.Pos() || a.Pos() > f.End() || b.Pos() < f.Pos() || b.Pos() > f.End() {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			st, ok := n.(*ast.StructType)
			if !ok {
				return true
			}
			in := func(o types.Object) bool {
				return slices.ContainsFunc(st.Fields.List, func(d *ast.Field) bool {
					return slices.ContainsFunc(d.Names, func(id *ast.Ident) bool { return id.Pos() == o.Pos() })
				})
			}
			same = same || in(a) && in(b)
			return true
		})
	}
	return same
}

// limits says whether a comparison of a length bounds it: with anything but nothing. Of a constant it notes the value.
func (s *Source) limits(cmp *ast.BinaryExpr, length ast.Expr, b *bound) bool {
	switch cmp.Op {
	case token.LSS, token.LEQ, token.GTR, token.GEQ, token.EQL, token.NEQ:
	default:
		return false
	}
	other := cmp.Y
	if other == length {
		other = cmp.X
	}
	if tv, ok := s.info.Types[other]; ok && tv.Value != nil {
		text := tv.Value.ExactString()
		if text == "0" {
			return false
		}
		var n int64
		for _, c := range text {
			if c < '0' || c > '9' || n > 1<<50 {
				n = 0
				break
			}
			n = n*10 + int64(c-'0')
		}
		b.most = max(b.most, n)
	}
	// It has to decide something: a log line about the length bounds nothing.
	for n := s.parents[cmp]; n != nil; n = s.parents[n] {
		switch n := n.(type) {
		case *ast.IfStmt:
			return decides(n.Body) || n.Else != nil || s.storesIn(n.Body)
		case *ast.ForStmt, *ast.CaseClause, *ast.ReturnStmt:
			return true
		case *ast.FuncDecl, *ast.FuncLit:
			return false
		}
	}
	return false
}

// decides says whether a block takes something away or leaves.
func decides(b *ast.BlockStmt) bool {
	found := false
	ast.Inspect(b, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ReturnStmt, *ast.BranchStmt:
			found = true
		case *ast.AssignStmt:
			if n.Tok == token.ASSIGN {
				found = true
			}
		case *ast.CallExpr:
			name := strings.ToLower(types.ExprString(n.Fun))
			for _, w := range []string{"delete", "clear", "evict", "remove", "flush", "drop", "trim", "prune", "reset", "pop", "wait", "rotate", "shrink"} {
				if strings.Contains(name, w) {
					found = true
				}
			}
		}
		return !found
	})
	return found
}

func (s *Source) storesIn(b *ast.BlockStmt) bool {
	found := false
	ast.Inspect(b, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && a.Tok == token.ASSIGN {
			found = true
		}
		return !found
	})
	return found
}

// emptier says whether an expression, assigned to a holder, lets go of what it held.
func (s *Source) emptier(e ast.Expr, o types.Object) bool {
	switch x := ast.Unparen(e).(type) {
	case *ast.Ident:
		return x.Name == "nil"
	case *ast.CompositeLit:
		return true
	case *ast.UnaryExpr:
		_, lit := x.X.(*ast.CompositeLit)
		return lit
	case *ast.SliceExpr:
		// x[:0], x[1:], x[len(x)-n:] of itself.
		_, holder := s.root(x.X)
		return holder == o && (x.Low != nil || x.High != nil)
	case *ast.CallExpr:
		if s.isBuiltin(x, "make") {
			return true
		}
		if s.isBuiltin(x, "append") && len(x.Args) > 0 {
			sl, ok := ast.Unparen(x.Args[0]).(*ast.SliceExpr)
			return ok && s.emptier(sl, o)
		}
		if pkg, name := s.callName(x); pkg == "slices" && (strings.HasPrefix(name, "Delete") || name == "Compact") {
			return true
		}
	}
	return false
}

// guardedByNil says whether a statement only makes what is not there yet: if x == nil { x = make(…) }, or a constructor.
func (s *Source) guardedByNil(n ast.Node, o types.Object) bool {
	for p := s.parents[n]; p != nil; p = s.parents[p] {
		switch p := p.(type) {
		case *ast.IfStmt:
			if cmp, ok := p.Cond.(*ast.BinaryExpr); ok && cmp.Op == token.EQL {
				if _, holder := s.root(cmp.X); holder == o {
					return true
				}
			}
		case *ast.FuncDecl:
			return strings.HasPrefix(p.Name.Name, "New") || strings.HasPrefix(p.Name.Name, "new") || p.Name.Name == "init" || p.Name.Name == "main"
		}
	}
	return false
}

// pairs says whether the function that keeps something always takes something out as well.
func (s *Source) pairs(k Keep, b bound) bool {
	if s == nil || !b.shrunk {
		return false
	}
	fn := s.functionAt(Frame{File: k.Line.File, Line: k.Line.Line})
	body := bodyOf(fn)
	if body == nil {
		return false
	}
	for _, n := range b.nodes {
		if st := s.statement(n); st != nil && s.parents[st] == ast.Node(body) {
			return true
		}
	}
	return false
}
