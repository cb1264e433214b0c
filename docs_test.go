package longwire_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/config"
	"github.com/longwire/longwire/internal/metrics"
)

// readmes say the same in two languages.
var readmes = []string{"README.md", "README.zh-CN.md"}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pages are the Markdown files of the repository.
func pages(t *testing.T) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "bin" || d.Name() == "tmp" || d.Name() == "testdata" || name != "." && strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case strings.HasSuffix(name, ".md"):
			list = append(list, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 8 {
		t.Fatalf("found only %v", list)
	}
	return list
}

var link = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)

// TestLinks checks that what pages link to inside the repository is there.
func TestLinks(t *testing.T) {
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(readFile(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
}

var makeTarget = regexp.MustCompile("(?m)(?:^|`)make ([a-z-]+)")

// TestMakeTargets checks that targets which pages name exist.
func TestMakeTargets(t *testing.T) {
	makefile := readFile(t, "Makefile")
	for _, page := range pages(t) {
		for _, m := range makeTarget.FindAllStringSubmatch(readFile(t, page), -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s names make %s, which is no target", page, m[1])
			}
		}
	}
}

// blocks are the code blocks of a page: language and text.
func blocks(text string) (list [][2]string) {
	for _, m := range regexp.MustCompile("(?s)```([a-z]*)\n(.*?)```").FindAllStringSubmatch(text, -1) {
		list = append(list, [2]string{m[1], m[2]})
	}
	return list
}

// TestReadmeCode checks that Go in a README is that of a program which compiles, and YAML a good configuration.
func TestReadmeCode(t *testing.T) {
	for _, page := range readmes {
		text := readFile(t, page)
		found := map[string]int{}
		for _, b := range blocks(text) {
			found[b[0]]++
			switch b[0] {
			case "go":
				at := strings.Index(text, "```go\n"+b[1])
				m := regexp.MustCompile(`<!-- (\S+\.go) -->\n$`).FindStringSubmatch(text[:at])
				if m == nil {
					t.Errorf("%s: a Go block without the name of its file in a comment above", page)
				} else if src := readFile(t, m[1]); src != b[1] {
					t.Errorf("%s: the Go block is not %s", page, m[1])
				}
			case "yaml":
				_, err := config.Load(config.Input{File: page, Read: func(string) ([]byte, error) { return []byte(b[1]), nil }})
				if err != nil {
					t.Errorf("%s: %v", page, err)
				}
			}
		}
		if found["go"] == 0 || found["yaml"] == 0 {
			t.Errorf("%s: %d Go and %d YAML blocks, want some", page, found["go"], found["yaml"])
		}
	}
}

// TestReadmeTables checks that causes and metrics are all in each README, and none that does not exist.
func TestReadmeTables(t *testing.T) {
	names := make(map[string]bool)
	ch := make(chan *prometheus.Desc, 100)
	metrics.New(func() longwire.Stats { return longwire.Stats{} }, metrics.Build{}).Describe(ch)
	close(ch)
	for d := range ch {
		if m := regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String()); m != nil {
			names[m[1]] = true
		}
	}
	if len(names) < 20 {
		t.Fatalf("%d metrics, want more", len(names))
	}
	for _, page := range readmes {
		text := readFile(t, page)
		for _, k := range longwire.CauseKinds() {
			if !strings.Contains(text, "\n| `"+k.String()+"` |") {
				t.Errorf("%s: cause %s has no row", page, k)
			}
		}
		seen := make(map[string]bool)
		for _, m := range regexp.MustCompile("`(longwire_[a-z_]+)").FindAllStringSubmatch(text, -1) {
			seen[m[1]] = true
			if !names[m[1]] {
				t.Errorf("%s: metric %s does not exist", page, m[1])
			}
		}
		for _, n := range slices.Sorted(maps.Keys(names)) {
			if !seen[n] {
				t.Errorf("%s: metric %s is not named", page, n)
			}
		}
	}
}

// TestReadmesInStep checks that both have the same sections, tables, blocks and links.
func TestReadmesInStep(t *testing.T) {
	shape := func(page string) (list []string) {
		text := readFile(t, page)
		inBlock := false
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			switch {
			case strings.HasPrefix(line, "```"):
				inBlock = !inBlock
				list = append(list, line)
			case inBlock:
				list = append(list, line)
			case strings.HasPrefix(line, "#"):
				list = append(list, line[:strings.LastIndex(line, "#")+1]+" heading")
			case strings.HasPrefix(line, "|"):
				list = append(list, fmt.Sprintf("row of %d cells", strings.Count(line, "|")-1))
			case strings.HasPrefix(line, "- "):
				list = append(list, "item")
			}
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(readmes, m[1]) {
				list = append(list, m[1])
			}
		}
		return list
	}
	a, b := shape(readmes[0]), shape(readmes[1])
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			t.Fatalf("the READMEs part ways: %s has %q, %s has %q", readmes[0], a[min(i, len(a)):min(i+2, len(a))], readmes[1], b[min(i, len(b)):min(i+2, len(b))])
		}
	}
}

// TestOwnershipPage checks that docs/OWNERSHIP.md has every struct of the packages that share state, and no other.
func TestOwnershipPage(t *testing.T) {
	sections := make(map[string]string)
	for _, s := range strings.Split(readFile(t, "docs/OWNERSHIP.md"), "\n## ")[1:] {
		title, body, _ := strings.Cut(s, "\n")
		sections[title] = body
	}
	for title, dir := range map[string]string{"Root": ".", "internal/loop": "internal/loop", "internal/sys": "internal/sys",
		"internal/hub": "internal/hub", "internal/session": "internal/session"} {
		structs := structsOf(t, dir)
		listed := make(map[string]bool)
		for _, m := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(sections[title], -1) {
			for _, n := range regexp.MustCompile("`([A-Za-z]+)`").FindAllStringSubmatch(m[1], -1) {
				listed[n[1]] = true
				if !structs[n[1]] {
					t.Errorf("docs/OWNERSHIP.md, %s: %s is no struct there", title, n[1])
				}
			}
		}
		for _, n := range slices.Sorted(maps.Keys(structs)) {
			if !listed[n] {
				t.Errorf("docs/OWNERSHIP.md, %s: struct %s is missing: who touches it?", title, n)
			}
		}
	}
}

// structsOf are the names of the structs that the package in dir declares, on all systems.
func structsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	structs := make(map[string]bool)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, s := range g.Specs {
				if ts := s.(*ast.TypeSpec); ts.Name != nil {
					if _, ok := ts.Type.(*ast.StructType); ok {
						structs[ts.Name.Name] = true
					}
				}
			}
		}
	}
	if len(structs) == 0 {
		t.Fatalf("no struct found in %s", dir)
	}
	return structs
}
