// Package contended writes what it counts to a journal while it holds the lock that everybody needs.
package contended

import (
	"fmt"
	"io"
	"sync"
	"time"
)

type ledger struct {
	mu     sync.Mutex
	totals map[string]int
	out    io.Writer
}

var (
	once  sync.Once
	books = ledger{totals: map[string]int{}, out: io.Discard}
)

// book adds to an account, and has the journal on disk before it returns.
func (l *ledger) book(account string, n int) {
	l.mu.Lock() // LEAK
	defer l.mu.Unlock()
	l.totals[account] += n
	l.journal(account, n)
}

func (l *ledger) journal(account string, n int) {
	fmt.Fprintf(l.out, "%s %d\n", account, n)
	time.Sleep(time.Millisecond) // what a disk takes
}

func (l *ledger) work(account string) {
	for {
		l.book(account, 1)
	}
}

// Handle books for a customer; others are at it all the time.
func Handle(i int) {
	once.Do(func() {
		for n := range 24 {
			go books.work(fmt.Sprint("account ", n))
		}
	})
	_ = i
}
