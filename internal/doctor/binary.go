package doctor

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"debug/gosym"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// Binary is the file of a Go program: what it was built of, and where its functions are. It does not change once it is read.
type Binary struct {
	name     string
	info     *buildinfo.BuildInfo
	lines    *gosym.Table // nil where there is none
	noLines  string       // why
	id       string       // of the build, as the linker wrote it and profiles have it; "" where it did not
	segments []elf.ProgHeader
	moves    bool // it is loaded at another address each time
}

// ReadBinary reads a program's file. Its functions are read of ELF, the format of Linux.
func ReadBinary(name string, r io.ReaderAt) (*Binary, error) {
	info, err := buildinfo.Read(r)
	if err != nil {
		return nil, &Error{fmt.Errorf("%s is not a Go program: %w", name, err), "give the file of the program itself, not of a script that starts it; Go's own tool shows the same: go version -m FILE"}
	}
	b := &Binary{name: name, info: info}
	if err := b.readLines(r); err != nil {
		b.noLines = err.Error()
	}
	return b, nil
}

// readLines reads the table that the runtime itself has of functions and lines, which stays when symbols are stripped.
func (b *Binary) readLines(r io.ReaderAt) error {
	f, err := elf.NewFile(r)
	if err != nil {
		return errors.New("its format is not that of Linux")
	}
	if n := f.Section(".note.gnu.build-id"); n != nil {
		if d, err := n.Data(); err == nil && len(d) > 16 {
			b.id = hex.EncodeToString(d[16:]) // after its sizes, its kind and GNU
		}
	}
	text := f.Section(".text")
	table := f.Section(".gopclntab")
	if table == nil {
		table = f.Section(".data.rel.ro.gopclntab")
	}
	if text == nil || table == nil {
		return errors.New("it has no table of functions")
	}
	// Functions are counted from where Go's text begins. A linker for C puts its own before it, and only a symbol tells how much.
	begin := text.Addr
	if symbols, err := f.Symbols(); err == nil {
		for _, s := range symbols {
			if s.Name == "runtime.text" {
				begin = s.Value
			}
		}
	} else if f.Section(".init") != nil {
		return errors.New("a linker for C has made it, and its symbols are stripped")
	}
	data, err := table.Data()
	if err != nil {
		return fmt.Errorf("its table of functions cannot be read: %w", err)
	}
	if b.lines, err = gosym.NewTable(nil, gosym.NewLineTable(data, begin)); err != nil {
		return fmt.Errorf("its table of functions cannot be read: %w", err)
	}
	b.moves = f.Type == elf.ET_DYN
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			b.segments = append(b.segments, p.ProgHeader)
		}
	}
	return nil
}

// build is what checks want to know of it.
func (b *Binary) build() Build { return Build{Module: b.info.Main.Path, Go: b.info.GoVersion} }

