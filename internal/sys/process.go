package sys

import (
	"bytes"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// Process is what the system knows of a process. What is not known is 0.
type Process struct {
	// Descriptors is how many the fullest of its descriptor tables holds (threads may have their own); -1 where the
	// reader may not look.
	Descriptors     int
	DescriptorLimit int // RLIMIT_NOFILE, which bounds each table
	Resident        uint64
	MemoryLimit     uint64        // of its cgroups, or the machine's memory
	MemoryUsed      uint64        // of MemoryLimit: by its cgroup, without idle file cache; by itself where the limit is the machine's
	MemoryGroup     string        // the directory of its nearest cgroup with a limit, for MemoryKills; "" for none
	CPU             time.Duration // used since its start, user and system
	Threads         int
	Kills           uint64 // processes of its cgroup that were killed for want of memory
}

// ReadProcess reads what proc_pid(5) tells of a process. root is the file system, os.DirFS("/") but in tests. The
// error is fs.ErrNotExist when the process is gone.
func ReadProcess(root fs.FS, pid int) (Process, error) {
	dir := procDir(pid)
	stat, err := fs.ReadFile(root, path.Join(dir, "stat"))
	if err != nil {
		return Process{}, fmt.Errorf("read process %d: %w", pid, err)
	}
	var p Process
	// The fields from the third: the second, in parentheses, may hold anything.
	if f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])); len(f) > 21 {
		if f[0] == "Z" && f[17] == "1" { // nobody has waited for it yet, and it is in no cgroup any more
			return Process{}, fmt.Errorf("read process %d: it has ended: %w", pid, fs.ErrNotExist)
		}
		const tick = 10 * time.Millisecond // USER_HZ is 100 on every architecture that Go has
		user, _ := strconv.ParseUint(f[11], 10, 62)
		system, _ := strconv.ParseUint(f[12], 10, 62)
		p.CPU = time.Duration(min(user+system, 1<<40)) * tick
		p.Threads, _ = strconv.Atoi(f[17])
		pages, _ := strconv.ParseUint(f[21], 10, 50)
		p.Resident = pages * uint64(os.Getpagesize())
	}
	p.Descriptors = fullestTable(root, dir)
	p.DescriptorLimit = openFilesLimit(root, dir)
	p.MemoryLimit, _ = MemoryLimit(asProcess{root, dir})
	p.MemoryUsed = p.Resident
	for i, g := range memoryGroups(asProcess{root, dir}) {
		if i == 0 {
			p.MemoryGroup = path.Dir(strings.TrimPrefix(g.source, "/"))
			p.Kills = MemoryKills(root, p.MemoryGroup)
		}
		if g.limit == p.MemoryLimit && g.usage > 0 {
			p.MemoryUsed = g.usage - min(g.usage, g.cache)
		}
	}
	return p, nil
}

// asProcess is the file system, with the cgroup of another process as one's own.
type asProcess struct {
	fs.FS
	dir string
}

// Open opens a file.
func (a asProcess) Open(name string) (fs.File, error) {
	if name == "proc/self/cgroup" {
		name = path.Join(a.dir, "cgroup")
	}
	return a.FS.Open(name)
}

// fullestTable is the number of descriptors in the fullest table of a process's threads, -1 if none may be read.
func fullestTable(root fs.FS, dir string) int {
	// A directory of 20,000 descriptors takes milliseconds to read, and threads that share a table show it again;
	// the kernel tells the number as the directory's size since Linux 6.2, and before that this many are enough.
	left := 1 << 18
	count := func(name string) int {
		if i, err := fs.Stat(root, name); err != nil {
			return -1
		} else if n := i.Size(); n > 0 {
			return int(n)
		}
		if left <= 0 {
			return -1
		}
		entries, err := fs.ReadDir(root, name)
		if err != nil {
			return -1
		}
		left -= len(entries)
		return len(entries)
	}
	most := count(path.Join(dir, "fd"))
	tasks, _ := fs.ReadDir(root, path.Join(dir, "task"))
	for _, t := range tasks {
		most = max(most, count(path.Join(dir, "task", t.Name(), "fd")))
	}
	return most
}

// openFilesLimit is the soft limit of proc_pid_limits(5).
func openFilesLimit(root fs.FS, dir string) int {
	b, err := fs.ReadFile(root, path.Join(dir, "limits"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				n, _ := strconv.ParseUint(f[0], 10, 31) // "unlimited" is no limit
				return int(n)
			}
		}
	}
	return 0
}

// MemoryKills counts the processes of a cgroup, by Process.MemoryGroup, that the kernel killed for want of memory. It can
// still be asked when they are gone.
func MemoryKills(root fs.FS, group string) uint64 {
	return max(labelled(root, path.Join(group, "memory.events"), "oom_kill"), // version 2
		labelled(root, path.Join(group, "memory.oom_control"), "oom_kill"))
}

// SocketOwner finds the process that has the socket of an inode, as Listener names it. It is 0 when there is none that
// the caller may look into.
func SocketOwner(root fs.FS, inode uint32) int {
	want := "socket:[" + strconv.FormatUint(uint64(inode), 10) + "]"
	processes, err := fs.ReadDir(root, "proc")
	if err != nil || inode == 0 {
		return 0
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		for name := range descriptors(root, path.Join("proc", p.Name(), "fd")) {
			if target, err := fs.ReadLink(root, name); err == nil && target == want {
				return pid
			}
		}
	}
	return 0
}

// descriptors are the names in a directory of descriptors; of a large table the first only, where listeners are: a
// gateway has a million.
func descriptors(root fs.FS, dir string) iter.Seq[string] {
	const many, first = 16384, 1024
	return func(yield func(string) bool) {
		i, err := fs.Stat(root, dir)
		if err != nil {
			return
		}
		if i.Size() > many {
			for fd := range first {
				if !yield(path.Join(dir, strconv.Itoa(fd))) {
					return
				}
			}
			return
		}
		entries, _ := fs.ReadDir(root, dir)
		for _, e := range entries {
			if !yield(path.Join(dir, e.Name())) {
				return
			}
		}
	}
}
