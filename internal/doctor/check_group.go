package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// groupCheck asks whether the memory of the container, or of the machine, is short, and what takes it.
var groupCheck = Check{
	Name: "container memory",
	Skip: func(e *Evidence) string {
		s, ok := last(e.Process)
		switch {
		case !ok:
			return "there is nothing from /proc: it takes a process of this machine"
		case s.Group.Limit == 0:
			return "neither a limit of its cgroup nor the machine's memory is known"
		}
		return ""
	},
	Ask: askGroup,
}

func askGroup(e *Evidence) (list []Finding) {
	s, _ := last(e.Process)
	g, before := s.Group, e.Process[0].Group
	parts := memoryParts(e)
	says, advice := mostOf(parts)
	evidence := []string{}
	if len(parts) > 0 {
		evidence = append(evidence, "by size, now: "+partsText(parts))
	}
	if g.Version > 0 {
		evidence = append(evidence, groupText(g))
	}
	if killed := max(g.OOMKills-min(g.OOMKills, before.OOMKills), g.PodKills-min(g.PodKills, before.PodKills)); killed > 0 {
		list = append(list, Finding{
			Severity: Critical, Confidence: 1, rank: 20,
			Sentence: fmt.Sprintf("the kernel killed %s of the container for want of memory meanwhile%s", processes(killed), says),
			Evidence: evidence, Advice: advice,
		})
	}
	own := s.Anonymous + s.Shared
	if !g.Machine {
		own = max(own, g.unreclaimable())
	}
	if own > g.Limit/10*9 {
		f := Finding{Severity: Critical, Confidence: 1, rank: 15, Evidence: evidence, Advice: advice}
		f.Sentence = fmt.Sprintf("the container has %s of memory that cannot be dropped, and its limit is %s%s", bytesText(float64(own)), bytesText(float64(g.Limit)), says)
		if g.Machine {
			f.Sentence = fmt.Sprintf("the process has %s of memory that cannot be dropped, and the machine has %s%s", bytesText(float64(own)), bytesText(float64(g.Limit)), says)
		}
		list = append(list, f)
	}
	return list
}

// groupNotes tell of kills before the look: they explain, and need not have to do with what the program is like now.
func groupNotes(e *Evidence) []string {
	if len(e.Process) == 0 {
		return nil
	}
	g := e.Process[0].Group
	if g.OOMKills == 0 && g.PodKills == 0 {
		return nil
	}
	where, killed := "container", g.OOMKills
	if g.PodKills > g.OOMKills {
		where, killed = "pod, earlier runs of its containers included,", g.PodKills
	}
	parts := memoryParts(e)
	says, _ := mostOf(parts)
	text := fmt.Sprintf("before the look the kernel killed %s of the %s for want of memory (limit %s)", processes(killed), where, bytesText(float64(g.Limit)))
	if says != "" {
		text += says + "; by size, now: " + partsText(parts)
	}
	return []string{text}
}

func processes(n uint64) string {
	if n == 1 {
		return "1 process"
	}
	return fmt.Sprintf("%d processes", n)
}

// unreclaimable is what the kernel cannot drop when memory is short, swap left aside.
func (g CgroupSample) unreclaimable() uint64 {
	n := g.Anon + g.Shmem + g.Kernel - min(g.Kernel, g.Slab)
	if g.Version == 2 {
		n += g.Sock
	}
	return n
}

// memoryPart is what takes memory of a container.
type memoryPart struct {
	name   string
	bytes  uint64
	drops  bool // the kernel drops it before it kills
	advice string
}

