// Package sys is the only door to the kernel: readiness, sockets, descriptor tables, descriptor
// passing, memory mappings and limits. It is the only importer of golang.org/x/sys/unix.
//
// Two implementations stand behind the same methods: Epoll (Linux) and Pump (everywhere: a goroutine
// per connection over package net). Nothing here knows what the bytes mean.
package sys
