package doctor

import (
	"bytes"
	"cmp"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// Collector gathers Evidence. It is for one call of one of its methods.
type Collector struct {
	// Root is the file system of this machine: /proc, sources, executables.
	Root fs.FS
	// For is how long a running program is looked at; 0 means 30 seconds. It is between 1 second and an hour.
	For time.Duration
	// Header is sent with every request, for targets that want to know who asks.
	Header http.Header
	// SourceDir is where the main module's source lies, for programs that were built elsewhere. "" means where the profiles
	// say, on this machine.
	SourceDir string
	// NoGC says that the target must not be asked to collect. Then it is seen only as its own collections come.
	NoGC bool
	// Metrics are addresses at which the target serves figures of pools and of its runtime: /debug/vars, or the text format of
	// Prometheus. Without any, /debug/vars and /metrics beside its /debug/pprof are tried.
	Metrics []string
	// NoTrace says that no execution trace is to be taken. Otherwise one is, of a twentieth of For and at most half a second.
	NoTrace bool
	// Settings are what is known of the target's database pools.
	Settings PoolSettings
	// Trace is a log with the output of GODEBUG=gctrace=1; nil is none. It is read while the target is looked at, to its end but no longer
	// than For. One that may stay open without an end, as a pipe does, must have os.File's SetReadDeadline.
	Trace io.Reader
	// Binary is the file of the target's program, for what the target itself does not tell of it; nil is none.
	Binary *Binary
	// Say is told what is going on, in sentences, before it costs the target anything. nil tells nobody.
	Say func(string)

	network *sys.Network // the target's, where it is not the doctor's own; otherwise nil
}

// The share of the target's CPU that looking at it may take, and of that what forced collections may.
const (
	costShare = 0.02
	gcShare   = 0.01
)

func (c *Collector) say(format string, args ...any) {
	if c.Say != nil {
		c.Say(fmt.Sprintf(format, args...))
	}
}

// Collect looks at a target: a URL, or a pid of this machine.
func (c *Collector) Collect(ctx context.Context, target string) (*Evidence, error) {
	if c.For == 0 {
		c.For = 30 * time.Second
	}
	if c.For < time.Second || c.For > time.Hour {
		return nil, &Error{fmt.Errorf("looking for %v: want 1s to 1h", c.For), "30s tells most leaks; one that grows slowly takes minutes"}
	}
	e := &Evidence{Target: target, Settings: c.Settings}
	if c.Binary != nil {
		e.Build = c.Binary.build()
	}
	log := c.beginLog(ctx)
	defer log.stop()
	if pid, err := strconv.Atoi(target); err == nil {
		if err := c.collectPID(ctx, e, pid); err != nil {
			return nil, err
		}
	} else {
		u, err := parseTarget(target)
		if err != nil {
			return nil, err
		}
		e.Target = u.Redacted()
		if err := c.collectURL(ctx, e, u, 0); err != nil {
			return nil, err
		}
	}
	return e, c.endLog(ctx, e, log, time.Now().Add(logGrace)) // last, so that it has what was written meanwhile
}

// collectPID looks at a process of this machine, and at its pprof if it serves one.
func (c *Collector) collectPID(ctx context.Context, e *Evidence, pid int) error {
	if pid <= 0 {
		return &Error{fmt.Errorf("pid %d: want more than 0", pid), "give the pid of a running program"}
	}
	e.Target = "pid " + strconv.Itoa(pid)
	if _, err := SampleProcess(c.Root, pid, 0); errors.Is(err, fs.ErrNotExist) {
		return &Error{fmt.Errorf("there is no process %d", pid), "in a container, pids are the container's own: run the doctor there, or give the pid that the host has"}
	} else if err != nil {
		return err
	}
	if err := c.mayLook(pid); err != nil {
		if c.Trace == nil {
			return err
		}
		e.note(fmt.Sprintf("%v: its log is all that is looked at; %s", err, err.Hint))
	} else if u, err := c.within(ctx, e, pid); err != nil {
		return err
	} else if u != nil {
		defer c.leave()
		c.say("process %d serves pprof at %s", pid, u.Host)
		return c.collectURL(ctx, e, u, pid)
	}
	c.say("looking at /proc/%d for %s; the target does not notice", pid, c.For)
	begin := time.Now()
	err := c.looks(ctx, 12, begin, func(int) error {
		s, err := SampleProcess(c.Root, pid, time.Since(begin))
		if err == nil {
			e.Process = append(e.Process, s)
		}
		return err
	})
	e.Took, e.Cost = time.Since(begin), "nothing: only /proc was read"
	c.settings(e, pid)
	return err
}

// mayLook says why the doctor may not look into a process, as it may not into another user's; nil when it may.
func (c *Collector) mayLook(pid int) *Error {
	dir := path.Join("proc", strconv.Itoa(pid))
	if _, err := fs.ReadLink(c.Root, path.Join(dir, "exe")); !errors.Is(err, fs.ErrPermission) {
		return nil
	}
	why := fmt.Errorf("process %d may not be looked into: it has rights that the doctor has not", pid)
	if b, err := readBounded(c.Root, path.Join(dir, "status"), 64<<10); err == nil {
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 2 && f[0] == "Uid:" && f[2] != strconv.Itoa(os.Geteuid()) {
				why = fmt.Errorf("process %d may not be looked into: it is user %s's, and the doctor runs as user %d", pid, f[2], os.Geteuid())
			}
		}
	}
	return &Error{why, "run the doctor as that user or as root (in a container with CAP_SYS_PTRACE, too), or give the URL of its /debug/pprof"}
}

