package longwire_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/longwire/longwire"

// row is what one package may use. Tests are free to use more.
type row struct {
	imports string // packages of ours, by path below the module; "." is the root
	outside string // modules of others
	process bool   // may touch what belongs to the whole process: arguments, environment, exit
}

// layout has a row for every package of this module: what is not listed is not allowed. Imports point down, and
// never sideways between two tools (but lab → stress). docs/ARCHITECTURE.md has the picture.
var layout = map[string]row{
	// The library.
	".":                        {imports: "engine engine/memengine internal/arena internal/channel internal/flight internal/hub internal/journal internal/loop internal/sampling internal/session internal/sys internal/token internal/wire/centrifuge internal/wire/plain ws"},
	"ws":                       {outside: "github.com/klauspost/compress"},
	"client":                   {imports: "ws"},
	"client/centrifuge":        {imports: "client ws", outside: "google.golang.org/protobuf"}, // a codec of its own: the server's tests it
	"engine":                   {},
	"engine/enginetest":        {imports: "engine"},
	"engine/memengine":         {imports: "engine"},
	"internal/session":         {imports: "engine internal/arena internal/channel internal/hub internal/journal internal/token internal/wire/centrifuge internal/wire/json internal/wire/plain ws"},
	"internal/hub":             {imports: "engine internal/arena internal/wire/centrifuge internal/wire/json internal/wire/plain ws", outside: "github.com/shadowspore/fossil-delta"},
	"internal/arena":           {},
	"internal/flight":          {},
	"internal/journal":         {},
	"internal/sampling":        {},
	"internal/channel":         {},
	"internal/token":           {},
	"internal/token/tokentest": {}, // signs tokens, for tests
	"internal/wire/json":       {},
	"internal/wire/centrifuge": {imports: "engine internal/wire/json", outside: "google.golang.org/protobuf"},
	"internal/wire/plain":      {imports: "internal/wire/json"},
	"internal/loop":            {imports: "internal/sys"},
	"internal/loop/looptest":   {imports: "internal/loop internal/sys"}, // a fake kernel, for tests
	"internal/sys":             {outside: "golang.org/x/sys"},

	// The tools beside it.
	"internal/fleet": {imports: "internal/loop internal/sys ws", outside: "github.com/HdrHistogram/hdrhistogram-go"},

	// Simulated subscribers that judge what they get, for tests. What they say and hear is written and read by code of their own.
	"internal/checker": {imports: ". engine engine/memengine ws", outside: "github.com/shadowspore/fossil-delta google.golang.org/protobuf"},

	"internal/stress": {imports: "internal/avalanche internal/fleet internal/limits internal/loop internal/report internal/spelling internal/sys ws", outside: "github.com/HdrHistogram/hdrhistogram-go go.yaml.in/yaml/v3"},

	"internal/avalanche":     {imports: "internal/sys"},
	"internal/avalanche/lab": {imports: "internal/avalanche internal/stress internal/sys ws"}, // servers broken on purpose

	// The article's claims on trial. gorilla/websocket is what the article's gateway was built on.
	"internal/lab": {imports: ". internal/fleet internal/report internal/sys ws", outside: "github.com/google/pprof github.com/gorilla/websocket"},

	"internal/trace":           {imports: "internal/sys", outside: "github.com/cilium/ebpf"},
	"internal/trace/tracetest": {imports: "internal/sys internal/waittest"}, // a cable that loses packets, for tests

	"internal/report":            {},
	"internal/report/reporttest": {imports: "internal/browsertest"}, // opens reports, for tests
	"internal/browsertest":       {},                                // a browser, for tests

	"internal/limits": {imports: "internal/sys"},

	"internal/doctor": {imports: "internal/limits internal/loop internal/report internal/sys", outside: "github.com/google/pprof golang.org/x/exp"},

	// The command.
	"internal/spelling": {},
	"internal/config":   {imports: "internal/channel internal/spelling", outside: "go.yaml.in/yaml/v3"},
	"internal/api":      {imports: ". engine internal/session internal/wire/centrifuge internal/wire/json"},
	"internal/admin":    {imports: ". internal/api internal/sys internal/wire/centrifuge ws"},
	"internal/console":  {},
	"internal/demo":     {},
	"internal/hook":     {imports: "internal/journal internal/session internal/wire/centrifuge"},
	"internal/otlp":     {outside: "google.golang.org/protobuf"},
	"internal/profile":  {imports: "internal/sys", outside: "github.com/google/pprof"},
	"internal/metrics":  {imports: ". engine/memengine internal/hook internal/otlp internal/sampling internal/stress internal/sys", outside: "github.com/prometheus/client_golang"},
	"internal/cli":      {imports: ". engine/memengine internal/admin internal/api internal/avalanche/lab internal/config internal/console internal/demo internal/doctor internal/hook internal/journal internal/lab internal/metrics internal/otlp internal/profile internal/report internal/sampling internal/stress internal/sys internal/trace", outside: "github.com/alecthomas/kong", process: true},
	"cmd/longwire":      {imports: "internal/cli", process: true},

	// What tests of several packages share.
	"internal/leaktest":      {imports: "internal/sys", process: true},                                    // ends the process of tests that leave something behind
	"internal/waittest":      {},                                                                          // waits for what has no signal
	"internal/wstest":        {imports: "ws"},                                                             // WebSocket clients, and servers that do what a test says
	"internal/otlp/otlptest": {outside: "go.opentelemetry.io/proto/slim/otlp google.golang.org/protobuf"}, // a collector

	// What generates the dashboards.
	"deploy/dashboards": {process: true},

	// Examples are users of the library.
	"examples/hello": {imports: ". ws", process: true},
	"examples/chat":  {imports: ". ws", process: true},
	"examples/mount": {imports: ".", process: true},

	// Measuring programs. The floor shares no code with what it is measured against, its door to the kernel included.
	"bench/floor":   {outside: "golang.org/x/sys", process: true},
	"bench/target":  {},
	"bench/stress":  {imports: "bench/target", process: true},
	"bench/run":     {imports: "bench/target internal/fleet ws", process: true},
	"bench/push":    {imports: "bench/target internal/fleet internal/sys ws", process: true},
	"bench/trace":   {imports: "internal/trace", outside: "github.com/cilium/ebpf", process: true},
	"bench/logs":    {process: true},
	"bench/million": {imports: "bench/target internal/fleet internal/sys ws", process: true},
}

