package doctor

import (
	"path"
	"slices"
	"strings"
)

// owner says whose code a frame is.
type owner int

const (
	ownCode owner = iota
	standard
	thirdParty
)

// places tells the program's own code from others'. What it knows it learns from frames: every stack has frames of the
// runtime somewhere, and those say where the standard library is.
type places struct {
	root   string // GOROOT/src/ as the program was built; "" when it was built with -trimpath
	module string // the main module's path, "" if unknown
	// also are directories of others' packages that are to be taken as the program's own, where the question is which of their lines
	// is to blame.
	also []string
}

// learnPlaces looks for the standard library in stacks.
func learnPlaces(module string, frames func(func(Frame) bool)) places {
	p := places{module: module}
	frames(func(f Frame) bool {
		// net/http's functions live in …/src/net/http/, the runtime's in …/src/runtime/.
		pkg := packageOf(f.Function)
		if first, _, _ := strings.Cut(pkg, "/"); first != "runtime" && first != "net" && first != "internal" && first != "sync" && first != "time" {
			return true
		}
		dir := path.Dir(slashes(f.File))
		if base, ok := strings.CutSuffix(dir, "/src/"+pkg); ok {
			p.root = base + "/src/"
			return false
		}
		return true
	})
	return p
}

// owner classifies a frame.
func (p places) owner(f Frame) owner {
	file, pkg := slashes(f.File), packageOf(f.Function)
	switch {
	case pkg == "main" && !p.inlinedFrom(file):
		return ownCode
	case p.root != "" && strings.HasPrefix(file, p.root):
		// Modules that the standard library carries along are under src/vendor.
		return standard
	case slices.Contains(p.also, path.Dir(file)):
		return ownCode
	case strings.Contains(file, "/pkg/mod/") || strings.Contains(file, "/vendor/"):
		return thirdParty
	case p.module != "" && (pkg == p.module || strings.HasPrefix(pkg, p.module+"/")):
		return ownCode
	case file == "" || strings.HasPrefix(file, "<") || strings.HasPrefix(file, "_cgo_"):
		return standard
	case !strings.HasPrefix(file, "/") && !hasDrive(file):
		// Built with -trimpath: modules have a version in the path, the standard library is relative to its root, and
		// packages of the main module are named after its path.
		if strings.Contains(file, "@") {
			return thirdParty
		}
		if path.Dir(file) == pkg && !strings.Contains(strings.SplitN(pkg, "/", 2)[0], ".") && p.module == "" {
			return standard
		}
		if p.module != "" {
			return standard
		}
		return ownCode
	}
	// A module beside the main one (go.work, a replace directive) is mended by the same people.
	return ownCode
}

// inlinedFrom says whether a file of others is where a function of package main stands: a literal of a function that was inlined is
// named after the function that it went into, and has its own file. A main module that was installed by its version lies beside others.
func (p places) inlinedFrom(file string) bool {
	if p.root != "" && strings.HasPrefix(file, p.root) {
		return !strings.HasPrefix(file, p.root+"cmd/")
	}
	_, version, ok := moduleOf(file)
	return ok && p.module != "" && !strings.Contains(file, p.module+"@"+version)
}

// moduleOf is the path and version of the module that a file of the module cache is of: github.com/x/y and v1.2.3 of
// /go/pkg/mod/github.com/x/y@v1.2.3/z.go.
func moduleOf(file string) (module, version string, ok bool) {
	if i := strings.Index(file, "/pkg/mod/"); i >= 0 {
		file = file[i+len("/pkg/mod/"):]
	} else if strings.HasPrefix(file, "/") || hasDrive(file) {
		return "", "", false
	}
	module, rest, ok := strings.Cut(file, "@")
	version, _, _ = strings.Cut(rest, "/")
	return module, version, ok
}

// packageIn is the import path of the package in a directory that a frame's function was found in. In the module cache the directory says
// it, for the function may be named after another into which it was inlined.
func packageIn(dir string, f Frame) string {
	module, version, ok := moduleOf(dir)
	if !ok || strings.Contains(module, "!") {
		return packageOf(f.Function)
	}
	_, rest, _ := strings.Cut(dir, "@"+version)
	return module + rest
}

// firstOwn is the index of the frame nearest to the callee that is the program's own, -1 if none is.
func (p places) firstOwn(frames []Frame) int {
	for i, f := range frames {
		if p.owner(f) == ownCode {
			return i
		}
	}
	return -1
}

func slashes(file string) string { return strings.ReplaceAll(file, `\`, "/") }

func hasDrive(file string) bool { return len(file) > 2 && file[1] == ':' }

// packageOf is the import path of a function's package: net/http of net/http.(*Server).Serve.
func packageOf(function string) string {
	head := function
	if i := strings.IndexByte(head, '['); i >= 0 {
		head = head[:i] // type arguments have paths of their own
	}
	slash := strings.LastIndexByte(head, '/') + 1
	dot := strings.IndexByte(head[slash:], '.')
	if dot < 0 {
		return head
	}
	// The linker writes dots of a path's last element as %2e.
	return head[:slash] + strings.ReplaceAll(head[slash:slash+dot], "%2e", ".")
}

// untyped writes the type arguments of a function as the text of a goroutine does: main.(*Pool[...]).work, so that profiles and texts
// name it alike.
func untyped(function string) string {
	open := strings.IndexByte(function, '[')
	if open < 0 {
		return function
	}
	depth := 0
	for i := open; i < len(function); i++ {
		switch function[i] {
		case '[':
			depth++
		case ']':
			if depth--; depth == 0 {
				return function[:open] + "[...]" + untyped(function[i+1:])
			}
		}
	}
	return function
}

// declared is the function in whose text a function literal stands: main.serve of main.serve.func1.2.
func declared(function string) string {
	for {
		i := strings.LastIndexByte(function, '.')
		if i < 0 {
			return function
		}
		last := function[i+1:]
		number := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(last, "func"), "gowrap"), "deferwrap")
		if number == "" || strings.Trim(number, "0123456789-") != "" {
			return function
		}
		function = function[:i]
	}
}

func lineOf(f Frame, role string) Line {
	return Line{Function: f.Function, File: f.File, Line: f.Line, Role: role}
}
