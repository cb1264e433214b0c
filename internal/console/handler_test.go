package console

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

func TestHandler(t *testing.T) {
	h := handler(fstest.MapFS{
		"index.html":           {Data: []byte("<title>page</title>")},
		"assets/main-ab12.js":  {Data: []byte("long();")},
		"assets/main-ab12.css": {Data: []byte("p{}")}, "assets/main-ab12.css.gz": {Data: []byte("\x1f\x8bsmall")},
		"assets/sub/x.js": {Data: []byte("x")},
		"secret":          {Data: []byte("s")},
	})
	for _, c := range []struct {
		method, path, accept string
		status               int
		kind, cache, body    string
	}{
		{"GET", "/", "gzip", 200, "text/html; charset=utf-8", "no-cache", "<title>page</title>"},
		{"HEAD", "/", "", 200, "text/html; charset=utf-8", "no-cache", ""},
		{"GET", "/assets/main-ab12.js", "gzip", 200, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable", "long();"},
		{"GET", "/assets/main-ab12.css", "", 200, "text/css; charset=utf-8", "public, max-age=31536000, immutable", "p{}"},
		{"GET", "/assets/main-ab12.css", "br, gzip", 200, "text/css; charset=utf-8", "public, max-age=31536000, immutable", "\x1f\x8bsmall"},
		{"GET", "/assets/", "", 404, "", "", ""},
		{"GET", "/assets/sub", "", 404, "", "", ""},
		{"GET", "/assets/none.js", "", 404, "", "", ""},
		{"GET", "/assets/../secret", "", 404, "", "", ""},
		{"GET", "/secret", "", 404, "", "", ""},
		{"GET", "/index.html", "", 404, "", "", ""},
		{"POST", "/", "", 405, "", "", ""},
	} {
		r := httptest.NewRequest(c.method, "http://admin.example/", nil)
		r.URL.Path = c.path
		r.Header.Set("Accept-Encoding", c.accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status && !(c.status == 404 && w.Code/100 == 3) {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.status)
		}
		if c.status != 200 {
			continue
		}
		head := w.Header()
		if head.Get("Content-Type") != c.kind || head.Get("Cache-Control") != c.cache || w.Body.String() != c.body {
			t.Errorf("%s %s: %v %q", c.method, c.path, head, w.Body)
		}
		if got := head.Get("Content-Encoding"); (got == "gzip") != strings.HasPrefix(c.body, "\x1f\x8b") {
			t.Errorf("%s %s: Content-Encoding %q", c.method, c.path, got)
		}
		if !strings.HasPrefix(head.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'; style-src 'self';") ||
			head.Get("X-Content-Type-Options") != "nosniff" || head.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s %s: header %v: want a policy that allows little", c.method, c.path, head)
		}
	}
}

// What the page loads is there, and none of it is what its policy forbids.
func TestPageIsWhole(t *testing.T) {
	s := httptest.NewServer(Handler())
	defer s.Close()
	get := func(path string) (int, string) {
		resp, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	status, html := get("/")
	if status != 200 || !strings.Contains(html, "<title>Longwire") {
		t.Fatalf("the page: %d %s", status, html)
	}
	for _, l := range regexp.MustCompile(`(?:src|href)="(?:\./|/)?([^"#]*)"`).FindAllStringSubmatch(html, -1) {
		if l[1] == "" {
			continue
		}
		if status, _ := get("/" + l[1]); status != 200 {
			t.Errorf("the page links to %q: %d", l[1], status)
		}
	}
	if m := regexp.MustCompile(`(?i)<[^>]+\s(?:style|on[a-z]+)=|<style|<script[^>]*>[^<]`).FindString(html); m != "" {
		t.Errorf("the page has %q, which its policy forbids", m)
	}
}
