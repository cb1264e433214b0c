// Package console is the page on which an operator sees a gateway: built of console/ by make console, and embedded. It loads
// nothing from elsewhere, and asks the API of package admin.
package console

import (
	"embed"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

// dist holds index.html, and below assets files with a hash of their content in the name.
//
//go:embed dist
var dist embed.FS

// policy lets the page load from its own host, connect to it, and do nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Assets is where what the page loads stands.
const Assets = "/assets/"

// Handler serves the page at /, and what it loads below Assets. Any number of requests may be served at once.
func Handler() http.Handler {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the embedded tree is wrong, not the input
	}
	return handler(files)
}

func handler(files fs.FS) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		harden(w)
		w.Header().Set("Cache-Control", "no-cache") // another binary may have another page
		serve(w, r, files, "index.html")
	})
	mux.HandleFunc("GET "+Assets, func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if i, err := fs.Stat(files, name); err != nil || !i.Mode().IsRegular() {
			http.NotFound(w, r) // there are no lists of files
			return
		}
		harden(w)
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable") // its name has a hash
		serve(w, r, files, name)
	})
	return mux
}

// types are those of what a page is made of, whatever the machine's own list says.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
	".svg": "image/svg+xml", ".json": "application/json", ".png": "image/png", ".woff2": "font/woff2", ".txt": "text/plain; charset=utf-8",
}

// serve answers with a file: with the one that was compressed when the page was built, NAME.gz, where there is one and the
// client takes it.
func serve(w http.ResponseWriter, r *http.Request, files fs.FS, name string) {
	if t, ok := types[path.Ext(name)]; ok {
		w.Header().Set("Content-Type", t)
	}
	if _, err := fs.Stat(files, name+".gz"); err == nil {
		w.Header().Add("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			name += ".gz"
		}
	}
	http.ServeFileFS(w, r, files, name)
}

func harden(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
}
