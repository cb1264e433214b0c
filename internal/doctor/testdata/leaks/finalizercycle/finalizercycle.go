// Package finalizercycle has files that close themselves.
package finalizercycle

import "runtime"

type file struct {
	name  string
	dir   *directory
	cache [512]byte
}

type directory struct {
	open *file
}

func (f *file) close() { f.name = "" }

func open(name string) *file {
	d := &directory{}
	f := &file{name: name, dir: d}
	d.open = f
	runtime.SetFinalizer(f, (*file).close) // LEAK: in a cycle it never runs
	return f
}

// Handle answers one request.
func Handle(id int) {
	f := open("data")
	f.cache[0] = byte(id)
}
