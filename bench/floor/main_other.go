//go:build !linux

// Floor is an echo server on epoll, which only Linux has.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "floor: needs Linux: it is built on epoll and on private descriptor tables")
	os.Exit(1)
}
