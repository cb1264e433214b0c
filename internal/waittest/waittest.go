// Package waittest is what tests wait with for things that have no signal: conditions that are asked again and again, and a
// log that can be read while it is written.
package waittest

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a condition may take to come, however slow the machine is.
const patience = time.Minute

// haste is how often a condition is asked at once; after that there is a millisecond between two looks.
const haste = 1000

// Until returns when ok does, which it asks on the calling goroutine. The test ends where that does not come in a minute.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !comes(ok, patience) {
		t.Fatalf("it never came: %s", what)
	}
}

func comes(ok func() bool, patience time.Duration) bool {
	deadline := time.Now().Add(patience)
	for n := 0; !ok(); n++ {
		if time.Now().After(deadline) {
			return false
		}
		if n < haste {
			runtime.Gosched()
		} else {
			time.Sleep(time.Millisecond)
		}
	}
	return true
}

// Log keeps what a logger writes. Any goroutine may write and read.
type Log struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

// Write implements io.Writer, and never fails.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String is all that was written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Want waits for a line that has all the words.
func (l *Log) Want(t testing.TB, words ...string) {
	t.Helper()
	if !comes(func() bool { return l.has(words) }, patience) {
		t.Fatalf("no line has all of %q in\n%s", words, l)
	}
}

func (l *Log) has(words []string) bool {
	for line := range strings.Lines(l.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			return true
		}
	}
	return false
}
