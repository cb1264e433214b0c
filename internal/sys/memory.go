package sys

import (
	"bytes"
	"io/fs"
	"os"
	"strconv"
)

// MemoryLimit is how many bytes this process may use at most, and what says so; 0 where that is not known.
func MemoryLimit(root fs.FS) (bytes uint64, source string) {
	return meminfo(root, "MemTotal:"), "machine"
}

// MemoryAvailable is how many bytes could be used now without reclaiming what is in use; 0 where that is not
// known.
func MemoryAvailable(root fs.FS) uint64 { return meminfo(root, "MemAvailable:") }

func meminfo(root fs.FS, field string) uint64 {
	b, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(field)); ok {
			f := bytes.Fields(rest)
			if len(f) == 0 {
				return 0
			}
			kb, _ := strconv.ParseUint(string(f[0]), 10, 64)
			return kb << 10
		}
	}
	return 0
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
