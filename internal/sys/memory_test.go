package sys

import (
	"os"
	"runtime"
	"testing"
	"testing/fstest"
)

// tree is a file system of path → content.
func tree(files map[string]string) fstest.MapFS {
	m := make(fstest.MapFS)
	for name, content := range files {
		m[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return m
}

func TestMemory(t *testing.T) {
	const (
		GiB     = 1 << 30
		meminfo = "MemTotal:       25165824 kB\nMemFree:         1000000 kB\nMemAvailable:   20971520 kB\n"
		v2Mount = "31 23 0:28 / /sys rw - sysfs sysfs rw\n35 31 0:32 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
		v1Mount = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
		noLimit = "9223372036854771712\n"
	)
	for _, c := range []struct {
		name      string
		files     map[string]string
		limit     uint64
		source    string
		available uint64
	}{
		{"nothing there, as on macOS", nil, 0, "", 0},
		{"no cgroups", map[string]string{"proc/meminfo": meminfo}, 24 * GiB, "machine", 20 * GiB},
		{"version 2, no limit", map[string]string{
			"proc/meminfo":        meminfo,
			"proc/self/cgroup":    "0::/user.slice/app.scope\n",
			"proc/self/mountinfo": v2Mount,
			"sys/fs/cgroup/user.slice/app.scope/memory.max":     "max\n",
			"sys/fs/cgroup/user.slice/app.scope/memory.current": "1000\n",
		}, 24 * GiB, "machine", 20 * GiB},
		{"version 2", map[string]string{
			"proc/meminfo":        meminfo,
			"proc/self/cgroup":    "0::/system.slice/longwire.service\n",
			"proc/self/mountinfo": v2Mount,
			"sys/fs/cgroup/system.slice/longwire.service/memory.max":     "2147483648\n",
			"sys/fs/cgroup/system.slice/longwire.service/memory.current": "1610612736\n",
			"sys/fs/cgroup/system.slice/longwire.service/memory.stat":    "anon 1\nfile 2\ninactive_file 536870912\nactive_file 7\n",
		}, 2 * GiB, "/sys/fs/cgroup/system.slice/longwire.service/memory.max", GiB},
		{"version 2, a tighter limit above", map[string]string{
			"proc/meminfo":                                         meminfo,
			"proc/self/cgroup":                                     "0::/kubepods/pod1/container\n",
			"proc/self/mountinfo":                                  v2Mount,
			"sys/fs/cgroup/kubepods/memory.max":                    "max\n",
			"sys/fs/cgroup/kubepods/pod1/memory.max":               "1073741824\n",
			"sys/fs/cgroup/kubepods/pod1/memory.current":           "805306368\n",
			"sys/fs/cgroup/kubepods/pod1/container/memory.max":     "4294967296\n",
			"sys/fs/cgroup/kubepods/pod1/container/memory.current": "4160749568\n",
		}, GiB, "/sys/fs/cgroup/kubepods/pod1/memory.max", 128 << 20},
		{"version 2 in a namespace of its own", map[string]string{
			"proc/meminfo":                 meminfo,
			"proc/self/cgroup":             "0::/\n",
			"proc/self/mountinfo":          v2Mount,
			"sys/fs/cgroup/memory.max":     "1073741824",
			"sys/fs/cgroup/memory.current": "0",
		}, GiB, "/sys/fs/cgroup/memory.max", GiB},
		{"version 2, moved out of the namespace's root", map[string]string{
			"proc/meminfo":                 meminfo,
			"proc/self/cgroup":             "0::/../other\n",
			"proc/self/mountinfo":          v2Mount,
			"sys/fs/cgroup/memory.max":     "1073741824",
			"sys/fs/cgroup/memory.current": "0",
		}, GiB, "/sys/fs/cgroup/memory.max", GiB},
		{"version 2 without mountinfo", map[string]string{
			"proc/meminfo":               meminfo,
			"proc/self/cgroup":           "0::/a\n",
			"sys/fs/cgroup/a/memory.max": "1073741824",
		}, GiB, "/sys/fs/cgroup/a/memory.max", GiB},
		{"version 1", map[string]string{
			"proc/meminfo":        meminfo,
			"proc/self/cgroup":    "12:cpu,cpuacct:/elsewhere\n4:memory:/docker/1234\n1:name=systemd:/x\n",
			"proc/self/mountinfo": v1Mount,
			"sys/fs/cgroup/memory/memory.limit_in_bytes":             noLimit,
			"sys/fs/cgroup/memory/docker/memory.limit_in_bytes":      noLimit,
			"sys/fs/cgroup/memory/docker/1234/memory.limit_in_bytes": "536870912\n",
			"sys/fs/cgroup/memory/docker/1234/memory.usage_in_bytes": "402653184\n",
			"sys/fs/cgroup/memory/docker/1234/memory.stat":           "inactive_file 1\ntotal_inactive_file 134217728\n",
		}, 512 << 20, "/sys/fs/cgroup/memory/docker/1234/memory.limit_in_bytes", 256 << 20},
		{"version 1, the mount shows only the container", map[string]string{
			"proc/meminfo":        meminfo,
			"proc/self/cgroup":    "4:memory:/docker/1234/inner\n",
			"proc/self/mountinfo": "35 31 0:32 /docker/1234 /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":       "536870912\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes":       "268435456\n",
			"sys/fs/cgroup/memory/inner/memory.limit_in_bytes": noLimit,
		}, 512 << 20, "/sys/fs/cgroup/memory/memory.limit_in_bytes", 256 << 20},
		{"version 1, no limit and no meminfo", map[string]string{
			"proc/self/cgroup":                           "4:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": noLimit,
		}, 0, "", 0},
		{"hybrid: memory is version 1's", map[string]string{
			"proc/meminfo":        meminfo,
			"proc/self/cgroup":    "4:memory:/app\n0::/app\n",
			"proc/self/mountinfo": v1Mount + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			"sys/fs/cgroup/memory/app/memory.limit_in_bytes": "1073741824\n",
			"sys/fs/cgroup/unified/app/cgroup.procs":         "1\n",
		}, GiB, "/sys/fs/cgroup/memory/app/memory.limit_in_bytes", GiB},
		{"over the limit", map[string]string{
			"proc/meminfo":                 meminfo,
			"proc/self/cgroup":             "0::/\n",
			"sys/fs/cgroup/memory.max":     "1000000",
			"sys/fs/cgroup/memory.current": "1000001",
		}, 1000000, "/sys/fs/cgroup/memory.max", 1},
		{"a limit beyond the machine's memory", map[string]string{
			"proc/meminfo":                 meminfo,
			"proc/self/cgroup":             "0::/\n",
			"sys/fs/cgroup/memory.max":     "1099511627776",
			"sys/fs/cgroup/memory.current": "0",
		}, 24 * GiB, "machine", 20 * GiB},
		{"nonsense", map[string]string{
			"proc/meminfo":             "MemTotal:\nMemAvailable: x kB\n",
			"proc/self/cgroup":         "0\n\n0::\n::\n",
			"proc/self/mountinfo":      "-\n - \n1 2 3 4 5 - cgroup2\n",
			"sys/fs/cgroup/memory.max": "",
		}, 0, "", 0},
	} {
		root := tree(c.files)
		if limit, source := MemoryLimit(root); limit != c.limit || source != c.source {
			t.Errorf("%s: MemoryLimit = %d, %q, want %d, %q", c.name, limit, source, c.limit, c.source)
		}
		if n := MemoryAvailable(root); n != c.available {
			t.Errorf("%s: MemoryAvailable = %d, want %d", c.name, n, c.available)
		}
	}
}

func TestMemoryHere(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no /proc")
	}
	root := os.DirFS("/")
	limit, source := MemoryLimit(root)
	free, own := MemoryAvailable(root), Resident()
	if limit == 0 || source == "" || free == 0 || free > limit || own == 0 || own > limit {
		t.Errorf("limit %d (%s), available %d, resident %d", limit, source, free, own)
	}
}
