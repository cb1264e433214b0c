package session

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/longwire/longwire/internal/wire/centrifuge"
)

// Ends of many sessions at once. They are paced: each session has its turn, at which it is told to come back, and when. Until
// then it is one like any other.

const (
	// defaultEndRate is how many sessions a second a mass disconnect ends where ConnectRate does not say it.
	defaultEndRate = 1000
	// endAtOnce is how many sessions of one loop a disconnect ends without pacing them.
	endAtOnce = 10
	// jitterMax is how long it takes clients/js and client to come back after a drain without advice, at most.
	jitterMax = 10 * time.Second
	// reasonMax is the longest reason that a close frame has room for, in bytes.
	reasonMax = 123
)

// ending is a mass disconnect under way on one loop.
type ending struct {
	d    *Disconnect
	over time.Duration // from the first turn to the last
}

// turn is when a session's connection is ended.
type turn struct {
	at uint32 // Table.tick
	*ending
}

// Advise adds to the reason of a close when the client may come back, in whole seconds and rounded up: ", retry after 5 s".
// It leaves a reason alone that says so itself or has no room for it, and every reason where wait is not positive.
func Advise(reason string, wait time.Duration) string {
	if wait <= 0 || strings.Contains(strings.ToLower(reason), "retry after") {
		return reason
	}
	s := fmt.Sprintf("%s, retry after %d s", reason, (wait+time.Second-1)/time.Second)
	if len(s) > reasonMax {
		return reason
	}
	return s
}

// Jitter is what each of many clients, whose connections end within over, is told to wait beyond what it has to: a random
// time of more than 0, up to over and up to 10 s. They come back spread as they went, at least, and where that takes long
// by itself nobody stays away for long because of it. It is 0 where over is.
func Jitter(over time.Duration) time.Duration {
	if over <= 0 {
		return 0
	}
	return 1 + rand.N(min(over, jitterMax))
}

// back is when the client of a session that ends now may come back:
//
//	place + jitter
//
// place is the next free one in the line of ConnectRate, in which those wait too who were turned away: so no more come
// back in a second than may connect; 0 without such a rate. jitter is Jitter of the time in which the sessions end that
// end together.
func (t *Table) back(over time.Duration) time.Duration {
	wait := Jitter(over)
	if t.n.connects.rate > 0 {
		wait += t.n.connects.later(t.host.Now())
	}
	return wait
}

// Shutdown ends conn i because the node goes away, which all of them do within over: the client comes back elsewhere.
func (t *Table) Shutdown(i uint32, over time.Duration) {
	t.endWith(i, centrifuge.DisconnectShutdown, over)
}

// endWith ends conn i as one of many, which take over.
func (t *Table) endWith(i uint32, d *Disconnect, over time.Duration) {
	if !t.conn[i].open() {
		return
	}
	advised := *d
	advised.Reason = Advise(d.Reason, t.back(over))
	t.close(i, &advised)
}

// disconnect ends the connections that target names. Whoever is told not to come back is gone at once, and so are a few; of
// more than that each gets a turn, at ConnectRate for the whole node.
func (t *Table) disconnect(target Target, as *DisconnectAs) {
	d := centrifuge.DisconnectForced
	if as.Code != 0 {
		d = &Disconnect{Code: as.Code, Reason: as.Reason}
	}
	stay := make(map[string]bool, len(as.Whitelist))
	for _, id := range as.Whitelist {
		stay[id] = true
	}
	var found []uint32
	t.Each(target, func(i uint32) {
		if len(stay) == 0 || !stay[t.id(i)] {
			found = append(found, i)
		}
	})
	if len(found) <= endAtOnce || !d.Reconnect() {
		for _, i := range found {
			if t.conn[i].phase == phaseConnected { // the end of one may have been that of another
				t.close(i, d)
			}
		}
		return
	}
	e := &ending{d: d}
	var first time.Duration
	for _, i := range found {
		st := &t.conn[i]
		if st.flags&flagTurn != 0 {
			continue // it keeps the turn that it has
		}
		wait := t.n.ends.later(t.host.Now())
		if t.turns == nil {
			t.turns = make(map[uint32]turn)
		}
		if first == 0 {
			first = wait
		}
		e.over = max(e.over, wait-first)
		st.flags |= flagTurn
		t.turns[i] = turn{t.tick(wait), e}
		t.Arm(i)
	}
}

// Turn is the time until conn i is ended as one of many, negative if it is over; false: nobody wants that.
func (t *Table) Turn(i uint32) (time.Duration, bool) {
	if t.conn[i].flags&flagTurn == 0 {
		return 0, false
	}
	return t.until(t.turns[i].at), true
}

// taken ends conn i if its turn has come.
func (t *Table) taken(i uint32) bool {
	if left, ok := t.Turn(i); !ok || left > 0 {
		return false
	}
	by := t.turns[i]
	t.endWith(i, by.d, by.over)
	return true
}

// forgetTurn takes a turn back.
func (t *Table) forgetTurn(i uint32, st *state) {
	if st.flags&flagTurn == 0 {
		return
	}
	st.flags &^= flagTurn
	if delete(t.turns, i); len(t.turns) == 0 {
		t.turns = nil // a map keeps the room that it once had
	}
}
