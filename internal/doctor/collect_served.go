package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// served finds the addresses at which the target serves figures of use, and how many bytes they answer with.
func (c *Collector) served(ctx context.Context, p *profiler, pprof *url.URL) (list []*url.URL, size int, err error) {
	for _, m := range c.Metrics {
		u, err := url.Parse(m)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, 0, &Error{fmt.Errorf("metrics %q: want a URL of http or https", m), "such as http://127.0.0.1:9090/metrics or http://127.0.0.1:6060/debug/vars"}
		}
		b, ok := p.page(ctx, u)
		if ok {
			_, err = ParseServed(b, 0)
		} else {
			err = errors.New("it does not answer")
		}
		if err != nil {
			return nil, 0, &Error{fmt.Errorf("metrics %s: %w", u.Redacted(), err), "give the address of /debug/vars or of metrics in the text format of Prometheus"}
		}
		list, size = append(list, u), size+len(b)
	}
	if len(list) > 0 {
		return list, size, nil
	}
	for _, u := range besidePprof(pprof) {
		b, ok := p.page(ctx, u)
		if !ok {
			continue
		}
		if s, err := ParseServed(b, 0); err == nil && (len(s.Pools) > 0 || !s.Figures.empty()) {
			list, size = append(list, u), size+len(b)
		}
	}
	return list, size, ctx.Err()
}

// besidePprof are the addresses where a program that serves …/debug/pprof/ may have its figures.
func besidePprof(pprof *url.URL) []*url.URL {
	at := func(path string) *url.URL {
		u := *pprof
		u.Path, u.RawQuery = path, ""
		return &u
	}
	base := strings.TrimSuffix(pprof.Path, "/debug/pprof/")
	return []*url.URL{at(base + "/debug/vars"), at(base + "/metrics")}
}

// takeServed takes what a program serves of itself at one moment.
func (e *Evidence) takeServed(b []byte, at time.Duration) {
	s, err := ParseServed(b, at)
	if err != nil {
		return
	}
	e.Pools = append(e.Pools, s.Pools...)
	if !s.Figures.empty() {
		e.Runtime = append(e.Runtime, s.Figures)
	}
}

// collectVars looks at a program that serves /debug/vars and no profiles. It says whether it does.
func (c *Collector) collectVars(ctx context.Context, e *Evidence, p *profiler, pprof *url.URL, pid int) bool {
	u := besidePprof(pprof)[0]
	b, ok := p.page(ctx, u)
	if !ok {
		return false
	}
	if s, err := ParseServed(b, 0); err != nil || s.Memory == nil {
		return false
	}
	if pid == 0 {
		pid = c.owner(pprof)
	}
	c.say("%s serves no profiles, but figures at /debug/vars: looking at those for %s, 12 times; each stops the program for some microseconds", e.Target, c.For)
	begin := time.Now()
	err := c.looks(ctx, 12, begin, func(int) error {
		at := time.Since(begin)
		if b, ok := p.page(ctx, u); ok {
			e.takeServed(b, at)
			if s, err := ParseServed(b, at); err == nil && s.Memory != nil {
				e.Memory = append(e.Memory, *s.Memory)
			}
		}
		if pid > 0 {
			if s, err := SampleProcess(c.Root, pid, at); err == nil {
				e.Process = append(e.Process, s)
			}
		}
		return nil
	})
	e.Took, e.Cost = time.Since(begin), fmt.Sprintf("12 requests took the target %s to answer", p.spent.Round(time.Millisecond))
	e.note(`the target serves /debug/vars and no /debug/pprof: no line can be named; import _ "net/http/pprof" in it`)
	return err == nil && len(e.Memory) > 0
}

// lockLooks are the mutex and block profiles of the first look, and whether they are on.
type lockLooks struct {
	first map[string]LockProfile
	off   bool
}

// look fetches them, and keeps what came since the first time.
func (l *lockLooks) look(ctx context.Context, e *Evidence, p *profiler, at time.Duration) {
	begun := l.first != nil
	if !begun {
		l.first = map[string]LockProfile{}
		// Without a sample it may be off or of no use; its text form says which.
		if b, err := p.get(ctx, "mutex", url.Values{"debug": {"1"}}); err == nil {
			l.off = mutexPeriod(b) == 0
		}
	}
	for _, name := range []string{"mutex", "block"} {
		if _, known := l.first[name]; begun && !known || name == "mutex" && l.off {
			continue
		}
		b, err := p.get(ctx, name, nil)
		if err != nil {
			continue
		}
		now, err := ParseLocks(b, at)
		switch {
		case err != nil:
		case !begun:
			l.first[name] = now
		default:
			e.Locks = append(e.Locks, now.since(l.first[name]))
		}
	}
}

// addLocks takes saved profiles: one of a stretch of time as it is, of several since the start what came between the first and the last.
func (e *Evidence) addLocks(list []LockProfile) {
	first := map[bool]LockProfile{}
	latest := map[bool]LockProfile{}
	for _, l := range list {
		if l.Span > 0 {
			e.Locks = append(e.Locks, l)
			continue
		}
		holds := len(l.Stacks) > 0 && l.Stacks[0].Holds
		if _, ok := first[holds]; !ok {
			first[holds] = l
		}
		latest[holds] = l
	}
	for _, holds := range []bool{true, false} {
		a, ok := first[holds]
		if b := latest[holds]; ok && b.At > a.At {
			e.Locks = append(e.Locks, b.since(a))
		} else if ok && len(a.Stacks) > 0 {
			e.note("one mutex or block profile since the program's start does not tell how much time it covers: save two, or one with ?seconds=30")
		}
	}
}

// takeTrace takes an execution trace.
func (c *Collector) takeTrace(ctx context.Context, e *Evidence, p *profiler, d time.Duration) {
	b, ok := p.beginning(ctx, "trace", url.Values{"seconds": {strconv.FormatFloat(d.Seconds(), 'f', -1, 64)}}, mostTrace)
	if !ok {
		return // it is not served, or one is being taken already
	}
	s, err := ParseSchedule(b)
	if err != nil {
		e.note(fmt.Sprintf("the execution trace is of no use: %v", err))
		return
	}
	s.Cut = s.Cut || len(b) == mostTrace
	e.Schedule = s
}
