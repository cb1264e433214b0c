// Package demo is the page to try a gateway with: it connects, subscribes and publishes in a browser with the official
// JavaScript SDK, and shows the frames that travel. All of it is in the binary, and the page loads nothing from elsewhere.
package demo

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:generate ../../scripts/sdk

// page holds our own index.html, page.css, page.js and icon.svg; centrifuge.js and its licence are copies that
// scripts/sdk makes of the npm package centrifuge.
//
//go:embed page
var page embed.FS

// Prefix is where Handler has to stand.
const Prefix = "/demo/"

// Handler serves the page at Prefix, and below it what the page loads. It expects a Centrifuge endpoint at
// /connection/websocket of the same host. Any number of requests may be served at once.
func Handler() http.Handler {
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // the embedded tree is wrong, not the input
	}
	serve := http.StripPrefix(Prefix, http.FileServerFS(files))
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Prefix, func(w http.ResponseWriter, r *http.Request) {
		switch name := r.URL.Path[len(Prefix):]; {
		case name == "":
			harden(w)
			http.ServeFileFS(w, r, files, "index.html")
		case !fs.ValidPath(name) || name == "." || name == "index.html":
			http.NotFound(w, r) // there are no lists of files, and the page has one address
		default:
			harden(w)
			serve.ServeHTTP(w, r)
		}
	})
	return mux
}

// policy lets the page load from its own host, connect to it, and do nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func harden(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache") // another binary may have another page
}