// within learns what a process's program is, and finds its pprof; nil where it has none.
func (c *Collector) within(ctx context.Context, e *Evidence, pid int) (*url.URL, error) {
	info, err := c.executable(pid)
	switch {
	case err != nil && e.Build.Go != "":
	case errors.Is(err, fs.ErrPermission):
		e.note(fmt.Sprintf("the file of process %d's program may not be read: what it was built of is not known", pid))
	case err != nil:
		e.note(fmt.Sprintf("process %d is not a Go program, as far as its file tells: only what the system knows of it is looked at", pid))
	default:
		e.Build = info
	}
	u, err := c.pprofOf(ctx, e, pid)
	if u == nil {
		c.leave()
	}
	return u, err
}

// executable reads what a process's program was built of.
func (c *Collector) executable(pid int) (Build, error) {
	f, err := c.Root.Open(path.Join("proc", strconv.Itoa(pid), "exe"))
	if err != nil {
		return Build{}, err
	}
	defer func() { _ = f.Close() }()
	r, ok := f.(io.ReaderAt)
	if !ok {
		return Build{}, errors.New("the program's file cannot be read")
	}
	info, err := buildinfo.Read(r)
	if err != nil {
		return Build{}, err
	}
	return Build{Module: info.Main.Path, Go: info.GoVersion}, nil
}

// looks calls look n times over the time that the collector has.
func (c *Collector) looks(ctx context.Context, n int, begin time.Time, look func(int) error) error {
	for i := range n {
		due := begin.Add(c.For * time.Duration(i) / time.Duration(n-1))
		t := time.NewTimer(time.Until(due))
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		if err := look(i); err != nil {
			return err
		}
	}
	return nil
}

// owner is the pid of the process that serves a URL on this machine, 0 if it is elsewhere or not to be seen.
func (c *Collector) owner(u *url.URL) int {
	host := u.Hostname()
	if a, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !a.IsLoopback()) {
		return 0
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme]), 10, 16)
	if err != nil {
		return 0
	}
	d, err := sys.OpenDiag()
	if err != nil {
		return 0
	}
	defer func() { _ = d.Close() }()
	listeners, err := d.Listeners(uint16(port))
	if err != nil {
		return 0
	}
	if a, err := netip.ParseAddr(host); err == nil { // of several on a port, the one that this address leads to
		listeners = answering(listeners, netip.AddrPortFrom(a.Unmap(), uint16(port)))
	}
	for _, l := range listeners {
		if pid := sys.SocketOwner(c.Root, l.Inode); pid > 0 {
			return pid
		}
	}
	return 0
}

