package doctor

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// Cycle is one line of GODEBUG=gctrace=1: one collection. Fields that the version of Go which wrote it does not have are 0.
type Cycle struct {
	Number int           // of the collection, from 1
	At     time.Duration // since the program's start
	Share  float64       // of the CPU spent on collecting since the program's start, 0 to 1
	// Wall-clock times: the pause that begins it (sweep termination), marking beside the program, the pause that ends it.
	SweepTermination, Mark, MarkTermination time.Duration
	// CPU times: of the pauses, and of marking in its three parts. Assist is work that allocating goroutines had to do,
	// Background that of the collector's workers, Idle that of otherwise idle CPUs.
	SweepCPU, AssistCPU, BackgroundCPU, IdleCPU, TerminationCPU time.Duration
	// Bytes of the heap: when it began, when it ended, and alive after it; to a MiB.
	Begin, End, Live uint64
	Goal             uint64 // what the heap was meant to be at the end
	Stacks, Globals  uint64 // scannable, since Go 1.19
	Procs            int
	Forced           bool // by runtime.GC or debug.FreeOSMemory
}

// ParseTrace reads the lines of collections out of a log. Other lines, and what other output put before a line or
// into it, are passed over; skipped counts lines that begin like one and cannot be read. Every version of Go since
// 1.18 is understood. b is not retained.
func ParseTrace(b []byte) (cycles []Cycle, skipped int) {
	for raw := range bytes.Lines(b) {
		line := string(raw)
		// A program that logs without a newline leaves its text before the collection's.
		for {
			i := strings.Index(line, "gc ")
			if i < 0 {
				break
			}
			if i > 0 && isWord(line[i-1]) {
				line = line[i+3:]
				continue
			}
			c, ok, like := parseCycle(line[i:])
			if ok {
				cycles = append(cycles, c)
				break
			}
			if like {
				skipped++
				break
			}
			line = line[i+3:]
		}
	}
	return cycles, skipped
}

func isWord(c byte) bool {
	return c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// parseCycle reads
//
//	gc 1 @0.021s 0%: 0.010+0.12+0.012 ms clock, 0.080+0.012/0.1/0.2+0.096 ms cpu, 4->4->2 MB, 5 MB goal, 0 MB stacks, 0 MB globals, 8 P (forced)
//
// like says that it begins as such a line does.
func parseCycle(s string) (c Cycle, ok, like bool) {
	head, rest, found := strings.Cut(s, ": ")
	f := strings.Fields(head)
	// Go 1.26 adds "(checking for goroutine leaks)" to the head of a collection that does.
	if !found || len(f) < 4 || len(f) > 4 && !strings.HasPrefix(f[4], "(") || !strings.HasPrefix(f[2], "@") {
		return c, false, false
	}
	number, err1 := strconv.ParseUint(f[1], 10, 31)
	at, err2 := seconds(strings.TrimSuffix(strings.TrimPrefix(f[2], "@"), "s"))
	share, err3 := strconv.ParseUint(strings.TrimSuffix(f[3], "%"), 10, 31)
	if err1 != nil || err2 != nil || err3 != nil || !strings.HasSuffix(f[3], "%") {
		return c, false, false
	}
	c.Number, c.At, c.Share = int(number), at, float64(share)/100
	seen := 0
	for part := range strings.SplitSeq(strings.TrimSpace(rest), ", ") {
		part = strings.TrimSpace(part)
		var bad bool
		switch {
		case strings.HasSuffix(part, " ms clock"):
			t, n := milliseconds(strings.TrimSuffix(part, " ms clock"), "+")
			if bad = n != 3; !bad {
				c.SweepTermination, c.Mark, c.MarkTermination = t[0], t[1], t[2]
				seen |= 1
			}
		case strings.HasSuffix(part, " ms cpu"):
			t, n := milliseconds(strings.TrimSuffix(part, " ms cpu"), "+/")
			if bad = n != 5; !bad {
				c.SweepCPU, c.AssistCPU, c.BackgroundCPU, c.IdleCPU, c.TerminationCPU = t[0], t[1], t[2], t[3], t[4]
				seen |= 2
			}
		case strings.HasSuffix(part, " MB goal"):
			c.Goal, bad = megabytes(strings.TrimSuffix(part, " MB goal"))
			seen |= 4
		case strings.HasSuffix(part, " MB stacks"):
			c.Stacks, bad = megabytes(strings.TrimSuffix(part, " MB stacks"))
		case strings.HasSuffix(part, " MB globals"):
			c.Globals, bad = megabytes(strings.TrimSuffix(part, " MB globals"))
		case strings.HasSuffix(part, " MB"):
			if sizes := strings.Split(strings.TrimSuffix(part, " MB"), "->"); len(sizes) == 3 {
				var b1, b2, b3 bool
				c.Begin, b1 = megabytes(sizes[0])
				c.End, b2 = megabytes(sizes[1])
				c.Live, b3 = megabytes(sizes[2])
				bad = b1 || b2 || b3
				seen |= 8
			} else {
				bad = true
			}
		default:
			// "8 P", "8 P (forced)", and what other output hung onto the line.
			p, tail, _ := strings.Cut(part, " P")
			if n, err := strconv.ParseUint(p, 10, 31); err == nil {
				c.Procs, c.Forced = int(n), strings.HasPrefix(tail, " (forced)")
				seen |= 16
			}
		}
		if bad {
			return c, false, true
		}
		if seen&16 != 0 {
			break
		}
	}
	return c, seen == 31, true
}

func seconds(s string) (time.Duration, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f < 1e9) {
		return 0, strconv.ErrSyntax
	}
	return time.Duration(f * float64(time.Second)), nil
}

func milliseconds(s, separators string) (t [5]time.Duration, n int) {
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
		f, err := strconv.ParseFloat(part, 64)
		if err != nil || !(f >= 0 && f < 1e12) || n == len(t) {
			return t, -1
		}
		t[n] = time.Duration(f * float64(time.Millisecond))
		n++
	}
	return t, n
}

func megabytes(s string) (n uint64, bad bool) {
	n, err := strconv.ParseUint(s, 10, 40)
	return n << 20, err != nil
}
