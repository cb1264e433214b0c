package doctor

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"
)

// Source is the program's own source as far as it was found: every function that the program is made of, and where each of its
// names is used. It knows nothing of the standard library's and others' source, whose types stay unknown.
// A nil Source is one without any file. It does not change once it is loaded.
type Source struct {
	set     *token.FileSet
	info    *types.Info
	files   map[string]*ast.File // by the name that frames have
	texts   map[string][]string  // lines
	parents map[ast.Node]ast.Node
	uses    map[types.Object][]*ast.Ident
	decls   map[types.Object]*ast.FuncDecl
	methods map[string][]*ast.FuncDecl // by name
}

// What loading may cost.
const (
	mostSourceFiles = 4000
	mostSourceBytes = 64 << 20
)

// LoadSource reads the packages that frames of the program's own code are in, and those of the same modules that they import.
// root is the file system that the names in frames are of, rooted at "/"; dir, where not empty, is where the main module lies in it,
// for programs that were built elsewhere or with -trimpath.
// It is nil when nothing was found.
func LoadSource(root fs.FS, dir string, p places, frames []Frame) *Source {
	s := &Source{
		set:     token.NewFileSet(),
		info:    &types.Info{Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}, Types: map[ast.Expr]types.TypeAndValue{}, Selections: map[*ast.SelectorExpr]*types.Selection{}},
		files:   map[string]*ast.File{},
		texts:   map[string][]string{},
		parents: map[ast.Node]ast.Node{},
		uses:    map[types.Object][]*ast.Ident{},
		decls:   map[types.Object]*ast.FuncDecl{},
		methods: map[string][]*ast.FuncDecl{},
	}
	l := &sourceLoader{s: s, root: root, dir: dir, module: p.module, packages: map[string]*types.Package{}, seen: map[string]bool{}, modules: map[string]string{}, goroot: p.root, foreign: map[string]*types.Package{}, unknown: map[string]*types.Package{}}
	for _, f := range frames {
		l.seen[slashes(f.File)] = true
	}
	for _, f := range frames {
		if p.owner(f) == ownCode && strings.HasSuffix(f.File, ".go") {
			dir := path.Dir(slashes(f.File))
			l.load(dir, packageIn(dir, f))
		}
	}
	if len(s.files) == 0 {
		return nil
	}
	s.link()
	return s
}

// sourceLoader loads packages, those that a package imports first.
type sourceLoader struct {
	s        *Source
	root     fs.FS
	dir      string
	module   string
	packages map[string]*types.Package // by directory, as frames name it; nil while it is loaded
	seen     map[string]bool           // files that frames are in
	modules  map[string]string         // module path → its directory, as frames name it
	goroot   string                    // where the standard library's source is, as frames name it
	foreign  map[string]*types.Package // others' packages that were loaded
	unknown  map[string]*types.Package // and those of which only the name is known
	count    int
	bytes    int64
}

// open is where the directory lies in root.
func (l *sourceLoader) open(dir string) string {
	if l.dir != "" {
		if rest, ok := strings.CutPrefix(dir+"/", l.module+"/"); ok && l.module != "" {
			return path.Join(l.dir, rest)
		}
		// Built elsewhere: the longest tail of the path that exists below the module.
		parts := strings.Split(strings.Trim(dir, "/"), "/")
		for i := range parts {
			try := path.Join(append([]string{l.dir}, parts[i:]...)...)
			if i, err := fs.Stat(l.root, rooted(try)); err == nil && i.IsDir() {
				return try
			}
		}
		return l.dir
	}
	return dir
}

func rooted(name string) string {
	if name = strings.TrimPrefix(path.Clean(name), "/"); name == "" {
		return "."
	}
	return name
}

// findModule learns the module that a directory belongs to.
func (l *sourceLoader) findModule(dir string) {
	at := dir
	for range 32 {
		if b, err := fs.ReadFile(l.root, rooted(path.Join(l.open(at), "go.mod"))); err == nil {
			for line := range strings.Lines(string(b)) {
				if f := strings.Fields(line); len(f) >= 2 && f[0] == "module" {
					l.modules[strings.Trim(f[1], `"`)] = at
					return
				}
			}
			return
		}
		if at == "/" || at == "." || l.dir != "" {
			return
		}
		at = path.Dir(at)
	}
}

