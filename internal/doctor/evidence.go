package doctor

import (
	"slices"
	"time"
)

// Evidence is what was gathered about one program. It is a value: no check asks for more. What could not be had is
// empty, and Notes says why.
type Evidence struct {
	Target     string
	Took       time.Duration
	Cost       string // what gathering cost the target, in words
	Build      Build
	Heap       []HeapSample      // by time
	Counts     []GoroutineCounts // by time: goroutines by stack
	Goroutines []GoroutineDump   // by time: each goroutine by itself, of fewer moments
	Leaked     []Stack           // the runtime's own goroutineleak profile
	Memory     []MemStats        // by time
	Process    []ProcessSample   // by time
	Network    NetworkSettings   // of the process's network namespace
	Trace      []Cycle           // from GODEBUG=gctrace=1
	Locks      []LockProfile     // mutex and block profiles, each what came between two of them
	Schedule   *Schedule         // of an execution trace; nil is none
	Runtime    []RuntimeFigures  // by time, from metrics that the program serves
	Pools      []PoolSample      // by time, of all pools
	Settings   PoolSettings      // of databases, as far as they were given
	Handshake  *Handshake        // nil where no handshake was tried
	Plan       *Plan             // nil where nothing was planned
	Built      []Step            // what the program's file tells, where nothing but that was looked at
	Source     *Source           // nil where no source is at hand
	Libraries  *Source           // of others' packages, on stacks that grew; nil where none is
	libraries  []string          // their directories, as frames name them
	Notes      []string
}

// Build is what is known of how the program was built.
type Build struct {
	Module string // the main module's path; "" is unknown
	Go     string // such as go1.26.1
}

// Frame is a line of a call stack.
type Frame struct {
	Function string
	File     string
	Line     int
}

// Stack is a call stack, the callee first, and how many have it.
type Stack struct {
	Frames []Frame
	Count  int64
}

// HeapSample is one heap profile.
type HeapSample struct {
	At    time.Duration // since the beginning
	Rate  int64         // bytes per sample, runtime.MemProfileRate
	Sites []HeapSite
}

// HeapSite is what one stack allocated; figures are estimates, scaled up by the sampling rate.
type HeapSite struct {
	Frames       []Frame // the callee first; the runtime's own allocator left out
	AllocObjects int64   // since the start of the program
	AllocBytes   int64
	Objects      int64 // alive at the last collection
	Bytes        int64
}

// GoroutineCounts are the goroutines by stack at one moment.
type GoroutineCounts struct {
	At     time.Duration
	Stacks []Stack
	Total  int64
}

// GoroutineDump is every goroutine at one moment.
type GoroutineDump struct {
	At         time.Duration
	Goroutines []Goroutine
}

// Goroutine is one goroutine as the runtime writes it.
type Goroutine struct {
	ID      int64
	State   string        // such as "chan receive" or "select"
	Wait    time.Duration // how long it has been in the state, to a minute
	Locked  bool          // to its thread
	Leaked  bool          // the runtime has proven that nothing will wake it
	Frames  []Frame
	Elided  int   // frames that the runtime left out
	Created Frame // the go statement; zero for the main goroutine
	Parent  int64 // the goroutine that ran it; 0 is unknown
}

// MemStats are the figures of runtime.MemStats that checks use, in bytes.
type MemStats struct {
	At                                time.Duration
	Sys, HeapAlloc, HeapInuse         uint64
	HeapSys                           uint64 // of Sys: in use, idle, and released
	HeapReleased, StackInuse, Mallocs uint64
	NumForcedGC                       uint64 // collections that were asked for
	NumGC                             uint64 // all collections
	NextGC                            uint64 // bytes at which the next one is due
}

// ProcessSample is what the system tells of the process at one moment. Maps that could not be read are nil.
type ProcessSample struct {
	At              time.Duration
	Resident        uint64 // bytes, as all below
	Anonymous       uint64
	FileBacked      uint64
	Shared          uint64
	Swap            uint64
	CPU             time.Duration
	Threads         int
	Mappings        int            // areas of memory
	Descriptors     map[string]int // by kind: socket, file, pipe, eventfd, …
	Files           map[string]int // open regular files by path, the most frequent
	Sockets         map[string]int // TCP sockets of the process by state
	Network         NetworkSample
	DescriptorLimit int
	Group           CgroupSample
}

// last is the newest of samples.
func last[T any](s []T) (v T, ok bool) {
	if len(s) == 0 {
		return v, false
	}
	return s[len(s)-1], true
}

// note adds a sentence once.
func (e *Evidence) note(s string) {
	if !slices.Contains(e.Notes, s) {
		e.Notes = append(e.Notes, s)
	}
}
