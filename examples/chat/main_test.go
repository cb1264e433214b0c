package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// start serves on addr, or on a port of the system's choosing if that is empty, and returns its address. stop waits until
// it has ended; the test's end stops it too.
func start(t *testing.T, addr string) (site string, stop func()) {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(30 * time.Second):
			t.Error("serve does not end")
		}
	})
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// What the page loads is there, and from here: its policy would forbid anything else, silently for who reads the code.
func TestPageIsWhole(t *testing.T) {
	addr, _ := start(t, "")
	site := "http://" + addr + "/"
	resp, html := get(t, site)
	if h := resp.Header; !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none';") || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("GET /: header %v: want a policy that allows little, and nosniff", h)
	}
	links := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(html, -1)
	if len(links) < 5 {
		t.Fatalf("the page has %d links, want those of its parts", len(links))
	}
	for _, l := range links {
		if resp, _ := get(t, site+l[1]); resp.StatusCode != http.StatusOK {
			t.Errorf("the page links to %s: %s", l[1], resp.Status)
		}
	}
	if m := regexp.MustCompile(`(?i)<[^>]+\s(?:style|on[a-z]+)=|<style|<script[^>]*>[^<]`).FindString(html); m != "" {
		t.Errorf("the page has %q, which its policy forbids", m)
	}
	if _, script := get(t, site+"lib.js"); !strings.HasSuffix(strings.TrimSpace(script), "as LongwireSocket};") {
		t.Error("lib.js exports no LongwireSocket")
	}
}

// TestLibIsMadeHere checks that lib.js is what clients/js and its lock file make.
func TestLibIsMadeHere(t *testing.T) {
	script := filepath.Join("..", "..", "scripts", "chat-js")
	if _, err := os.Stat("../../clients/js/node_modules/.bin/esbuild"); err != nil {
		t.Skip("clients/js/node_modules is not there: npm ci in clients/js")
	}
	if out, err := exec.Command("bash", script, "--check").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