// memoryParts tell what the memory of the container is used for, the largest first: of the process as its runtime tells, of the rest as the cgroup does.
func memoryParts(e *Evidence) (list []memoryPart) {
	add := func(name string, bytes uint64, advice string) {
		if bytes > 0 {
			list = append(list, memoryPart{name: name, bytes: bytes, advice: advice})
		}
	}
	less := func(a, b uint64) uint64 { return a - min(a, b) }
	s, ok := last(e.Process)
	if !ok {
		return nil
	}
	g := s.Group
	if m, ok := last(e.Memory); ok && m.HeapSys > 0 {
		idle := less(m.HeapSys, m.HeapInuse+m.HeapReleased)
		runtime := less(m.Sys, m.HeapSys+m.StackInuse)
		add("Go heap in use", m.HeapInuse, "see the findings on the heap for what grows; GOMEMLIMIT at nine tenths of the limit has the collector work before the kernel kills; if all of it is needed, raise the limit")
		add("Go heap idle and not given back", idle, "set GOMEMLIMIT to nine tenths of the limit: the runtime then gives idle memory back, and collects sooner after a rush")
		add("goroutine stacks", m.StackInuse, "have fewer goroutines or shallower calls: see the findings on goroutines; a connection that waits needs none in an event loop")
		add("the Go runtime's own", runtime, "it goes with the heap and the number of objects: see the findings on the heap")
		add("outside the Go heap (C, mappings)", less(s.Anonymous, m.HeapInuse+idle+m.StackInuse+runtime), "GOMEMLIMIT does not know of it: look for C.malloc without C.free and Mmap without Munmap, and set GOMEMLIMIT so far below the limit that it fits beside the heap")
	} else {
		add("memory of the process", s.Anonymous, `no figures of a Go runtime tell what it is: import _ "net/http/pprof" in the program, and look at its URL`)
	}
	if g.Version == 0 || g.Machine {
		add("shared memory", s.Shared, "remove what is not needed from /dev/shm and other file systems in memory")
		return largestFirst(list)
	}
	add("other processes of the container", less(g.Anon, s.Anonymous), "look at the container's other processes, each of which counts against its limit")
	add("files in memory (tmpfs)", g.Shmem, "files on a tmpfs, in /dev/shm or in an emptyDir of medium Memory count against the limit until they are removed: write them to a disk, or remove them")
	if n := less(g.File, g.Shmem); n > 0 {
		list = append(list, memoryPart{"page cache", n, true, "the page cache alone is no reason to kill, unless pages are made faster than the disk takes them: write less at once, or raise the limit"})
	}
	add("the kernel's own (page tables, descriptors, directory entries)", g.Kernel, "it goes with the number of open files, sockets, mappings and processes: close what is not used")
	if g.Version == 2 {
		add("buffers of sockets", g.Sock, "peers that read slowly fill the buffers: set write deadlines, disconnect slow ones, and lower tcp_wmem and tcp_rmem or SO_SNDBUF and SO_RCVBUF")
	}
	return largestFirst(list)
}

func largestFirst(list []memoryPart) []memoryPart {
	slices.SortStableFunc(list, func(a, b memoryPart) int { return cmp.Compare(b.bytes, a.bytes) })
	return list
}

// mostOf is the end of a sentence that names the largest part, and what to do about that.
func mostOf(parts []memoryPart) (says, advice string) {
	if len(parts) == 0 {
		return "", "see the other findings for what takes the memory, or raise the limit"
	}
	i := slices.IndexFunc(parts, func(p memoryPart) bool { return !p.drops })
	name := func(p memoryPart) string { return fmt.Sprintf("%s (%s)", p.name, bytesText(float64(p.bytes))) }
	if i < 0 {
		i = 0
	}
	says = "; the largest part of its memory now: " + name(parts[0])
	if i > 0 {
		says += ", which is dropped before anything is killed; of the rest: " + name(parts[i])
	}
	return says, parts[i].advice
}

func partsText(parts []memoryPart) string {
	var list []string
	for _, p := range parts {
		list = append(list, p.name+" "+bytesText(float64(p.bytes)))
	}
	return strings.Join(list, ", ")
}

func groupText(g CgroupSample) string {
	text := fmt.Sprintf("cgroup version %d: current %s, limit %s, anonymous %s, page cache %s (in memory only: %s), kernel %s, sockets %s, killed %d",
		g.Version, bytesText(float64(g.Current)), bytesText(float64(g.Limit)), bytesText(float64(g.Anon)), bytesText(float64(g.File)), bytesText(float64(g.Shmem)),
		bytesText(float64(g.Kernel)), bytesText(float64(g.Sock)), g.OOMKills)
	if g.PodKills > 0 {
		text += fmt.Sprintf(", in the pod %d", g.PodKills)
	}
	return text
}
