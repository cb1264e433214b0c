package doctor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// groupFiles is a /proc of process 7 in a container, and its cgroup of either version, with a limit of 100 MiB. stat is in MiB.
func groupFiles(version int, killed, inPod int, anon, file, shmem, kernel, sock int) fstest.MapFS {
	const mib = 1 << 20
	text := func(format string, args ...any) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(fmt.Sprintf(format, args...))}
	}
	m := fstest.MapFS{
		"proc/7/stat":   text("7 (x) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 9 0 100 0 2000 0"),
		"proc/7/status": text("VmRSS:\t%d kB\nRssAnon:\t%d kB\n", anon<<10, anon<<10),
		"proc/meminfo":  text("MemTotal: 1000000 kB\n"),
	}
	const pod = "kubepods/burstable/pod0b6a3ab2-11f3-4c1d-9a3e-0123456789ab"
	current := anon + file + kernel + sock
	if version == 2 {
		at := "sys/fs/cgroup/" + pod
		m["proc/7/cgroup"] = text("0::/%s/box\n", pod)
		m[at+"/box/memory.current"] = text("%d\n", current*mib)
		m[at+"/box/memory.max"] = text("%d\n", 100*mib)
		m[at+"/box/memory.stat"] = text("anon %d\nfile %d\nshmem %d\nkernel %d\nslab_reclaimable 0\nsock %d\n", anon*mib, file*mib, shmem*mib, kernel*mib, sock*mib)
		m[at+"/box/memory.events"] = text("low 0\nhigh 0\nmax 9\noom 2\noom_kill %d\n", killed)
		m[at+"/memory.current"] = text("%d\n", current*mib)
		m[at+"/memory.max"] = text("max\n")
		m[at+"/memory.events"] = text("oom_kill %d\n", killed+inPod)
		m["sys/fs/cgroup/memory.events"] = text("oom_kill 99\n")
		return m
	}
	at := "sys/fs/cgroup/memory/" + pod
	m["proc/7/cgroup"] = text("5:cpu:/\n4:memory:/%s/box\n0::/\n", pod)
	m[at+"/box/memory.usage_in_bytes"] = text("%d\n", current*mib)
	m[at+"/box/memory.limit_in_bytes"] = text("%d\n", 100*mib)
	m[at+"/box/memory.stat"] = text("cache 1\nrss 1\ntotal_cache %d\ntotal_rss %d\ntotal_shmem %d\n", file*mib, anon*mib, shmem*mib)
	m[at+"/box/memory.kmem.usage_in_bytes"] = text("%d\n", kernel*mib)
	m[at+"/box/memory.kmem.tcp.usage_in_bytes"] = text("%d\n", sock*mib)
	m[at+"/box/memory.oom_control"] = text("oom_kill_disable 0\nunder_oom 0\noom_kill %d\n", killed)
	return m
}