func (l *sourceLoader) load(dir, pkg string) *types.Package {
	if p, ok := l.packages[dir]; ok {
		return p
	}
	l.packages[dir] = nil
	l.findModule(dir)
	at := l.open(dir)
	entries, err := fs.ReadDir(l.root, rooted(at))
	if err != nil {
		return nil
	}
	type parsed struct {
		name string
		file *ast.File
	}
	var list []parsed
	mains := 0
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		full := path.Join(dir, name)
		b, err := fs.ReadFile(l.root, rooted(path.Join(at, name)))
		if err != nil || l.count >= mostSourceFiles || l.bytes+int64(len(b)) > mostSourceBytes {
			continue
		}
		f, err := parser.ParseFile(l.s.set, full, b, parser.SkipObjectResolution|parser.ParseComments)
		if f == nil || err != nil && len(f.Decls) == 0 {
			continue
		}
		if !l.seen[full] && !forThisSystem(name, f) {
			continue
		}
		l.count++
		l.bytes += int64(len(b))
		l.s.texts[full] = strings.Split(string(b), "\n")
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "main" && f.Name.Name == "main" {
				mains++
			}
		}
		list = append(list, parsed{full, f})
	}
	var files []*ast.File
	for _, p := range list {
		// A directory of programs of one file each: only the one that runs counts.
		if mains > 1 && !l.seen[p.name] {
			delete(l.s.texts, p.name)
			continue
		}
		files = append(files, p.file)
		l.s.files[p.name] = p.file
	}
	if len(files) == 0 {
		return nil
	}
	c := types.Config{Importer: l, FakeImportC: true, Error: func(error) {}, DisableUnusedImportCheck: true}
	tp, _ := c.Check(pkg, l.s.set, files, l.s.info) // what it cannot know stays unknown
	l.packages[dir] = tp
	return tp
}

// forThisSystem says whether a file without frames belongs to a build for this system.
func forThisSystem(name string, f *ast.File) bool {
	for _, g := range f.Comments {
		if g.Pos() > f.Package {
			break
		}
		for _, c := range g.List {
			if strings.TrimSpace(c.Text) == "//go:build ignore" {
				return false
			}
		}
	}
	base := strings.TrimSuffix(name, ".go")
	for _, os := range []string{"windows", "darwin", "freebsd", "js", "plan9"} {
		if strings.HasSuffix(base, "_"+os) && os != build.Default.GOOS {
			return false
		}
	}
	return !strings.HasSuffix(base, "_linux") || build.Default.GOOS == "linux"
}

// Import loads a package of ours, and makes an empty one for any other.
func (l *sourceLoader) Import(name string) (*types.Package, error) {
	for module, dir := range l.modules {
		if name == module || strings.HasPrefix(name, module+"/") {
			if p := l.load(path.Join(dir, strings.TrimPrefix(name, module)), name); p != nil {
				return p, nil
			}
		}
	}
	if name == "" {
		return nil, fmt.Errorf("import of nothing")
	}
	if vocabulary[name] {
		if p := l.others(name); p != nil {
			return p, nil
		}
	}
	if p, ok := l.unknown[name]; ok {
		return p, nil
	}
	base := path.Base(name)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(name))
	}
	p := types.NewPackage(name, base)
	p.MarkComplete()
	l.unknown[name] = p
	return p, nil
}

// vocabulary are the small packages whose values hold a program's own: what comes out of them by a type assertion or a type argument
// has to be known to be followed. Of all others, names are enough.
var vocabulary = map[string]bool{
	"bufio": true, "bytes": true, "cmp": true, "container/heap": true, "container/list": true, "container/ring": true, "context": true, "errors": true,
	"io": true, "iter": true, "maps": true, "slices": true, "sort": true, "strings": true, "sync": true, "sync/atomic": true, "time": true, "unsafe": true,
}

// others loads the declarations of a package of the standard library, whose source lies where the program was built. It is nil where that
// is not this machine; then the types of others stay unknown.
func (l *sourceLoader) others(name string) *types.Package {
	if name == "unsafe" {
		return types.Unsafe
	}
	if p, ok := l.foreign[name]; ok {
		return p
	}
	if l.goroot == "" || name == "C" {
		return nil
	}
	var dir string
	var entries []fs.DirEntry
	for _, dir = range []string{path.Join(l.goroot, name), path.Join(l.goroot, "vendor", name)} {
		var err error
		if entries, err = fs.ReadDir(l.root, rooted(dir)); err == nil {
			break
		}
	}
	if len(entries) == 0 {
		return nil
	}
	l.foreign[name] = nil // against a ring, which there is none of
	ctx := build.Default
	ctx.CgoEnabled = false
	ctx.OpenFile = func(file string) (io.ReadCloser, error) { return l.root.Open(rooted(slashes(file))) }
	ctx.JoinPath = path.Join
	var files []*ast.File
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		if ok, err := ctx.MatchFile(dir, e.Name()); err != nil || !ok {
			continue
		}
		b, err := fs.ReadFile(l.root, rooted(path.Join(dir, e.Name())))
		if err != nil {
			continue
		}
		if f, _ := parser.ParseFile(l.s.set, path.Join(dir, e.Name()), b, parser.SkipObjectResolution); f != nil {
			files = append(files, f)
		}
	}
	if len(files) == 0 {
		return nil
	}
	c := types.Config{Importer: l, FakeImportC: true, IgnoreFuncBodies: true, Error: func(error) {}}
	p, _ := c.Check(name, l.s.set, files, nil)
	l.foreign[name] = p
	return p
}

