package doctor

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	rpprof "runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// ownBinary is this test's own program.
func ownBinary(t *testing.T) *Binary {
	t.Helper()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b, err := ReadBinary(filepath.Base(name), f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// parked waits in a function that a profile shows.
//
//go:noinline
func parked(end <-chan struct{}) { <-end }

// withoutNames is the goroutine profile of this process, with addresses only, and the line of each.
func withoutNames(t *testing.T) (data []byte, lines map[uint64]profile.Line) {
	t.Helper()
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		parked(end)
	}()
	defer func() {
		close(end)
		<-done
	}()
	var p *profile.Profile
	for late := time.Now().Add(30 * time.Second); lines == nil; {
		runtime.Gosched()
		var b bytes.Buffer
		if err := rpprof.Lookup("goroutine").WriteTo(&b, 0); err != nil {
			t.Fatal(err)
		}
		var err error
		if p, err = profile.Parse(&b); err != nil {
			t.Fatal(err)
		}
		for _, l := range p.Location {
			if n := len(l.Line); n > 0 && l.Line[n-1].Function.Name == "github.com/longwire/longwire/internal/doctor.parked" {
				lines = map[uint64]profile.Line{}
			}
		}
		if time.Now().After(late) {
			t.Fatal("no goroutine is parked")
		}
	}
	for _, l := range p.Location {
		lines[l.Address] = profile.Line{Function: l.Line[len(l.Line)-1].Function, Line: l.Line[0].Line}
		l.Line = nil
	}
	p.Function = nil
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), lines
}

// TestBinaryNames gives addresses their names back, as the runtime itself had them.
func TestBinaryNames(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("functions are read of Linux's format")
	}
	data, lines := withoutNames(t)
	b := ownBinary(t)
	if b.lines == nil {
		t.Skip("this test's program has no table of functions that can be read: ", b.noLines)
	}
	c := &Collector{Root: os.DirFS("/"), Binary: b}
	e, err := c.Files(t.Context(), []File{{Name: "goroutine.pb.gz", Data: data}})
	if err != nil {
		t.Fatal(err)
	}
	if e.Build.Go != runtime.Version() || !strings.HasPrefix(e.Build.Module, "github.com/longwire/longwire") || len(e.Counts) != 1 {
		t.Fatalf("%+v, %d profiles", e.Build, len(e.Counts))
	}
	p, err := profile.ParseData(data)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := b.nameAddresses(p); left > 0 || err != nil {
		t.Errorf("%d addresses without a name, %v", left, err)
	}
	found := false
	for _, l := range p.Location {
		got, want := l.Line[0], lines[l.Address]
		if got.Function.Name != want.Function.Name || got.Line != want.Line {
			t.Errorf("%#x is %s:%d, want %s:%d", l.Address, got.Function.Name, got.Line, want.Function.Name, want.Line)
		}
		found = found || strings.HasSuffix(got.Function.Name, ".parked") && strings.HasSuffix(got.Function.Filename, "binary_test.go")
	}
	if !found {
		t.Error("the goroutine that is parked is in no line")
	}

	// A program that is loaded at another address each time: its profile has them as they were that time.
	moved := *b
	moved.moves = true
	const by = 1 << 40
	for _, l := range p.Location {
		for _, s := range b.segments {
			if l.Address >= s.Vaddr && l.Address < s.Vaddr+s.Filesz {
				l.Mapping = &profile.Mapping{ID: 1, Start: s.Vaddr + by, Limit: s.Vaddr + by + s.Filesz, Offset: s.Off}
			}
		}
		l.Line, l.Address = nil, l.Address+by
	}
	if left, err := moved.nameAddresses(p); left > 0 || err != nil {
		t.Errorf("moved: %d addresses without a name, %v", left, err)
	}

	// Without the file they stay addresses, which is said; with another build's nothing is guessed.
	e, err = (&Collector{Root: os.DirFS("/")}).Files(t.Context(), []File{{Name: "goroutine.pb.gz", Data: data}})
	if err != nil || !strings.Contains(strings.Join(e.Notes, "\n"), "goroutine.pb.gz has addresses and no names: give the program's file with --binary") {
		t.Errorf("%v, notes %q", err, e.Notes)
	}
	refused := func(data []byte, b *Binary, want string) {
		t.Helper()
		_, err := (&Collector{Root: os.DirFS("/"), Binary: b}).Files(t.Context(), []File{{Name: "goroutine.pb.gz", Data: data}})
		var de *Error
		if !errors.As(err, &de) || de.Hint == "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q and what to do", err, want)
		}
	}
	refused(data, &Binary{name: "app", info: b.info, noLines: "its format is not that of Linux"}, "the functions of app are not known: its format is not that of Linux")
	p.Function = nil
	for _, l := range p.Location {
		l.Line, l.Mapping, l.Address = nil, nil, l.Address|1<<60
	}
	var elsewhere bytes.Buffer
	if err := p.Write(&elsewhere); err != nil {
		t.Fatal(err)
	}
	refused(elsewhere.Bytes(), b, b.name+" has none of its addresses")
	other := *b
	other.id = "0123"
	if p.Mapping[0].BuildID != "" {
		if p.Mapping[0].BuildID != b.id {
			t.Errorf("the build is %q, the profile says %q", b.id, p.Mapping[0].BuildID)
		}
		refused(data, &other, "another build of the program has made it")
	}
}

// TestBinaryAlone asks a program's file what it was built of.
func TestBinaryAlone(t *testing.T) {
	b := ownBinary(t)
	r := Examine((&Collector{Root: os.DirFS("/"), Binary: b}).Inspect())
	steps := map[string]string{}
	for _, s := range r.Steps {
		steps[s.Name] = s.Value
	}
	if steps["go"] != runtime.Version() || !strings.Contains(steps["built with"], "GOARCH="+runtime.GOARCH) || !strings.HasPrefix(steps["module"], "github.com/longwire/longwire") {
		t.Errorf("%q", steps)
	}
	if runtime.GOOS == "linux" && b.lines != nil && steps["profiles"] != "it has net/http/pprof" {
		t.Errorf("%q", steps)
	}
	if r.Found() || len(r.Checks) > 0 || len(r.Notes) == 0 {
		t.Errorf("%+v, want no check asked", r)
	}
	if _, err := ReadBinary("x.sh", bytes.NewReader([]byte("#!/bin/sh\nexec app\n"))); err == nil || !strings.Contains(err.Error(), "x.sh is not a Go program") {
		t.Errorf("a script: %v", err)
	}
}
