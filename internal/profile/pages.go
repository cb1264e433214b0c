package profile

import (
	"archive/tar"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"net/http/pprof"
	"runtime"
	profiles "runtime/pprof"
	"slices"
	"strings"
	"time"
)

// Prefix is where the pages are served.
const Prefix = "/debug/pprof/"

// Pages serves the profiles of this process and the captures of w, nil for none, below Prefix. They tell much about a process, and a
// profile costs it time: who may ask is the caller's to see to.
func Pages(w *Watch) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(Prefix+"{$}", index)
	mux.HandleFunc(Prefix, pprof.Index) // by name
	mux.HandleFunc(Prefix+"heap", heap)
	mux.HandleFunc(Prefix+"cmdline", pprof.Cmdline)
	mux.HandleFunc(Prefix+"profile", pprof.Profile)
	mux.HandleFunc(Prefix+"symbol", pprof.Symbol)
	mux.HandleFunc(Prefix+"trace", pprof.Trace)
	c := captures{w}
	mux.HandleFunc("GET "+Prefix+"captures/{$}", c.list)
	mux.HandleFunc("GET "+Prefix+"captures/{capture}", c.whole)
	mux.HandleFunc("GET "+Prefix+"captures/{capture}/{file}", c.file)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		mux.ServeHTTP(w, r)
	})
}

// heap is net/http/pprof's, but that a difference (seconds) may have collections too (gc).
func heap(w http.ResponseWriter, r *http.Request) {
	if gc := r.FormValue("gc"); gc != "" && gc != "0" && r.FormValue("seconds") != "" {
		serveHeapDelta(w, r)
		return
	}
	pprof.Handler("heap").ServeHTTP(w, r)
}

//go:embed pages.html
var pagesHTML string

var pages = template.Must(template.New("").Parse(pagesHTML))

// render writes a page. What cannot be written has no reader any more.
func render(w http.ResponseWriter, name string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = pages.ExecuteTemplate(w, name, data)
}

// entry is a profile on the index.
type entry struct {
	Name, Link, Help string
	Count            int // -1: it has none
}

// helps say what profiles are. One that is not here is listed without a word.
var helps = map[string]string{
	"allocs":        "All allocations since the start, sampled. ?seconds=N: those of the next N seconds.",
	"block":         "Where goroutines waited for each other; empty unless the program asks for it.",
	"goroutine":     "All goroutines, with their labels. ?debug=2 is text, as a crash prints it.",
	"goroutineleak": "Goroutines that can never go on. It takes a collection.",
	"heap":          "Memory in use, sampled, as of the last collection. ?gc=1 collects first. ?seconds=N&gc=1: what the next N seconds add and free.",
	"mutex":         "Where goroutines held what others waited for; empty unless the program asks for it.",
	"threadcreate":  "What made threads.",
}

// index lists the profiles that this process has: goroutineleak only where it was built with it.
func index(w http.ResponseWriter, _ *http.Request) {
	var list []entry
	for _, p := range profiles.Profiles() {
		list = append(list, entry{p.Name(), p.Name() + "?debug=1", helps[p.Name()], p.Count()})
	}
	list = append(list,
		entry{"profile", "profile?seconds=5", "Where processor time goes, by subsystem: go tool pprof -tagroot subsystem. ?seconds=N, 30 by default.", -1},
		entry{"trace", "trace?seconds=1", "All that the scheduler and the collector do, for go tool trace. ?seconds=N, 1 by default.", -1},
		entry{"cmdline", "cmdline", "How the process was started.", -1},
	)
	slices.SortFunc(list, func(a, b entry) int { return cmp.Compare(a.Name, b.Name) })
	render(w, "index", struct {
		Profiles []entry
		Go       string
	}{list, runtime.Version()})
}

// captures are the pages of a Watch.
type captures struct{ watch *Watch }

// list is the captures, as a page or as JSON.
func (c captures) list(w http.ResponseWriter, r *http.Request) {
	all := []Capture{}
	if c.watch != nil {
		var err error
		if all, err = c.watch.Captures(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		render(w, "captures", struct {
			On       bool
			Captures []Capture
		}{c.watch != nil, all})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(struct {
		On       bool      `json:"on"`
		Captures []Capture `json:"captures"`
	}{c.watch != nil, all})
}

// missing answers for a capture or file that is not there, or not any more.
func missing(w http.ResponseWriter, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		http.Error(w, "there is no such capture: the oldest go when there are too many", http.StatusNotFound)
		return
	}
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

// file is one file of a capture.
func (c captures) file(w http.ResponseWriter, r *http.Request) {
	if c.watch == nil {
		missing(w, fs.ErrNotExist)
		return
	}
	name := r.PathValue("file")
	f, err := c.watch.store.open(r.PathValue("capture"), name)
	if err != nil {
		missing(w, err)
		return
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		missing(w, err)
		return
	}
	if strings.HasSuffix(name, ".json") {
		w.Header().Set("Content-Type", "application/json")
	} else {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Disposition", `attachment; filename="`+r.PathValue("capture")+"-"+name+`"`)
	}
	http.ServeContent(w, r, "", info.ModTime(), f)
}

// whole is all files of a capture, as NAME.tar.
func (c captures) whole(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutSuffix(r.PathValue("capture"), ".tar")
	if c.watch == nil || !ok || !captureName.MatchString(name) {
		missing(w, fs.ErrNotExist)
		return
	}
	files, err := c.watch.store.files(name)
	if err != nil {
		missing(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`.tar"`)
	t := tar.NewWriter(w)
	for _, f := range files {
		if c.pack(t, name, f.Name) != nil {
			return // it was removed, or the client is gone: the archive has no end, which tar says
		}
	}
	_ = t.Close()
}

func (c captures) pack(t *tar.Writer, capture, name string) error {
	f, err := c.watch.store.open(capture, name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h := tar.Header{Name: capture + "/" + name, Mode: 0o600, Size: info.Size(), ModTime: info.ModTime().Truncate(time.Second)}
	if err := t.WriteHeader(&h); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}
