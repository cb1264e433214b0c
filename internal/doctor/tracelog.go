package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	mostLog = 256 << 20 // bytes that are kept of a log
	// What a look's end leaves for reading what is in a pipe already.
	logGrace = 200 * time.Millisecond
)

// traceLog reads a log beside the look at the program that writes it: a pipe has to be read as it fills, or the program would stand still,
// and it may stay open without an end. It belongs to the goroutine that began it.
type traceLog struct {
	r         io.Reader
	deadlines bool        // of r work: it can be told to end
	release   func() bool // ends the watch over the context
	done      chan struct{}
	text      []byte // this and what follows are the reading goroutine's until done is closed
	cut       bool   // there was more
	err       error
}

// beginLog begins to read the log, if there is one; whoever calls it stops it.
func (c *Collector) beginLog(ctx context.Context) *traceLog {
	if c.Trace == nil {
		return nil
	}
	l := &traceLog{r: c.Trace}
	l.deadlines = l.until(time.Time{})
	l.release = context.AfterFunc(ctx, func() { l.until(time.Now()) })
	l.read()
	return l
}

// until sets when reading ends at the latest; the zero time is never. It says whether that can be: what never waits, such as a file, ends by
// itself.
func (l *traceLog) until(t time.Time) bool {
	d, ok := l.r.(interface{ SetReadDeadline(time.Time) error })
	return ok && d.SetReadDeadline(t) == nil
}

// read reads on, to the end or the deadline.
func (l *traceLog) read() {
	l.done = make(chan struct{})
	go func() {
		defer close(l.done)
		b := make([]byte, 64<<10)
		for {
			n, err := l.r.Read(b)
			if len(l.text)+n <= mostLog {
				l.text = append(l.text, b[:n]...)
			} else {
				l.cut = true
			}
			switch {
			case err == nil && (l.deadlines || !l.cut): // a writer is not to be held up, though nobody wants more
			case err == nil, errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
				return
			default:
				l.err = err
				return
			}
		}
	}()
}

// stop ends reading where that can be.
func (l *traceLog) stop() {
	if l == nil {
		return
	}
	l.release()
	if l.until(time.Now()) {
		<-l.done
	}
}

// endLog takes what was read into the evidence, once the log or the time for it has ended.
func (c *Collector) endLog(ctx context.Context, e *Evidence, l *traceLog, latest time.Time) error {
	if l == nil {
		return nil
	}
	l.until(latest)
	select {
	case <-l.done:
		if l.err == nil {
			l.read() // a file may have grown since its end was read
		}
	default:
	}
	select {
	case <-l.done:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if l.err != nil {
		return fmt.Errorf("read gctrace: %w", l.err)
	}
	if l.cut {
		e.note(fmt.Sprintf("the log has more than %d MiB: the rest was passed over", mostLog>>20))
	}
	c.addTrace(e, l.text)
	if len(e.Trace) == 0 {
		e.note("the log has no line of GODEBUG=gctrace=1: start the program with it, and give what it writes to standard error")
	}
	return nil
}

func (c *Collector) addTrace(e *Evidence, b []byte) {
	cycles, skipped := ParseTrace(b)
	e.Trace = append(e.Trace, cycles...)
	if skipped > 0 {
		e.note(fmt.Sprintf("%d lines of the log look like a collection's, but other output is mixed into them: they are left out", skipped))
	}
}
