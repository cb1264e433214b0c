package memengine

// slot is the place of its owner in a queue. The zero value, with an owner, is in none.
type slot[T any] struct {
	at    int64 // what the queue is ordered by: Unix milliseconds
	index int   // in the queue, plus 1; 0: in none
	owner T
}

// queue is a binary heap: the slot with the smallest at is its head. An owner may leave its slot where it is while
// the true time moves to later, and sort it out when the slot comes to the head: so a busy stream costs its queues
// nothing.
type queue[T any] []*slot[T]

// head is nil where the queue is empty.
func (q queue[T]) head() *slot[T] {
	if len(q) == 0 {
		return nil
	}
	return q[0]
}

// put moves s to at, or adds it there.
func (q *queue[T]) put(s *slot[T], at int64) {
	s.at = at
	if s.index == 0 {
		*q = append(*q, s)
		s.index = len(*q)
	}
	q.settle(s.index - 1)
}

// remove takes s out, if it is in.
func (q *queue[T]) remove(s *slot[T]) {
	if s.index == 0 {
		return
	}
	i, last := s.index-1, len(*q)-1
	q.swap(i, last)
	(*q)[last] = nil
	*q = (*q)[:last]
	s.index = 0
	if i < last {
		q.settle(i)
	}
	if c := cap(*q); c > 64 && last < c/4 {
		*q = append(make(queue[T], 0, c/2), *q...)
	}
}

// settle moves the slot at i up or down to where it belongs.
func (q queue[T]) settle(i int) {
	for i > 0 && q[i].at < q[(i-1)/2].at {
		q.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		least := i
		for _, child := range [2]int{2*i + 1, 2*i + 2} {
			if child < len(q) && q[child].at < q[least].at {
				least = child
			}
		}
		if least == i {
			return
		}
		q.swap(i, least)
		i = least
	}
}

func (q queue[T]) swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i+1, j+1
}