// setting is a build setting, "" where it has none.
func (b *Binary) setting(key string) string {
	for _, s := range b.info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// steps are what it was built of. root is where its source may lie.
func (b *Binary) steps(root fs.FS) (list []Step) {
	add := func(name, value string) {
		if value != "" {
			list = append(list, Step{Name: name, Value: value})
		}
	}
	add("program", b.info.Path)
	add("go", b.info.GoVersion)
	add("module", strings.TrimSpace(b.info.Main.Path+" "+b.info.Main.Version))
	if v := b.setting("vcs.revision"); v != "" {
		v = b.setting("vcs") + " " + v
		if t := b.setting("vcs.time"); t != "" {
			v += " of " + t
		}
		if b.setting("vcs.modified") == "true" {
			v += ", with changes that were not committed"
		}
		add("revision", v)
	}
	var built []string
	for _, key := range []string{"GOOS", "GOARCH", "CGO_ENABLED", "GOEXPERIMENT", "-buildmode", "-race", "-tags", "-trimpath"} {
		if v := b.setting(key); v != "" {
			built = append(built, key+"="+v)
		}
	}
	add("built with", strings.Join(built, " "))
	add("source", b.source(root))
	switch {
	case b.lines == nil:
		add("functions", "not known: "+b.noLines)
	case b.lines.LookupFunc("net/http/pprof.Index") == nil:
		add("profiles", "it has no net/http/pprof")
	default:
		add("profiles", "it has net/http/pprof")
	}
	return list
}

// source says where the source of the main package lay when it was built, and whether it is there.
func (b *Binary) source(root fs.FS) string {
	if b.lines == nil {
		return ""
	}
	f := b.lines.LookupFunc("main.main")
	if f == nil {
		return ""
	}
	file, _, _ := b.lines.PCToLine(f.Entry)
	dir := path.Dir(slashes(file))
	if !strings.HasPrefix(dir, "/") && !hasDrive(dir) {
		return dir + ", by its name alone (-trimpath): --source DIR says where it is"
	}
	if _, err := fs.Stat(root, rooted(slashes(file))); err != nil {
		return dir + ", which is not there: --source DIR says where it is now"
	}
	return dir
}

var errOtherBuild = errors.New("another build of the program has made it")

// nameAddresses gives the addresses of a profile that has no names their functions and lines. It says how many it could not name. Of a call that was
// inlined the line is its own and the function the one that took it in.
func (b *Binary) nameAddresses(p *profile.Profile) (left int, err error) {
	if b.lines == nil {
		return 0, fmt.Errorf("the functions of %s are not known: %s", b.name, b.noLines)
	}
	if len(p.Mapping) > 0 && b.id != "" && p.Mapping[0].BuildID != "" && p.Mapping[0].BuildID != b.id {
		return 0, fmt.Errorf("%w: it is of the build %s, and %s is %s", errOtherBuild, p.Mapping[0].BuildID, b.name, b.id)
	}
	byName := map[string]*profile.Function{}
	id := uint64(0)
	for _, f := range p.Function {
		id = max(id, f.ID)
	}
	for _, l := range p.Location {
		if len(l.Line) > 0 {
			continue
		}
		file, line, fn := b.lines.PCToLine(b.address(l))
		if fn == nil {
			left++
			continue
		}
		name := fn.Name
		if i, j := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']'); i >= 0 && i < j {
			name = name[:i] + "[...]" + name[j+1:] // as the runtime writes what is generic
		}
		key := name + " " + file
		f := byName[key]
		if f == nil {
			id++
			f = &profile.Function{ID: id, Name: name, SystemName: fn.Name, Filename: file}
			byName[key] = f
			p.Function = append(p.Function, f)
		}
		l.Line = []profile.Line{{Function: f, Line: int64(line)}}
	}
	return left, nil
}

// address is that of a location in the program's file.
func (b *Binary) address(l *profile.Location) uint64 {
	if !b.moves || l.Mapping == nil {
		return l.Address
	}
	at := l.Address - l.Mapping.Start + l.Mapping.Offset
	for _, s := range b.segments {
		if at >= s.Off && at-s.Off < s.Filesz {
			return at - s.Off + s.Vaddr
		}
	}
	return l.Address
}

// named is a saved profile with its names: those of the program's file, where it has none of its own.
func (c *Collector) named(e *Evidence, f File) ([]byte, error) {
	if len(f.Data) < 2 || f.Data[0] != 0x1f || f.Data[1] != 0x8b {
		return f.Data, nil
	}
	p, err := parseProfile(f.Data)
	if err != nil || len(p.Location) == 0 || slices.ContainsFunc(p.Location, func(l *profile.Location) bool { return len(l.Line) > 0 }) {
		return f.Data, nil // what is wrong with one is said where it is read
	}
	if c.Binary == nil {
		e.note(f.Name + " has addresses and no names: give the program's file with --binary")
		return f.Data, nil
	}
	left, err := c.Binary.nameAddresses(p)
	if err == nil && left == len(p.Location) {
		err = fmt.Errorf("%w: %s has none of its addresses", errOtherBuild, c.Binary.name)
	}
	if errors.Is(err, errOtherBuild) {
		return nil, &Error{fmt.Errorf("%s has addresses and no names: %w", f.Name, err), "give the file of the very build that the profile was taken of; of one that runs, /proc/PID/exe"}
	}
	if err != nil {
		return nil, &Error{fmt.Errorf("%s has addresses and no names: %w", f.Name, err), "save the profile with curl …/debug/pprof/…, which has names, or build the program without -ldflags=-s"}
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return b.Bytes(), nil
}

// Inspect looks at nothing but the program's file, Binary.
func (c *Collector) Inspect() *Evidence {
	e := &Evidence{Target: c.Binary.name, Build: c.Binary.build(), Cost: "nothing: a file was read", Built: c.Binary.steps(c.Root)}
	if c.Binary.lines != nil && c.Binary.lines.LookupFunc("net/http/pprof.Index") == nil {
		e.note(`a process of it cannot be asked for profiles: import _ "net/http/pprof" and serve http.DefaultServeMux on an address of its own`)
	}
	e.note("a file tells what was built, not what leaks: give a pid, a URL or saved profiles beside it")
	return e
}