// processNames are what only rows with process may use, by package.
var processNames = map[string][]string{
	"os":      {"Exit", "Args", "Getenv", "LookupEnv", "Environ", "ExpandEnv"},
	"syscall": {"Exit", "Getenv", "Environ"},
	"log":     {"Fatal", "Fatalf", "Fatalln"},
	"flag":    {"Parse", "CommandLine", "Args", "Arg", "Bool", "String", "Int", "Duration"},
}

// TestLayout holds every package to its row. It reads the files of all systems, not only of this one.
func TestLayout(t *testing.T) {
	packages := readPackages(t, ".")
	for _, dir := range slices.Sorted(maps.Keys(layout)) {
		if _, ok := packages[dir]; !ok {
			t.Errorf("layout has a row for %s, which is no package: take the row away", dir)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		r, ok := layout[dir]
		if !ok {
			t.Errorf("package %s has no row in layout (layout_test.go): add one that says what it may import, and to docs/ARCHITECTURE.md", dir)
			continue
		}
		for _, problem := range packages[dir].problems(dir, r) {
			t.Error(problem)
		}
	}
}

// TestLayoutFinds shows that the check can fail.
func TestLayoutFinds(t *testing.T) {
	src := `package x
import (
	"os"
	"golang.org/x/sys/unix"
	"github.com/longwire/longwire/ws"
	"github.com/longwire/longwire"
)
func f() { os.Exit(unix.Getpid()) }
`
	p := make(pack)
	if err := p.add("x.go", src); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		row  row
		want int
	}{
		{row{}, 4},
		{row{imports: "ws"}, 3},
		{row{imports: ". ws", outside: "golang.org/x/sys"}, 1},
		{row{imports: ". ws", outside: "golang.org/x/sys", process: true}, 0},
		{row{imports: ". ws", outside: "golang.org/x/sysx", process: true}, 1},
	} {
		if got := p.problems("x", c.row); len(got) != c.want {
			t.Errorf("problems with %+v: %q, want %d", c.row, got, c.want)
		}
	}
}

// pack is the uses of one package: what is used → where.
type pack map[string]string

// readPackages reads the packages of the module at root, those of modules inside it left out.
func readPackages(t *testing.T, root string) map[string]pack {
	t.Helper()
	packages := make(map[string]pack)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name == root {
				return nil
			}
			base := d.Name()
			if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || base == "node_modules" || base == "bin" || base == "tmp" {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		dir := path.Dir(filepath.ToSlash(name))
		if packages[dir] == nil {
			packages[dir] = make(pack)
		}
		return packages[dir].add(name, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) == 0 {
		t.Fatal("no package found")
	}
	return packages
}

// add reads one file's uses; src as in parser.ParseFile.
func (p pack) add(name string, src any) error {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, name, src, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	names := make(map[string]string) // of imports in this file → path
	for _, im := range f.Imports {
		of, err := strconv.Unquote(im.Path.Value)
		if err != nil {
			return err
		}
		p["import "+of] = set.Position(im.Pos()).String()
		if im.Name != nil {
			names[im.Name.Name] = of
		} else {
			names[path.Base(of)] = of
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && slices.Contains(processNames[names[x.Name]], s.Sel.Name) {
				p["process "+x.Name+"."+s.Sel.Name] = set.Position(s.Pos()).String()
			}
		}
		return true
	})
	return nil
}

// problems are the uses that the row does not allow.
func (p pack) problems(dir string, r row) []string {
	var list []string
	bad := func(use, format string, args ...any) {
		list = append(list, fmt.Sprintf("%s: package %s ", p[use], dir)+fmt.Sprintf(format, args...))
	}
	for _, use := range slices.Sorted(maps.Keys(p)) {
		kind, what, _ := strings.Cut(use, " ")
		if kind == "process" {
			if !r.process {
				bad(use, "uses %s, which belongs to internal/cli and cmd", what)
			}
			continue
		}
		ours, isOurs := strings.CutPrefix(what+"/", module+"/")
		first, _, _ := strings.Cut(what, "/")
		switch {
		case isOurs:
			ours = path.Clean(ours)
			if !slices.Contains(strings.Fields(r.imports), ours) {
				bad(use, "may not import %s of ours", ours)
			}
		case strings.Contains(first, "."):
			allowed := slices.ContainsFunc(strings.Fields(r.outside), func(m string) bool { return what == m || strings.HasPrefix(what, m+"/") })
			if !allowed {
				bad(use, "may not import %s", what)
			}
		}
	}
	return list
}
