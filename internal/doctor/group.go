package doctor

import (
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/longwire/longwire/internal/sys"
)

// CgroupSample is the memory controller's view of the nearest cgroup above a process that has a limit, or of the process's own where
// none has. Sizes are in bytes; what is not known is 0.
type CgroupSample struct {
	Version        int  // 1 or 2; 0 is unknown
	Machine        bool // no cgroup has a limit, and Limit is the machine's memory
	Current, Limit uint64
	Anon           uint64 // memory of processes: heaps, stacks, mappings
	File           uint64 // page cache, Shmem included
	Shmem          uint64 // files that are in memory only, and memory that processes share
	Kernel         uint64 // what the kernel itself needs for the group's processes
	Slab           uint64 // of Kernel, what it can drop
	Sock           uint64 // buffers of sockets; version 1 does not count them against the limit
	OOMKills       uint64 // processes killed for want of memory, since the group was made
	PodKills       uint64 // those of the pod around it, of earlier runs of its containers too
}

// podGroup is how Kubernetes names a pod's cgroup: pod<uid>, or kubepods-burstable-pod<uid>.slice.
var podGroup = regexp.MustCompile(`(^|-)pod[0-9a-f]{8}[0-9a-f_-]*(\.slice)?$`)

// sampleGroup reads the memory controller of a process's cgroup, version 2 or 1.
func sampleGroup(root fs.FS, dir string) (g CgroupSample) {
	b, err := readBounded(root, path.Join(dir, "cgroup"), 64<<10)
	if err != nil {
		return g
	}
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		base, read := "", groupV2
		switch {
		case parts[0] == "0" && parts[1] == "" && g.Version == 0:
			base = "sys/fs/cgroup"
		case strings.Contains(","+parts[1]+",", ",memory,"):
			base, read = "sys/fs/cgroup/memory", groupV1
		default:
			continue
		}
		if found := nearestGroup(root, base, path.Join(base, parts[2]), read); found.Version > 0 {
			g = found
		}
	}
	return g
}

// nearestGroup looks for a limit from a group upwards. In a container the group's path is that of the host, and the group is the mount's root.
func nearestGroup(root fs.FS, base, at string, read func(fs.FS, string) CgroupSample) (g CgroupSample) {
	if !strings.HasPrefix(at, base+"/") {
		at = base
	}
	for ; ; at = path.Dir(at) {
		kills := sys.MemoryKills(root, at)
		switch {
		case g.Limit > 0: // found further down
			if podGroup.MatchString(path.Base(at)) {
				g.PodKills = max(g.PodKills, kills)
			}
		default:
			// Version 1 counts a kill where the process was, and not further up.
			kills = max(kills, g.OOMKills)
			if here := read(root, at); here.Version > 0 && (g.Version == 0 || here.Limit > 0) {
				g = here
			}
			g.OOMKills = kills
		}
		if at == base || at == "." || at == "/" {
			break
		}
	}
	if g.Limit == 0 {
		g.OOMKills = 0 // of all the machine
	}
	return g
}

func groupV2(root fs.FS, at string) (g CgroupSample) {
	if g.Current = groupNumber(root, path.Join(at, "memory.current")); g.Current == 0 {
		return g
	}
	g.Version, g.Limit = 2, groupNumber(root, path.Join(at, "memory.max"))
	stat := groupTable(root, path.Join(at, "memory.stat"))
	g.Anon, g.File, g.Shmem, g.Kernel, g.Slab, g.Sock = stat["anon"], stat["file"], stat["shmem"], stat["kernel"], stat["slab_reclaimable"], stat["sock"]
	if g.Kernel == 0 { // before Linux 5.18 there are only its parts
		g.Kernel = stat["kernel_stack"] + stat["pagetables"] + stat["percpu"] + stat["slab"]
	}
	return g
}

func groupV1(root fs.FS, at string) (g CgroupSample) {
	if g.Current = groupNumber(root, path.Join(at, "memory.usage_in_bytes")); g.Current == 0 {
		return g
	}
	g.Version, g.Limit = 1, groupNumber(root, path.Join(at, "memory.limit_in_bytes"))
	stat := groupTable(root, path.Join(at, "memory.stat"))
	g.Anon, g.File, g.Shmem = stat["total_rss"], stat["total_cache"], stat["total_shmem"]
	g.Kernel, g.Sock = groupNumber(root, path.Join(at, "memory.kmem.usage_in_bytes")), groupNumber(root, path.Join(at, "memory.kmem.tcp.usage_in_bytes"))
	g.Slab = g.Kernel // how much of it can be dropped is not told
	return g
}

// groupNumber is the number in a file; 0 where there is none, and for no limit.
func groupNumber(root fs.FS, name string) uint64 {
	b, err := readBounded(root, name, 64)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64) // "max" is no limit
	if n > 1<<60 {
		return 0 // version 1 writes its largest number for none
	}
	return n
}

// groupTable reads lines of a name and a number.
func groupTable(root fs.FS, name string) map[string]uint64 {
	m := map[string]uint64{}
	b, err := readBounded(root, name, 64<<10)
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 {
			m[f[0]], _ = strconv.ParseUint(f[1], 10, 64)
		}
	}
	return m
}
