package loop

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// How many loops, and what each may hold.

// Table says whether a loop's thread has a descriptor table of its own.
type Table uint8

// The tables: TableAuto is private where the process's one table cannot hold MaxConns.
const (
	TableAuto Table = iota
	TableShared
	TablePrivate
)

// Options describe a group. NewHandler is required; the zero value of the rest serves.
type Options struct {
	// MaxConns bounds the conns of all loops together. Zero means what one descriptor table holds, at
	// most a million.
	MaxConns int
	// Loops is how many loops start. Zero means one for each CPU that Go uses; more start by themselves when
	// these are full and tables are private.
	Loops int
	// Table chooses the descriptor tables.
	Table Table
	// NewHandler makes a loop's handler, on the loop's thread.
	NewHandler func(l *Loop) Handler
	// Socket is set on the listeners.
	Socket sys.ListenOptions
	// ReadBuffer is a loop's one read buffer, in bytes. Zero means 64 KiB.
	ReadBuffer int
	// Keep are descriptors that every private table keeps under the same numbers, beside the loops' own.
	Keep []int
	// Closing is called on the loop's thread right before conn i's socket is closed: with how it ended, and whether its peer gets
	// a reset for it. It is not called for what went elsewhere or was refused. Nil is nobody.
	Closing func(l *Loop, i uint32, e End, abort bool)
	// Inbox bounds the bytes that wait in one loop's inbox. Zero means 16 MiB.
	Inbox int
	// Log gets what a loop cannot say otherwise. Nil means slog.Default().
	Log *slog.Logger
	// System is the kernel. Nil means NewSystem().
	System System
}

// Layout is how a group spreads conns over loops, derived from MaxConns and the descriptor limit.
type Layout struct {
	MaxConns    int
	Loops       int // started at once
	MaxLoops    int // started when needed
	Budget      int // conns of one loop
	Descriptors int // limit of one table, RLIMIT_NOFILE
	Private     bool
}

func (y Layout) String() string {
	if !y.Private {
		return fmt.Sprintf("%d conns on %d loops, %d descriptors in one table", y.MaxConns, y.Loops, y.Descriptors)
	}
	return fmt.Sprintf("%d conns on %d to %d loops, each with a table of %d descriptors (%d conns)", y.MaxConns, y.Loops, y.MaxLoops, y.Descriptors, y.Budget)
}

const (
	// reserveFDs stay free in each table for what is not a conn: logs, profiles, an application's files.
	reserveFDs = 256
	// fdsPerLoop are a loop's waker and the two ends of its chute, known in every table.
	fdsPerLoop = 3
	// refusals is how many refused conns may linger in one loop beyond its budget.
	refusals = 512
	// retireAfter is how long an extra loop stays after its last conn.
	retireAfter = 5 * time.Second

	defaultMaxConns = 1_000_000
)

// Plan derives a layout from limits: maxConns and loops as in Options, the descriptor limit of a table,
// and the number of CPUs.
func Plan(maxConns, loops int, table Table, limit, cpus int) (Layout, error) {
	if loops == 0 {
		loops = cpus
	}
	if loops < 0 || loops > MaxLoops {
		return Layout{}, fmt.Errorf("plan loops: %d loops: want 1 to %d", loops, MaxLoops)
	}
	shared := limit - reserveFDs - fdsPerLoop*loops - refusals
	if maxConns == 0 {
		maxConns = defaultMaxConns
		if table != TablePrivate {
			maxConns = min(maxConns, shared)
		}
	}
	if maxConns < 1 {
		return Layout{}, fmt.Errorf("plan loops: %d descriptors hold no conn: raise the limit of open files (ulimit -n)", limit)
	}
	y := Layout{MaxConns: maxConns, Loops: loops, MaxLoops: loops, Budget: maxConns, Descriptors: limit}
	y.Private = table == TablePrivate || table == TableAuto && maxConns > shared
	if !y.Private {
		if maxConns > shared {
			return Layout{}, fmt.Errorf("plan loops: %d conns do not fit into one table of %d descriptors (%d are ours): raise the limit (ulimit -n), or allow private tables", maxConns, limit, limit-shared)
		}
		if y.Budget > MaxSlots-refusals {
			return Layout{}, fmt.Errorf("plan loops: %d conns in one loop: at most %d", y.Budget, MaxSlots-refusals)
		}
		return y, nil
	}
	// The chutes and wakers of all loops lie in each table, so the budget depends on their number.
	for n := loops; ; n++ {
		budget := limit - reserveFDs - refusals - fdsPerLoop*n
		if n > MaxLoops || budget < 64 {
			return Layout{}, fmt.Errorf("plan loops: %d conns need more than %d loops with %d descriptors each: raise the limit (ulimit -n)", maxConns, min(n-1, MaxLoops), limit)
		}
		budget = min(budget, MaxSlots-refusals)
		if budget*n >= maxConns {
			y.MaxLoops, y.Budget = n, budget
			return y, nil
		}
	}
}
