package doctor

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// freesInC says whether a function in C gives back what it is given, by its name: tok_free, sqlite3_close, X509_free, g_object_unref.
func freesInC(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{"free", "destroy", "delete", "release", "close", "unref", "dispose", "cleanup"}, func(part string) bool { return strings.Contains(name, part) })
}

// getsPointerOfC says whether a call of C gives a pointer that somebody has to free: the program frees such pointers somewhere, or the
// result is compared with nil, though types of C are not known. What C reads through a pointer that it is given is no result.
func (s *Source) getsPointerOfC(c *ast.CallExpr, name string) bool {
	if freesInC(name) || len(s.callsInC(freesInC)) == 0 {
		return false
	}
	a, ok := s.consumer(c).(*ast.AssignStmt)
	if !ok || len(a.Lhs) == 0 {
		return false
	}
	id, ok := a.Lhs[0].(*ast.Ident)
	if !ok {
		return false
	}
	o := s.object(id)
	if o == nil {
		return false
	}
	for _, use := range s.uses[o] {
		switch p := s.parents[use].(type) {
		case *ast.BinaryExpr:
			if other := p.X; p.Op == token.EQL || p.Op == token.NEQ {
				if other == ast.Expr(use) {
					other = p.Y
				}
				if nothing, ok := ast.Unparen(other).(*ast.Ident); ok && nothing.Name == "nil" {
					return true
				}
			}
		case *ast.CallExpr:
			if pkg, f := s.callName(p); pkg == "C" && freesInC(f) {
				return true
			}
		case *ast.KeyValueExpr, *ast.CompositeLit:
			if s.inPointerField(p, use) {
				return true
			}
		}
	}
	return false
}

// inPointerField says whether a variable is put into a field that points to something of C.
func (s *Source) inPointerField(n ast.Node, use *ast.Ident) bool {
	var t types.Type
	switch p := n.(type) {
	case *ast.KeyValueExpr:
		if key, ok := p.Key.(*ast.Ident); ok && s.object(key) != nil {
			t = s.object(key).Type()
		}
	case *ast.CompositeLit:
		if st, ok := underlyingStruct(s.info.Types[p].Type); ok {
			if i := slices.Index(p.Elts, ast.Expr(use)); i >= 0 && i < st.NumFields() {
				t = st.Field(i).Type()
			}
		}
	}
	_, pointer := t.(*types.Pointer)
	return pointer
}

func underlyingStruct(t types.Type) (*types.Struct, bool) {
	if t == nil {
		return nil, false
	}
	st, ok := t.Underlying().(*types.Struct)
	return st, ok
}

// callsInC are the names of the functions of C that the program calls, of those that are asked for.
func (s *Source) callsInC(which func(string) bool) (names []string) {
	for _, name := range sortedKeys(s.files) {
		f := s.files[name]
		if !slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"C"` }) {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok {
				if pkg, name := s.callName(c); pkg == "C" && which(name) {
					names = append(names, name)
				}
			}
			return true
		})
	}
	return names
}
