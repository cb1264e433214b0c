// Command cost is a service that keeps one CPU half busy, with some memory alive, for measuring what it costs to be looked at.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

type order struct {
	ID    int
	Names []string
	Sums  map[string]int
}

func newOrder(i int) *order {
	o := &order{ID: i, Sums: map[string]int{}}
	for k := range 8 {
		name := fmt.Sprint("article ", i, " ", k)
		o.Names = append(o.Names, name)
		o.Sums[name] = k
	}
	return o
}

var (
	units atomic.Int64 // orders that were handled
	kept  [20_000]*order
)

// handle is one unit of work.
func handle(i int) {
	b, _ := json.Marshal(newOrder(i))
	o := new(order)
	if json.Unmarshal(b, o) == nil {
		kept[i%len(kept)] = o
	}
	units.Add(1)
}

// cpu is the time that the process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func main() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for i := range kept {
		handle(i)
	}
	for range 1000 {
		go func() { select {} }() // connections that wait
	}
	http.HandleFunc("/units", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, units.Load()) })
	go func() {
		begin, before := time.Now(), cpu()
		next := 0
		for range time.NewTicker(5 * time.Millisecond).C {
			// What others' use of the CPUs delayed is made up for, within bounds.
			for n := 0; cpu()-before < time.Since(begin)/2 && n < 200; n++ {
				for range 10 {
					handle(next)
					next++
				}
			}
		}
	}()
	fmt.Println(ln.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(ln, nil))
	os.Exit(1)
}
