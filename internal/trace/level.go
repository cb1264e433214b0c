package trace

import (
	"fmt"
	"strings"
)

// Level is how much of a connection can be seen. A higher one sees more.
type Level uint8

// The levels.
const (
	// LevelErrno: what the connection's own process told (Tracer.Closing), and TCP_INFO. Nothing after close.
	LevelErrno Level = 1 + iota
	// LevelDiag: also what the kernel tells without rights when a socket is destroyed.
	LevelDiag
	// LevelBPF: probes in the kernel. It needs CAP_BPF and CAP_PERFMON, and a kernel with BTF.
	LevelBPF
)

var levelNames = [...]string{LevelErrno: "errno", LevelDiag: "diag", LevelBPF: "bpf"}

// String is the level's name: errno, diag or bpf.
func (l Level) String() string {
	if int(l) < len(levelNames) && levelNames[l] != "" {
		return levelNames[l]
	}
	return "unknown"
}

// MarshalText is String.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads a level's name.
func (l *Level) UnmarshalText(b []byte) error {
	for i, n := range levelNames {
		if n != "" && n == string(b) {
			*l = Level(i)
			return nil
		}
	}
	return fmt.Errorf("trace level %q: want %s", b, strings.Join(levelNames[1:], ", "))
}

// Refusal is a level that was tried and is not to be had, and why.
type Refusal struct {
	Level Level
	Err   error
}

// String says it in a line.
func (r Refusal) String() string { return fmt.Sprintf("level %s: %v", r.Level, r.Err) }
