package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseGoroutines reads what /debug/pprof/goroutine?debug=2 and a crash write: every goroutine with its state. What does
// not look like it is passed over; it is an error when nothing does. b is not retained.
func ParseGoroutines(b []byte, at time.Duration) (GoroutineDump, error) {
	d := GoroutineDump{At: at}
	var g *Goroutine
	var function string // the line that waits for its file
	created := false
	end := func() {
		if g != nil {
			d.Goroutines = append(d.Goroutines, *g)
		}
		g, function, created = nil, "", false
	}
	for raw := range bytes.Lines(b) {
		line := strings.TrimRight(string(raw), "\r\n")
		switch {
		case strings.HasPrefix(line, "goroutine "):
			end()
			if n, ok := parseGoroutineHead(line); ok {
				g = &n
			}
		case g == nil:
		case line == "":
			end()
		case strings.HasPrefix(line, "\t"):
			if function == "" {
				continue
			}
			file, number, ok := parseFileLine(line)
			if ok {
				f := Frame{Function: function, File: file, Line: number}
				if created {
					g.Created = f
				} else {
					g.Frames = append(g.Frames, f)
				}
			}
			function = ""
		case strings.HasPrefix(line, "created by "):
			name, parent, _ := strings.Cut(strings.TrimPrefix(line, "created by "), " in goroutine ")
			g.Parent, _ = strconv.ParseInt(parent, 10, 64)
			function, created = name, true
		case strings.HasPrefix(line, "..."):
			if f := strings.Fields(strings.TrimPrefix(line, "...")); len(f) > 0 {
				g.Elided, _ = strconv.Atoi(f[0])
			} else {
				g.Elided = 1
			}
			if strings.HasPrefix(line, "...additional") {
				g.Elided = 1
			}
		default:
			function = functionOfCall(line)
		}
	}
	end()
	if len(d.Goroutines) == 0 {
		return d, errors.New("read goroutines: no line begins with goroutine N [state]: is it the text of /debug/pprof/goroutine?debug=2?")
	}
	return d, nil
}

// parseGoroutineHead reads "goroutine 8 gp=0x… m=0 mp=0x… [chan send, 5 minutes, locked to thread]:".
func parseGoroutineHead(line string) (g Goroutine, ok bool) {
	rest := strings.TrimPrefix(line, "goroutine ")
	number, _, _ := strings.Cut(rest, " ")
	id, err := strconv.ParseInt(number, 10, 64)
	open, shut := strings.IndexByte(rest, '['), strings.LastIndex(rest, "]")
	if err != nil || open < 0 || shut < open {
		return g, false
	}
	g.ID = id
	for i, part := range strings.Split(rest[open+1:shut], ", ") {
		switch minutes, isWait := strings.CutSuffix(part, " minutes"); {
		case i == 0:
			g.State, g.Leaked = strings.CutSuffix(part, " (leaked)")
			g.State = strings.TrimSuffix(g.State, " (scan)")
		case isWait:
			n, _ := strconv.ParseUint(minutes, 10, 31)
			g.Wait = time.Duration(n) * time.Minute
		case part == "locked to thread":
			g.Locked = true
		}
	}
	return g, true
}

// functionOfCall is the function of "main.(*T).run(0xc000, {0x1, 0x2})".
func functionOfCall(line string) string {
	if !strings.HasSuffix(line, ")") {
		return ""
	}
	// The arguments are in the last parentheses that stand on the outermost level.
	depth := 0
	for i := len(line) - 1; i >= 0; i-- {
		switch line[i] {
		case ')':
			depth++
		case '(':
			if depth--; depth == 0 {
				return line[:i]
			}
		}
	}
	return ""
}

// parseFileLine reads "\t/src/main.go:12 +0x1e".
func parseFileLine(line string) (file string, number int, ok bool) {
	line = strings.TrimPrefix(line, "\t")
	if i := strings.LastIndex(line, " +0x"); i >= 0 {
		line = line[:i]
	}
	i := strings.LastIndexByte(line, ':')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(line[i+1:], 10, 31)
	if err != nil {
		return "", 0, false
	}
	return line[:i], int(n), true
}

// ParseMemStats reads the figures at the end of /debug/pprof/heap?debug=1. b is not retained.
func ParseMemStats(b []byte, at time.Duration) (MemStats, error) {
	m := MemStats{At: at}
	i := bytes.LastIndex(b, []byte("\n# runtime.MemStats"))
	if i < 0 {
		return m, fmt.Errorf("read memory statistics: no line # runtime.MemStats: %w", errTruncated)
	}
	complete := false
	to := map[string]*uint64{
		"Sys": &m.Sys, "HeapSys": &m.HeapSys, "HeapAlloc": &m.HeapAlloc, "HeapInuse": &m.HeapInuse, "HeapReleased": &m.HeapReleased, "Mallocs": &m.Mallocs,
		"NumForcedGC": &m.NumForcedGC, "NumGC": &m.NumGC, "NextGC": &m.NextGC,
	}
	for raw := range bytes.Lines(b[i+1:]) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(raw)), "# "), " = ")
		if !ok {
			continue
		}
		used, _, isPair := strings.Cut(value, " / ")
		number := func(s string) uint64 { n, _ := strconv.ParseUint(s, 10, 64); return n }
		switch {
		case to[name] != nil:
			*to[name] = number(value)
		case name == "Stack" && isPair:
			m.StackInuse = number(used)
		case name == "DebugGC":
			complete = true // the last that every version writes
		}
	}
	if !complete {
		return m, fmt.Errorf("read memory statistics: %w", errTruncated)
	}
	return m, nil
}