// groupEvidence is two looks at process 7.
func groupEvidence(t *testing.T, before, now fstest.MapFS, m MemStats) *Evidence {
	t.Helper()
	e := &Evidence{}
	for i, root := range []fstest.MapFS{before, now} {
		s, err := SampleProcess(root, 7, time.Duration(i)*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		e.Process = append(e.Process, s)
	}
	if m.Sys > 0 {
		e.Memory = []MemStats{m}
	}
	return e
}

// TestKilled names the largest part of a container's memory when a process of it was killed, of cgroups of both versions.
func TestKilled(t *testing.T) {
	const mib = 1 << 20
	heap := MemStats{Sys: 50 * mib, HeapSys: 44 * mib, HeapInuse: 40 * mib, HeapReleased: 2 * mib, StackInuse: 3 * mib}
	idle := MemStats{Sys: 50 * mib, HeapSys: 44 * mib, HeapInuse: 4 * mib, StackInuse: 3 * mib}
	stacks := MemStats{Sys: 50 * mib, HeapSys: 10 * mib, HeapInuse: 9 * mib, StackInuse: 38 * mib}
	for _, c := range []struct {
		name                            string
		memory                          MemStats
		anon, file, shmem, kernel, sock int
		largest                         string
		order                           string
		advice                          string
		oldest                          bool // of version 2 only: version 1 does not count it against the limit
	}{
		{"heap", heap, 60, 20, 0, 5, 1, "the largest part of its memory now: Go heap in use (40.0 MiB)", "Go heap in use 40.0 MiB, page cache 20.0 MiB, outside the Go heap", "GOMEMLIMIT", false},
		{"heap that is idle", idle, 50, 10, 0, 5, 1, "Go heap idle and not given back (40.0 MiB)", "", "GOMEMLIMIT", false},
		{"stacks", stacks, 60, 10, 0, 5, 1, "goroutine stacks (38.0 MiB)", "", "goroutines", false},
		{"off-heap", heap, 98, 1, 0, 1, 0, "outside the Go heap (C, mappings) (50.0 MiB)", "outside the Go heap (C, mappings) 50.0 MiB, Go heap in use 40.0 MiB", "C.malloc", false},
		{"page cache", heap, 45, 50, 0, 1, 0, "page cache (50.0 MiB), which is dropped before anything is killed; of the rest: Go heap in use (40.0 MiB)", "page cache 50.0 MiB, Go heap in use", "GOMEMLIMIT", false},
		{"tmpfs", heap, 45, 54, 50, 1, 0, "files in memory (tmpfs) (50.0 MiB)", "files in memory (tmpfs) 50.0 MiB, Go heap in use 40.0 MiB, page cache 4.0 MiB", "/dev/shm", false},
		{"kernel", heap, 45, 1, 0, 52, 1, "the kernel's own", "the kernel's own (page tables, descriptors, directory entries) 52.0 MiB, Go heap", "close what is not used", false},
		{"sockets", heap, 45, 1, 0, 1, 52, "buffers of sockets (52.0 MiB)", "buffers of sockets 52.0 MiB, Go heap", "write deadlines", true},
		{"not Go", MemStats{}, 70, 1, 0, 1, 0, "memory of the process (70.0 MiB)", "", "net/http/pprof", false},
	} {
		for version := 1; version <= 2; version++ {
			if c.oldest && version == 1 {
				continue
			}
			name := fmt.Sprintf("%s, version %d", c.name, version)
			e := groupEvidence(t, groupFiles(version, 1, 0, c.anon, c.file, c.shmem, c.kernel, c.sock), groupFiles(version, 3, 0, c.anon, c.file, c.shmem, c.kernel, c.sock), c.memory)
			if g := e.Process[1].Group; g.Version != version || g.Limit != 100*mib || g.OOMKills != 3 || g.Machine {
				t.Errorf("%s: %+v", name, g)
			}
			r := Examine(e)
			i := slices.IndexFunc(r.Findings, func(f Finding) bool {
				return strings.HasPrefix(f.Sentence, "the kernel killed 2 processes of the container for want of memory meanwhile")
			})
			if i < 0 {
				t.Errorf("%s: %+v", name, r.Findings)
				continue
			}
			f := r.Findings[i]
			if f.Severity != Critical || !strings.Contains(f.Sentence, c.largest) || !strings.Contains(strings.Join(f.Evidence, "\n"), "by size, now: "+c.order) || !strings.Contains(f.Advice, c.advice) {
				t.Errorf("%s: %+v, want %q, %q, %q", name, f, c.largest, c.order, c.advice)
			}
		}
	}
}

// TestKilledBefore has kills from before the look, of the container or of those that its pod had before it, as a note: they say nothing of the program
// as it is now.
func TestKilledBefore(t *testing.T) {
	for _, c := range []struct {
		name                    string
		version, killed, before int
		want                    string
	}{
		{"none", 2, 0, 0, ""},
		{"in the container", 2, 2, 0, "before the look the kernel killed 2 processes of the container for want of memory (limit 100.0 MiB)"},
		{"in the container, version 1", 1, 2, 0, "before the look the kernel killed 2 processes of the container for want of memory (limit 100.0 MiB)"},
		{"in the pod", 2, 0, 3, "before the look the kernel killed 3 processes of the pod, earlier runs of its containers included, for want of memory"},
	} {
		root := groupFiles(c.version, c.killed, c.before, 20, 5, 0, 1, 0)
		r := Examine(groupEvidence(t, root, root, MemStats{}))
		notes := strings.Join(r.Notes, "\n")
		if r.Found() || (c.want == "") != (notes == "") || !strings.Contains(notes, c.want) || c.want != "" && !strings.Contains(notes, "the largest part of its memory now: memory of the process (20.0 MiB)") {
			t.Errorf("%s: %+v, notes %q, want %q", c.name, r.Findings, notes, c.want)
		}
	}
}

// TestNearLimit has memory that cannot be dropped, whoever has it.
func TestNearLimit(t *testing.T) {
	for _, c := range []struct {
		name                            string
		anon, file, shmem, kernel, sock int
		want                            string
	}{
		{"page cache is dropped", 40, 59, 0, 1, 0, ""},
		{"anonymous", 91, 5, 0, 1, 0, "the container has 92.0 MiB of memory that cannot be dropped, and its limit is 100.0 MiB; the largest part of its memory now: memory of the process"},
		{"tmpfs", 20, 75, 74, 1, 0, "files in memory (tmpfs) (74.0 MiB)"},
		{"sockets", 20, 2, 0, 5, 70, "buffers of sockets (70.0 MiB)"},
	} {
		root := groupFiles(2, 0, 0, c.anon, c.file, c.shmem, c.kernel, c.sock)
		r := Examine(groupEvidence(t, root, root, MemStats{}))
		if r.Found() != (c.want != "") || r.Found() && (!strings.Contains(r.Findings[0].Sentence, c.want) || r.Findings[0].Severity != Critical) {
			t.Errorf("%s: %+v, want %q", c.name, r.Findings, c.want)
		}
	}
	// Without a cgroup it is the machine that bounds it.
	root := groupFiles(2, 0, 0, 950, 1, 0, 1, 0)
	delete(root, "proc/7/cgroup")
	r := Examine(groupEvidence(t, root, root, MemStats{}))
	if !r.Found() || !strings.Contains(r.Findings[0].Sentence, "the process has 950.0 MiB of memory that cannot be dropped, and the machine has 976.6 MiB") {
		t.Errorf("on a machine: %+v", r.Findings)
	}
}

// TestIdleHeap tells idle memory that stays from what is kept for the next collection, and what is on its way back.
func TestIdleHeap(t *testing.T) {
	const mib = 1 << 20
	of := func(sample func(i int) MemStats) *Evidence {
		e := &Evidence{}
		for i := range 12 {
			m := sample(i)
			m.At, m.Sys = time.Duration(i)*2*time.Second, m.HeapSys+5*mib
			e.Memory = append(e.Memory, m)
		}
		return e
	}
	for _, c := range []struct {
		name string
		e    *Evidence
		want string
	}{
		{"kept for the next collection", of(func(int) MemStats {
			return MemStats{HeapSys: 200 * mib, HeapAlloc: 20 * mib, HeapInuse: 22 * mib, NextGC: 190 * mib}
		}), ""},
		{"given back", of(func(int) MemStats {
			return MemStats{HeapSys: 200 * mib, HeapAlloc: 20 * mib, HeapInuse: 22 * mib, NextGC: 40 * mib, HeapReleased: 150 * mib}
		}), ""},
		{"on its way", of(func(i int) MemStats {
			return MemStats{HeapSys: 400 * mib, HeapAlloc: 20 * mib, HeapInuse: 22 * mib, NextGC: 40 * mib, HeapReleased: uint64(i) * 10 * mib}
		}), ""},
		{"stays", of(func(int) MemStats {
			return MemStats{HeapSys: 200 * mib, HeapAlloc: 20 * mib, HeapInuse: 22 * mib, NextGC: 40 * mib}
		}), "156.0 MiB of the heap are idle and are not given back"},
	} {
		r := Examine(c.e)
		if r.Found() != (c.want != "") || r.Found() && !strings.Contains(r.Findings[0].Sentence, c.want) {
			t.Errorf("%s: %+v, want %q", c.name, r.Findings, c.want)
		}
	}
}
