package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/longwire/longwire/internal/trace"
)

// memory says what the kernel keeps for a connection that is traced and tagged, beyond one that is not: by the counts of its own
// caches, which other work on the machine blurs a little.
func memory() error {
	tracer, err := trace.Open(trace.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = tracer.Close() }()
	if tracer.Level() != trace.LevelBPF {
		return fmt.Errorf("no probes: %v", tracer.Refused())
	}
	const conns = 4000
	without, err := holding(nil, conns)
	if err != nil {
		return err
	}
	with, err := holding(tracer, conns)
	if err != nil {
		return err
	}
	total := 0.0
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(with)) {
		each := float64(with[name]-without[name]) / conns
		size, err := strconv.Atoi(name[strings.LastIndexByte(name, '-')+1:])
		if err != nil || each < 0.5 { // a cache of another kind of name, or other work
			continue
		}
		total += float64(size) * each
		parts = append(parts, fmt.Sprintf("%.2f of %d bytes", each, size))
	}
	fmt.Printf("memory: %.0f bytes of the kernel for a traced connection: %s\n", total, strings.Join(parts, ", "))
	return nil
}

// holding is how many objects each of the kernel's caches has more with some connections than before.
func holding(tracer *trace.Tracer, conns int) (_ map[string]int, err error) {
	fds := make([]int, 0, 2*conns+1)
	defer func() {
		for _, fd := range fds {
			err = errors.Join(err, syscall.Close(fd))
		}
	}()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	fds = append(fds, fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 16)); err != nil {
		return nil, err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return nil, err
	}
	if tracer != nil {
		if err := tracer.TrackListener(fd); err != nil {
			return nil, err
		}
	}
	before, err := caches()
	if err != nil {
		return nil, err
	}
	for i := range conns {
		client, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		fds = append(fds, client)
		if err := syscall.Connect(client, name); err != nil {
			return nil, err
		}
		server, _, err := syscall.Accept4(fd, syscall.SOCK_CLOEXEC)
		if err != nil {
			return nil, err
		}
		fds = append(fds, server)
		if tracer != nil {
			var id [16]byte
			binary.LittleEndian.PutUint64(id[:], uint64(i)+1)
			if err := tracer.Tag(server, id); err != nil {
				return nil, err
			}
		}
	}
	after, err := caches()
	for name := range after {
		after[name] -= before[name]
	}
	return after, err
}

// caches is how many objects are in use of the kernel's caches of general purpose, /proc/slabinfo.
func caches() (map[string]int, error) {
	b, err := os.ReadFile("/proc/slabinfo")
	if err != nil {
		return nil, err
	}
	used := make(map[string]int)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[0], "kmalloc-") {
			continue
		}
		if used[f[0]], err = strconv.Atoi(f[1]); err != nil {
			return nil, fmt.Errorf("/proc/slabinfo: %w", err)
		}
	}
	return used, nil
}
