package sys

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

// MemoryLimit is how many bytes this process may use at most, and what says so: "machine", or the cgroup
// (cgroups(7)) with the smallest limit on the process's path and its file. It is 0 and "" where that is not
// known. root is the file system, os.DirFS("/") but in tests.
func MemoryLimit(root fs.FS) (bytes uint64, source string) {
	if bytes = meminfo(root, "MemTotal:"); bytes > 0 {
		source = "machine"
	}
	for _, g := range memoryGroups(root) {
		if bytes == 0 || g.limit < bytes {
			bytes, source = g.limit, g.source
		}
	}
	return bytes, source
}

// MemoryAvailable is how many bytes could be used now without swapping or being killed: what the machine has
// available (proc_meminfo(5)), or what a cgroup on the process's path leaves of its limit, counting the file
// cache that is not in use as free. It is 0 where that is not known, else at least 1.
func MemoryAvailable(root fs.FS) uint64 {
	free := meminfo(root, "MemAvailable:")
	for _, g := range memoryGroups(root) {
		left := uint64(1)
		if used := g.usage - min(g.usage, g.cache); used < g.limit {
			left = g.limit - used
		}
		if free == 0 || left < free {
			free = left
		}
	}
	return free
}

// Resident is this process's resident memory in bytes; 0 where that is not known.
func Resident() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(string(f[1]), 10, 64)
	return pages * uint64(os.Getpagesize())
}

// meminfo is a field of /proc/meminfo in bytes; 0 when it is not there.
func meminfo(root fs.FS, field string) uint64 {
	return labelled(root, "proc/meminfo", field) << 10
}

// labelled is the number that follows label at the beginning of a line.
func labelled(root fs.FS, name, label string) uint64 {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == label {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// memoryGroup is a cgroup with a memory limit.
type memoryGroup struct {
	source string
	limit  uint64
	usage  uint64
	cache  uint64 // of usage, what the kernel would give up first
}

// hierarchy is how one version of cgroups names things.
type hierarchy struct {
	fstype            string
	limit, use, cache string
}

var (
	cgroup1 = hierarchy{"cgroup", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}
	cgroup2 = hierarchy{"cgroup2", "memory.max", "memory.current", "inactive_file"}
)

// memoryGroups are the cgroups that bound this process's memory, from its own up to the root that is visible.
func memoryGroups(root fs.FS) (groups []memoryGroup) {
	b, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		// hierarchy number : controllers : path
		f := strings.SplitN(strings.TrimRight(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		h := cgroup2
		if f[0] != "0" || f[1] != "" {
			if h = cgroup1; !listed(f[1], "memory") {
				continue
			}
		}
		mount, dir := h.locate(root, f[2])
		for ; ; dir = path.Dir(dir) {
			if g, ok := h.read(root, dir); ok {
				groups = append(groups, g)
			}
			if dir == mount || dir == "." {
				break
			}
		}
	}
	return groups
}

// locate finds where the hierarchy is mounted, and in it the directory of the cgroup that /proc/self/cgroup
// names; in a container the mount may show only a part of the hierarchy. The names have no leading slash.
func (h hierarchy) locate(root fs.FS, group string) (mount, dir string) {
	mount, top := "sys/fs/cgroup", "/"
	if h == cgroup1 {
		mount = "sys/fs/cgroup/memory"
	}
	b, _ := fs.ReadFile(root, "proc/self/mountinfo")
	for line := range strings.Lines(string(b)) {
		// 36 35 98:0 /root /mount/point options fields - type source super-options: proc_pid_mountinfo(5)
		head, tail, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(head), strings.Fields(tail)
		if !ok || len(f) < 5 || len(g) < 3 || g[0] != h.fstype || h == cgroup1 && !listed(g[2], "memory") {
			continue
		}
		top, mount = f[3], strings.TrimPrefix(path.Clean(f[4]), "/")
		break
	}
	within, ok := strings.CutPrefix(path.Clean(group), strings.TrimSuffix(top, "/"))
	if !ok || within != "" && within[0] != '/' || strings.HasPrefix(within, "/..") {
		within = "" // another part of the hierarchy; what is mounted is the nearest there is
	}
	return mount, path.Join(mount, within)
}

func (h hierarchy) read(root fs.FS, dir string) (g memoryGroup, ok bool) {
	number := func(name string) (uint64, bool) {
		b, err := fs.ReadFile(root, path.Join(dir, name))
		if err != nil {
			return 0, false
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		return n, err == nil // "max" is no limit
	}
	// Version 1 says that there is none by the largest multiple of a page.
	const none = 1 << 62
	if g.limit, ok = number(h.limit); !ok || g.limit >= none {
		return g, false
	}
	g.source = "/" + path.Join(dir, h.limit)
	g.usage, _ = number(h.use)
	g.cache = labelled(root, path.Join(dir, "memory.stat"), h.cache)
	return g, true
}

// listed reports whether a comma-separated list has an element.
func listed(list, element string) bool {
	for e := range strings.SplitSeq(list, ",") {
		if e == element {
			return true
		}
	}
	return false
}
