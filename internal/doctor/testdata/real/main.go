// Command real is small services that use public libraries, at the versions that had a leak: each name is that of the library. A request
// to /work?n=100 has the chosen one handle 100 of its own.
package main

import (
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strconv"
	"time"

	"github.com/allegro/bigcache"
	"github.com/rcrowley/go-metrics"
)

// report builds a page with a cache of its own: allegro/bigcache issue 82. Each cache leaves a goroutine and with it itself behind,
// and before version 1.2.0 there was no way to end it.
func report(i int) error {
	if i%20 != 0 {
		return nil
	}
	cache, err := bigcache.NewBigCache(bigcache.Config{Shards: 16, LifeWindow: time.Minute, CleanWindow: time.Second, MaxEntriesInWindow: 1000, MaxEntrySize: 64, HardMaxCacheSize: 1})
	if err != nil {
		return err
	}
	return cache.Set("page", []byte("hello"))
}

// session meters what one client does: rcrowley/go-metrics issue 201. Each meter stays in a list of the library for good, and before pull
// request 197 there was no way to take it out.
func session(i int) error {
	r := metrics.NewRegistry()
	m := metrics.NewMeter()
	if err := r.Register("bytes", m); err != nil {
		return err
	}
	m.Mark(int64(i))
	r.UnregisterAll()
	return nil
}

func main() {
	services := map[string]func(int) error{"bigcache": report, "go-metrics": session}
	if len(os.Args) != 2 || services[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: real LIBRARY")
		os.Exit(2)
	}
	handle := services[os.Args[1]]
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	next := 0
	http.HandleFunc("/work", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("n"))
		for range n {
			if err := handle(next); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			next++
		}
	})
	fmt.Println(ln.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(ln, nil))
	os.Exit(1)
}