// link notes where names are used and what stands in what.
func (s *Source) link() {
	for _, name := range sortedKeys(s.files) {
		f := s.files[name]
		var stack []ast.Node
		ast.Inspect(f, func(n ast.Node) bool {
			if n == nil {
				stack = stack[:len(stack)-1]
				return true
			}
			if len(stack) > 0 {
				s.parents[n] = stack[len(stack)-1]
			}
			stack = append(stack, n)
			switch n := n.(type) {
			case *ast.FuncDecl:
				if o := s.info.Defs[n.Name]; o != nil {
					s.decls[o] = n
				}
				if n.Recv != nil {
					s.methods[n.Name.Name] = append(s.methods[n.Name.Name], n)
				}
			case *ast.Ident:
				if o := s.info.Uses[n]; o != nil {
					o = origin(o)
					s.uses[o] = append(s.uses[o], n)
				}
			}
			return true
		})
	}
}

// origin is the declared object of an instance of something generic.
func origin(o types.Object) types.Object {
	switch o := o.(type) {
	case *types.Var:
		return o.Origin()
	case *types.Func:
		return o.Origin()
	}
	return o
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// text is the line's text, "" if it is not at hand.
func (s *Source) text(l Line) string {
	if s == nil || !l.known() {
		return ""
	}
	t := s.texts[slashes(l.File)]
	if l.Line > len(t) {
		return ""
	}
	return strings.TrimSpace(strings.TrimRight(t[l.Line-1], "\r"))
}

// object is what a name means, nil if unknown.
func (s *Source) object(id *ast.Ident) types.Object {
	if o := s.info.Defs[id]; o != nil {
		return o
	}
	if o := s.info.Uses[id]; o != nil {
		return origin(o)
	}
	return nil
}

func (s *Source) position(n ast.Node) (file string, line int) {
	p := s.set.Position(n.Pos())
	return p.Filename, p.Line
}

// line is where a node begins, with the function that it is in.
func (s *Source) line(n ast.Node, role string) Line {
	file, number := s.position(n)
	// A call in a chain over several lines is where its name stands: so the compiler counts.
	if c, ok := n.(*ast.CallExpr); ok {
		if sel, ok := c.Fun.(*ast.SelectorExpr); ok {
			number = s.set.Position(sel.Sel.Pos()).Line
		}
	}
	l := Line{File: file, Line: number, Role: role}
	if d := s.declaration(n); d != nil {
		l.Function = s.functionName(d)
	}
	return l
}

// functionName is the name that a stack has for a declared function.
func (s *Source) functionName(d *ast.FuncDecl) string {
	pkg := ""
	if o := s.info.Defs[d.Name]; o != nil && o.Pkg() != nil {
		pkg = o.Pkg().Path() + "."
		if o.Pkg().Name() == "main" {
			pkg = "main."
		}
	}
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return pkg + d.Name.Name
	}
	t, star := d.Recv.List[0].Type, false
	if st, ok := t.(*ast.StarExpr); ok {
		t, star = st.X, true
	}
	generic := ""
	switch x := t.(type) {
	case *ast.IndexExpr:
		t, generic = x.X, "[...]"
	case *ast.IndexListExpr:
		t, generic = x.X, "[...]"
	}
	name := "?"
	if id, ok := t.(*ast.Ident); ok {
		name = id.Name
	}
	if star {
		return pkg + "(*" + name + generic + ")." + d.Name.Name
	}
	return pkg + name + generic + "." + d.Name.Name
}

// enclosing is the innermost function, declared or literal, around a node.
func (s *Source) enclosing(n ast.Node) ast.Node {
	for n = s.parents[n]; n != nil; n = s.parents[n] {
		switch n.(type) {
		case *ast.FuncDecl, *ast.FuncLit:
			return n
		}
	}
	return nil
}

// declaration is the declared function around a node, or the node itself.
func (s *Source) declaration(n ast.Node) *ast.FuncDecl {
	for ; n != nil; n = s.parents[n] {
		if d, ok := n.(*ast.FuncDecl); ok {
			return d
		}
	}
	return nil
}

// statement is the innermost statement around a node, or the node itself.
func (s *Source) statement(n ast.Node) ast.Stmt {
	for ; n != nil; n = s.parents[n] {
		if st, ok := n.(ast.Stmt); ok {
			if _, block := st.(*ast.BlockStmt); !block {
				return st
			}
		}
	}
	return nil
}

