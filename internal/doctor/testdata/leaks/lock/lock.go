// Package lock keeps balances.
package lock

import (
	"errors"
	"sync"
)

type ledger struct {
	mu      sync.Mutex
	balance map[int]int
}

var (
	book    = &ledger{balance: map[int]int{}}
	errDebt = errors.New("not enough")
)

func (l *ledger) add(account, amount int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.balance[account] += amount
}

func (l *ledger) take(account, amount int) error {
	l.mu.Lock()
	if l.balance[account] < amount {
		return errDebt // LEAK: leaves with the lock held
	}
	l.balance[account] -= amount
	l.mu.Unlock()
	return nil
}

// Handle answers one request.
func Handle(id int) {
	go func() {
		if id%50 == 7 {
			_ = book.take(id%10, 1000)
			return
		}
		book.add(id%10, 1)
	}()
}
