package waittest

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// TestUntil has a condition come at once, after a while, and never.
func TestUntil(t *testing.T) {
	for _, after := range []int{1, 2, haste + 3} {
		asked := 0
		Until(t, "the count", func() bool { asked++; return asked == after })
		if asked != after {
			t.Errorf("asked %d times, want %d", asked, after)
		}
	}
	if comes(func() bool { return false }, time.Millisecond) {
		t.Error("what never holds came")
	}
}

// TestLog has lines written and waited for.
func TestLog(t *testing.T) {
	l := new(Log)
	var written atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range 10 {
			written.Add(1)
			fmt.Fprintf(l, "line=%d of=ten\n", n)
		}
	}()
	l.Want(t, "of=ten", "line=9")
	if n := written.Load(); n != 10 {
		t.Errorf("the tenth line came after %d", n)
	}
	<-done
	for _, words := range [][]string{{"line=10"}, {"line=1", "line=2"}} {
		if l.has(words) {
			t.Errorf("a line has %q in\n%s", words, l)
		}
	}
}
