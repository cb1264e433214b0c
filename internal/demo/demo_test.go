package demo

import (
	"bytes"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

func TestHandler(t *testing.T) {
	for _, c := range []struct{ path, kind, has string }{
		{"/demo/", "text/html", "<title>Longwire"},
		{"/demo/page.js", "text/javascript", "new Centrifuge("},
		{"/demo/page.css", "text/css", "prefers-color-scheme: dark"},
		{"/demo/icon.svg", "image/svg+xml", "<svg"},
		{"/demo/centrifuge.js", "text/javascript", "globalThis.Centrifuge"},
		{"/demo/centrifuge-LICENSE.txt", "text/plain", "MIT License"},
	} {
		w := get(t, c.path)
		if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), c.kind) || !strings.Contains(w.Body.String(), c.has) {
			t.Errorf("GET %s: %d, %s, %d bytes; want 200, %s, with %q", c.path, w.Code, w.Header().Get("Content-Type"), w.Body.Len(), c.kind, c.has)
		}
		if h := w.Header(); !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none';") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("GET %s: header %v: want a policy that allows little, and nosniff", c.path, h)
		}
	}
	for _, path := range []string{"/", "/demo/index.html", "/demo/nothing", "/demo/centrifuge.js/"} {
		if w := get(t, path); w.Code != 404 {
			t.Errorf("GET %s: %d, want 404", path, w.Code)
		}
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, httptest.NewRequest("POST", "/demo/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /demo/: %d, want 405", w.Code)
	}
}

// What the page loads is there, and from here: the policy would forbid anything else, silently for who reads the code.
func TestPageIsWhole(t *testing.T) {
	html := get(t, Prefix).Body.String()
	links := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(html, -1)
	if len(links) < 5 {
		t.Fatalf("the page has %d links, want those of its parts", len(links))
	}
	for _, l := range links {
		if !strings.HasPrefix(l[1], Prefix) || get(t, l[1]).Code != 200 {
			t.Errorf("the page links to %q, which is not served here", l[1])
		}
	}
	if m := regexp.MustCompile(`(?i)<[^>]+\s(?:style|on[a-z]+)=|<style|<script[^>]*>[^<]`).FindString(html); m != "" {
		t.Errorf("the page has %q, which its policy forbids", m)
	}
}

// The SDK is the one that interop/js/package.json pins.
func TestSDKIsThePackages(t *testing.T) {
	for name, of := range map[string]string{"centrifuge.js": "dist/centrifuge.js", "centrifuge-LICENSE.txt": "LICENSE"} {
		want, err := os.ReadFile("../../interop/js/node_modules/centrifuge/" + of)
		if os.IsNotExist(err) {
			t.Skip("interop/js/node_modules is not there: make setup")
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := fs.ReadFile(page, "page/"+name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not the package's %s: scripts/sdk", name, of)
		}
	}
}