// at visits all nodes that begin on a line, the outer ones first.
func (s *Source) at(file string, line int, visit func(ast.Node)) {
	f := s.files[slashes(file)]
	if f == nil {
		return
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if n == nil {
			return false
		}
		begin, end := s.set.Position(n.Pos()).Line, s.set.Position(n.End()).Line
		if begin > line || end < line {
			return false
		}
		number := begin
		if c, ok := n.(*ast.CallExpr); ok {
			if sel, ok := c.Fun.(*ast.SelectorExpr); ok {
				number = s.set.Position(sel.Sel.Pos()).Line
			}
		}
		if number == line {
			visit(n)
		}
		return true
	})
}

// root is the variable at the beginning of x.f[i].g, and the last field or variable that is named: the holder.
func (s *Source) root(e ast.Expr) (root, holder types.Object) {
	for {
		switch x := e.(type) {
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.UnaryExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.TypeAssertExpr:
			e = x.X
		case *ast.SelectorExpr:
			if holder == nil {
				holder = s.object(x.Sel)
			}
			e = x.X
		case *ast.Ident:
			o := s.object(x)
			if _, isPackage := o.(*types.PkgName); isPackage {
				return holder, holder
			}
			if holder == nil {
				holder = o
			}
			return o, holder
		default:
			return nil, holder
		}
	}
}

// isGlobal says whether a variable is a package's.
func isGlobal(o types.Object) bool {
	v, ok := o.(*types.Var)
	return ok && v.Pkg() != nil && v.Parent() == v.Pkg().Scope()
}

// isField says whether a variable is a struct's.
func isField(o types.Object) bool {
	v, ok := o.(*types.Var)
	return ok && v.IsField()
}

// callName is the package (or "" for a method and our own functions) and name of what a call calls.
func (s *Source) callName(c *ast.CallExpr) (pkg, name string) {
	fun := ast.Unparen(c.Fun)
	switch x := fun.(type) {
	case *ast.IndexExpr:
		fun = x.X
	case *ast.IndexListExpr:
		fun = x.X
	}
	switch x := fun.(type) {
	case *ast.Ident:
		return "", x.Name
	case *ast.SelectorExpr:
		if id, ok := x.X.(*ast.Ident); ok {
			if p, ok := s.info.Uses[id].(*types.PkgName); ok {
				return p.Imported().Path(), x.Sel.Name
			}
		}
		return "", x.Sel.Name
	}
	return "", ""
}

// callee are the functions of the program's own that a call may run: one, or several for a method of an interface.
func (s *Source) callee(c *ast.CallExpr) []*ast.FuncDecl {
	fun := ast.Unparen(c.Fun)
	switch x := fun.(type) {
	case *ast.IndexExpr:
		fun = x.X
	case *ast.IndexListExpr:
		fun = x.X
	}
	var id *ast.Ident
	switch x := fun.(type) {
	case *ast.Ident:
		id = x
	case *ast.SelectorExpr:
		id = x.Sel
	default:
		return nil
	}
	o, ok := s.object(id).(*types.Func)
	if !ok {
		return s.byName(c, id)
	}
	if d := s.decls[o]; d != nil {
		return []*ast.FuncDecl{d}
	}
	// A method of an interface: every type of ours that has a method of that name. Many would say nothing.
	if r := o.Signature().Recv(); r != nil && types.IsInterface(r.Type()) {
		if list := s.methods[o.Name()]; len(list) <= 4 {
			return list
		}
	}
	return nil
}

// byName is the method of the program's own that a call may mean whose receiver's type is not known, since others' source is not at
// hand: the only one of that name in the package, if the receiver is a plain variable that may have such a type.
func (s *Source) byName(c *ast.CallExpr, id *ast.Ident) []*ast.FuncDecl {
	sel, ok := ast.Unparen(c.Fun).(*ast.SelectorExpr)
	if !ok || s.object(id) != nil {
		return nil
	}
	x, ok := ast.Unparen(sel.X).(*ast.Ident)
	if !ok {
		return nil
	}
	v, ok := s.object(x).(*types.Var)
	if !ok || isGlobal(v) || v.Type() != types.Typ[types.Invalid] {
		return nil
	}
	var list []*ast.FuncDecl
	for _, d := range s.methods[id.Name] {
		if o := s.info.Defs[d.Name]; o != nil && o.Pkg() == v.Pkg() {
			list = append(list, d)
		}
	}
	if len(list) != 1 {
		return nil
	}
	return list
}

// isBuiltin says whether a call is to the language's own function of that name.
func (s *Source) isBuiltin(c *ast.CallExpr, name string) bool {
	id, ok := ast.Unparen(c.Fun).(*ast.Ident)
	if !ok || id.Name != name {
		return false
	}
	_, ok = s.info.Uses[id].(*types.Builtin)
	return ok
}
