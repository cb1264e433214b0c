// Command proof leaks a few goroutines and never more, so that no figure grows: only the runtime can prove that they are stuck, where it
// was built to (GOEXPERIMENT=goroutineleakprofile). It has workers beside them that wait as long, and are in order.
package main

import (
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
)

// jobs are what the workers wait for, who can have some at any time.
var jobs = make(chan func())

func work() {
	for job := range jobs {
		job()
	}
}

// price is what a shop wants.
//
//go:noinline
func price(shop int) int { return 100 + shop }

// ask asks two shops, and takes the first answer.
func ask() int {
	answers := make(chan int)
	for shop := range 2 {
		go func() {
			answers <- price(shop) // LEAK: of the second, which nobody has the channel of any more
		}()
	}
	return <-answers
}

// load asks three times, for what all requests need.
func load() {
	for range 3 {
		ask()
	}
}

func main() {
	for range 5 {
		go work()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	load()
	http.HandleFunc("/work", func(http.ResponseWriter, *http.Request) {})
	fmt.Println(ln.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(ln, nil))
}