// collectURL looks at a program that serves pprof. pid is 0 where it is not known yet.
func (c *Collector) collectURL(ctx context.Context, e *Evidence, u *url.URL, pid int) error {
	p := newProfiler(u, c.Header, c.dial)
	defer p.close()
	// The first look tells what the others will cost.
	b, err := p.get(ctx, "heap", url.Values{"debug": {"1"}})
	if err != nil {
		if p.status == http.StatusNotFound && c.collectVars(ctx, e, p, u, pid) {
			return nil
		}
		if errors.Is(err, errNoProfile) {
			return &Error{fmt.Errorf("%s has no heap profile", u.Redacted()), "is it /debug/pprof of a Go program?"}
		}
		return err
	}
	if !bytes.HasPrefix(b, []byte("heap profile:")) {
		return &Error{fmt.Errorf("%s answers, but not with the heap profile of a Go program", u.Redacted()), "give the address of a Go program that imports net/http/pprof"}
	}
	m, err := ParseMemStats(b, 0)
	if err != nil {
		return err
	}
	if pid == 0 {
		pid = c.owner(u)
	}
	if pid > 0 {
		if info, err := c.executable(pid); err == nil {
			e.Build = info
		}
	} else {
		e.note("the program's process was not found on this machine: its descriptors, sockets and resident memory were not looked at")
	}
	served, size, err := c.served(ctx, p, u)
	if err != nil {
		return err
	}
	pl := c.plan(m, len(b)+size/3)
	traced := time.Duration(0)
	if !c.NoTrace {
		traced = min(time.Second/2, c.For/20)
		pl.text += fmt.Sprintf(", and an execution trace of %s at the end, which slows the program by a few percent while it runs", traced)
	}
	c.say("looking at %s for %s: %s", e.Target, c.For, pl.text)
	e.Cost = pl.text

	begin := time.Now()
	cpu := time.Duration(0)
	if pid > 0 {
		if s, err := SampleProcess(c.Root, pid, 0); err == nil {
			cpu = s.CPU
		}
	}
	var locks lockLooks
	err = c.looks(ctx, pl.looks, begin, func(i int) error {
		if err := c.look(ctx, e, p, &pl, pid, i, begin); err != nil {
			return err
		}
		for _, s := range served {
			if b, ok := p.page(ctx, s); ok {
				e.takeServed(b, time.Since(begin))
			}
		}
		if i == 0 || i == pl.looks-1 {
			locks.look(ctx, e, p, time.Since(begin))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if traced > 0 {
		c.takeTrace(ctx, e, p, traced)
	}
	c.leakProfile(ctx, e, p)
	e.Took = time.Since(begin)
	if pid > 0 {
		c.settings(e, pid)
	}
	text := fmt.Sprintf("%d looks took the target %s of %s to answer, and %d collections were asked for", pl.looks, p.spent.Round(time.Millisecond), e.Took.Round(100*time.Millisecond), pl.collections)
	if s, err := SampleProcess(c.Root, pid, 0); pid > 0 && err == nil {
		text += fmt.Sprintf(" (its CPU meanwhile, its own work included: %s)", (s.CPU - cpu).Round(10*time.Millisecond))
	}
	e.Cost = text
	if pid > 0 || c.SourceDir != "" {
		var frames []Frame
		e.frames(func(f Frame) bool { frames = append(frames, f); return true })
		e.Source = LoadSource(c.Root, c.SourceDir, e.places(), frames)
		c.loadLibraries(e)
	}
	if e.Source == nil {
		e.note("the program's source was not read: lines are those that allocate or wait; with --source DIR the one that keeps is named too")
	}
	return nil
}

// plan is how often to look, and whether to ask for collections.
type plan struct {
	looks       int
	every       int // ask for a collection before each so many looks; 0 is never
	collections int // asked for so far
	text        string
}

// plan chooses the looks for what they cost: answers by the size of the first, and a collection by what is alive, a MiB of which
// takes about a millisecond of CPU.
func (c *Collector) plan(m MemStats, size int) plan {
	pl := plan{looks: 16}
	if c.For < 10*time.Second {
		pl.looks = 12
	}
	// To write a profile takes the target about 30 ns of CPU a byte; a look is two heap profiles and the goroutines. How long
	// the first answer took says more about the network and about who else uses the CPUs.
	answer := time.Millisecond + time.Duration(size)*3*30*time.Nanosecond
	for pl.looks > 8 && time.Duration(pl.looks)*answer > time.Duration(float64(c.For)*(costShare-gcShare)) {
		pl.looks--
	}
	gc, budget := collectionCost(m.HeapAlloc), time.Duration(float64(c.For)*gcShare)
	pl.text = fmt.Sprintf("%d looks at heap and goroutines, about %s each", pl.looks, answer.Round(time.Millisecond))
	switch {
	case c.NoGC:
		pl.text += ", with no collection asked for"
	case gc > budget:
		pl.text += fmt.Sprintf(", with no collection asked for, since one of a heap of %s may cost %s of CPU", bytesText(float64(m.HeapAlloc)), gc.Round(time.Millisecond))
	default:
		// The first tells what is alive, and so how many of the others can be had.
		pl.every = 1
		pl.text += fmt.Sprintf(", after collections that are asked for (%s of CPU at most, all together)", max(gc, budget).Round(time.Millisecond))
	}
	return pl
}

// collectionCost is about what a collection takes, by what is alive.
func collectionCost(alive uint64) time.Duration {
	return time.Millisecond/2 + time.Duration(alive>>20)*time.Millisecond
}

// look gathers what there is at one moment.
func (c *Collector) look(ctx context.Context, e *Evidence, p *profiler, pl *plan, pid, i int, begin time.Time) error {
	query := url.Values{}
	if pl.every > 0 && (i%pl.every == 0 || i == pl.looks-1) {
		query.Set("gc", "1")
		pl.collections++
	}
	b, err := p.get(ctx, "heap", query)
	if err != nil {
		return err
	}
	at := time.Since(begin)
	h, err := ParseHeap(b, at)
	if err != nil {
		return err
	}
	e.Heap = append(e.Heap, h)
	if b, err = p.get(ctx, "heap", url.Values{"debug": {"1"}}); err != nil {
		return err
	}
	m, err := ParseMemStats(b, at)
	if err != nil {
		return err
	}
	e.Memory = append(e.Memory, m)
	if all := float64(pl.looks) * float64(collectionCost(m.HeapAlloc)); i == 0 && pl.every > 0 {
		if pl.every = int(math.Ceil(all / (float64(c.For) * gcShare))); pl.every > pl.looks/2 {
			pl.every = 0
		}
	}
	if pid > 0 {
		if s, err := SampleProcess(c.Root, pid, at); err == nil {
			e.Process = append(e.Process, s)
		}
	}
	if b, err = p.get(ctx, "goroutine", nil); err != nil {
		if errors.Is(err, errNoProfile) {
			e.note("the target has no goroutine profile")
			return nil
		}
		return err
	}
	n, err := ParseCounts(b, time.Since(begin))
	if err != nil {
		return err
	}
	e.Counts = append(e.Counts, n)
	// A dump stops the world for some microseconds a goroutine.
	const mostDumped = 20_000
	if i != 0 && i != pl.looks/3 && i != 2*pl.looks/3 && i != pl.looks-1 {
		return nil
	}
	if n.Total > mostDumped {
		e.note(fmt.Sprintf("there are %d goroutines: to write each of them down would stop the program for too long, so their states and ages are not known", n.Total))
		return nil
	}
	if b, err = p.get(ctx, "goroutine", url.Values{"debug": {"2"}}); err != nil {
		return err
	}
	d, err := ParseGoroutines(b, time.Since(begin))
	if err != nil {
		return err
	}
	e.Goroutines = append(e.Goroutines, d)
	return nil
}

// leakProfile asks for the goroutines that the runtime itself proves to be stuck, where it was built to.
func (c *Collector) leakProfile(ctx context.Context, e *Evidence, p *profiler) {
	if c.NoGC {
		return
	}
	b, err := p.get(ctx, "goroutineleak", nil)
	if err != nil {
		return
	}
	if l, err := ParseCounts(b, 0); err == nil {
		e.Leaked = l.Stacks
	}
}

// File is a saved profile, dump or log.
type File struct {
	Name string
	Data []byte
	At   time.Time // when it was written, where the content does not tell
}

// Files makes evidence of saved files: heap and goroutine profiles, dumps of goroutines, logs with gctrace, in any order. What a file is,
// its content tells.
func (c *Collector) Files(ctx context.Context, files []File) (*Evidence, error) {
	e := &Evidence{Target: fmt.Sprintf("%d files", len(files)), Settings: c.Settings, Cost: "nothing: saved files were read"}
	log, most := c.beginLog(ctx), time.Now().Add(cmp.Or(c.For, 30*time.Second))
	defer log.stop()
	if c.Binary != nil {
		e.Build = c.Binary.build()
	}
	var begin, end time.Time
	var locks []LockProfile
	moment := func(f File) time.Time {
		if len(f.Data) > 2 && f.Data[0] == 0x1f {
			if p, err := parseProfile(f.Data); err == nil && p.TimeNanos > 0 {
				return time.Unix(0, p.TimeNanos)
			}
		}
		return f.At
	}
	files = slices.Clone(files)
	for i := range files {
		files[i].At = moment(files[i])
		b, err := c.named(e, files[i])
		if err != nil {
			return nil, err
		}
		files[i].Data = b
	}
	slices.SortStableFunc(files, func(a, b File) int { return a.At.Compare(b.At) })
	for _, f := range files {
		if begin.IsZero() {
			begin = f.At
		}
		end = f.At
		at := f.At.Sub(begin)
		switch {
		case bytes.HasPrefix(f.Data, []byte("goroutine ")) || bytes.Contains(f.Data[:min(len(f.Data), 64<<10)], []byte("\ngoroutine ")):
			d, err := ParseGoroutines(f.Data, at)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
			e.Goroutines = append(e.Goroutines, d)
		case bytes.HasPrefix(f.Data, []byte("heap profile:")):
			m, err := ParseMemStats(f.Data, at)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
			e.Memory = append(e.Memory, m)
		case bytes.HasPrefix(f.Data, []byte("go 1.")) && bytes.Contains(f.Data[:min(len(f.Data), 32)], []byte(" trace\x00")):
			s, err := ParseSchedule(f.Data)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
			e.Schedule = s
		case len(f.Data) > 2 && f.Data[0] == 0x1f && f.Data[1] == 0x8b:
			h, err := ParseHeap(f.Data, at)
			if err == nil {
				e.Heap = append(e.Heap, h)
				continue
			}
			if p, err := parseProfile(f.Data); err == nil && isLockProfile(p) {
				l, err := ParseLocks(f.Data, at)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", f.Name, err)
				}
				locks = append(locks, l)
				continue
			}
			n, err2 := ParseCounts(f.Data, at)
			if err2 != nil {
				return nil, &Error{fmt.Errorf("%s: %w", f.Name, err), "give heap profiles (curl …/debug/pprof/heap), goroutine profiles or dumps, or logs with gctrace"}
			}
			e.Counts = append(e.Counts, n)
		case bytes.HasPrefix(bytes.TrimLeft(f.Data, " \r\n\t"), []byte("{")), bytes.HasPrefix(f.Data, []byte("# HELP ")), bytes.HasPrefix(f.Data, []byte("# TYPE ")):
			if _, err := ParseServed(f.Data, at); err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
			e.takeServed(f.Data, at)
		default:
			before := len(e.Trace)
			c.addTrace(e, f.Data)
			if len(e.Trace) == before {
				return nil, &Error{fmt.Errorf("%s: it is no profile, no dump of goroutines, and has no line of gctrace", f.Name), "give heap profiles (curl …/debug/pprof/heap), goroutine profiles or dumps, or logs with gctrace"}
			}
		}
	}
	e.Took = end.Sub(begin)
	if err := c.endLog(ctx, e, log, most); err != nil {
		return nil, err
	}
	e.addLocks(locks)
	var frames []Frame
	e.frames(func(f Frame) bool { frames = append(frames, f); return true })
	e.Source = LoadSource(c.Root, c.SourceDir, e.places(), frames)
	c.loadLibraries(e)
	if n := len(e.Heap); n > 0 && n < 4 {
		e.note(fmt.Sprintf("%d heap profiles tell no trend: save four or more, over several collections", n))
	}
	return e, nil
}
