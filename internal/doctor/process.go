package doctor

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// What a look at a process may cost.
const (
	mostDescriptors = 20_000  // that are looked at one by one
	mostSocketTable = 8 << 20 // bytes of /proc/PID/net/tcp, about 50,000 sockets of the whole namespace
)

// SampleProcess reads what /proc tells of a process. root is the file system. The error is fs.ErrNotExist when the process is gone;
// what else may not be read is left empty.
func SampleProcess(root fs.FS, pid int, at time.Duration) (ProcessSample, error) {
	p, err := sys.ReadProcess(root, pid)
	if err != nil {
		return ProcessSample{}, err
	}
	s := ProcessSample{At: at, Resident: p.Resident, CPU: p.CPU, Threads: p.Threads, DescriptorLimit: p.DescriptorLimit}
	dir := path.Join("proc", strconv.Itoa(pid))
	s.CPU = max(s.CPU, threadTimes(root, dir))
	s.rollup(root, dir)
	if b, err := readBounded(root, path.Join(dir, "maps"), 16<<20); err == nil {
		s.Mappings = bytes.Count(b, []byte{'\n'})
	}
	sockets := s.descriptors(root, dir)
	if len(sockets) > 0 {
		s.network(root, pid, sockets)
	}
	s.Group = sampleGroup(root, dir)
	if s.Group.Limit == 0 {
		s.Group.Limit, s.Group.Machine = p.MemoryLimit, p.MemoryGroup == ""
	}
	s.Group.OOMKills = max(s.Group.OOMKills, p.Kills)
	return s, nil
}

// threadTimes is the CPU time of a process's threads, to the nanosecond where stat has hundredths of a second. Threads that are gone are not
// in it; a Go program keeps its threads.
func threadTimes(root fs.FS, dir string) (sum time.Duration) {
	tasks, err := fs.ReadDir(root, path.Join(dir, "task"))
	if err != nil || len(tasks) > 2000 {
		return 0
	}
	for _, t := range tasks {
		b, err := readBounded(root, path.Join(dir, "task", t.Name(), "schedstat"), 256)
		if err != nil {
			return 0
		}
		if f := strings.Fields(string(b)); len(f) > 0 {
			n, _ := strconv.ParseUint(f[0], 10, 62)
			sum += time.Duration(n)
		}
	}
	return sum
}

// readBounded reads a file, up to so many bytes.
func readBounded(root fs.FS, name string, most int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, most))
}

// rollup reads the parts of what is resident, proc_pid_smaps(5).
func (s *ProcessSample) rollup(root fs.FS, dir string) {
	b, err := readBounded(root, path.Join(dir, "status"), 64<<10)
	if err != nil {
		return
	}
	to := map[string]*uint64{"RssAnon:": &s.Anonymous, "RssFile:": &s.FileBacked, "RssShmem:": &s.Shared, "VmSwap:": &s.Swap, "VmRSS:": &s.Resident}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && to[f[0]] != nil {
			n, _ := strconv.ParseUint(f[1], 10, 50)
			*to[f[0]] = n << 10
		}
	}
	// The kernel keeps those figures by CPU and adds them up late; the rollup walks the pages and is exact.
	if b, err := readBounded(root, path.Join(dir, "smaps_rollup"), 64<<10); err == nil {
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) >= 2 && (f[0] == "Rss:" || f[0] == "Anonymous:") {
				n, _ := strconv.ParseUint(f[1], 10, 50)
				if f[0] == "Rss:" {
					s.Resident = n << 10
				} else {
					s.Anonymous = n << 10
				}
			}
		}
	}
}

// descriptors counts open descriptors by kind, and returns the inodes of sockets.
func (s *ProcessSample) descriptors(root fs.FS, dir string) map[string]bool {
	entries, err := fs.ReadDir(root, path.Join(dir, "fd"))
	if err != nil {
		return nil
	}
	s.Descriptors, s.Files = map[string]int{}, map[string]int{}
	sockets := map[string]bool{}
	for i, e := range entries {
		if i == mostDescriptors {
			s.Descriptors["not looked at"] = len(entries) - i
			break
		}
		target, err := fs.ReadLink(root, path.Join(dir, "fd", e.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		kind, inode, found := strings.Cut(target, ":[")
		switch {
		case strings.HasPrefix(target, "anon_inode:"):
			s.Descriptors[strings.Trim(strings.TrimPrefix(target, "anon_inode:"), "[]")]++
		case found && kind == "socket":
			s.Descriptors["socket"]++
			sockets[strings.TrimSuffix(inode, "]")] = true
		case found:
			s.Descriptors[kind]++ // pipe
		case strings.HasPrefix(target, "/dev/"):
			s.Descriptors["device"]++
		default:
			s.Descriptors["file"]++
			if len(s.Files) < 1000 || s.Files[target] > 0 {
				s.Files[target]++
			}
		}
	}
	return sockets
}
