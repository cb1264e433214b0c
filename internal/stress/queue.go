package stress

import "time"

// queue is users in the order in which they came. The zero value is empty.
type queue struct {
	users []uint32 // a ring
	first int
	n     int
}

func (q *queue) len() int     { return q.n }
func (q *queue) head() uint32 { return q.users[q.first] }

func (q *queue) push(u uint32) {
	if q.n == len(q.users) {
		more := make([]uint32, max(64, 2*q.n))
		copy(more, q.users[q.first:])
		copy(more[len(q.users)-q.first:], q.users[:q.first])
		q.users, q.first = more, 0
	}
	q.users[(q.first+q.n)%len(q.users)] = u
	q.n++
}

func (q *queue) pop() {
	q.first = (q.first + 1) % len(q.users)
	q.n--
}

// timetable is users by when something is due for them: a heap. The zero value is empty.
type timetable struct{ at []turn }

type turn struct {
	due  time.Duration
	user uint32
}

// first is when the next turn is due; never without one.
func (t *timetable) first() time.Duration {
	if len(t.at) == 0 {
		return never
	}
	return t.at[0].due
}

func (t *timetable) add(due time.Duration, user uint32) {
	t.at = append(t.at, turn{due, user})
	for i := len(t.at) - 1; i > 0; {
		up := (i - 1) / 2
		if t.at[up].due <= t.at[i].due {
			break
		}
		t.at[up], t.at[i] = t.at[i], t.at[up]
		i = up
	}
}

// next takes out the first turn that is due by now.
func (t *timetable) next(now time.Duration) (user uint32, due time.Duration, ok bool) {
	if len(t.at) == 0 || t.at[0].due > now {
		return 0, 0, false
	}
	top := t.at[0]
	last := len(t.at) - 1
	t.at[0] = t.at[last]
	t.at = t.at[:last]
	for i := 0; ; {
		least := i
		for k := 2*i + 1; k <= 2*i+2 && k < last; k++ {
			if t.at[k].due < t.at[least].due {
				least = k
			}
		}
		if least == i {
			return top.user, top.due, true
		}
		t.at[i], t.at[least] = t.at[least], t.at[i]
		i = least
	}
}
