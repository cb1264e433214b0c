// Package queue hands work to one worker that is slower than what comes.
package queue

import "sync"

type job struct {
	id   int
	data []byte
}

type queue struct {
	mu   sync.Mutex
	jobs []*job
}

func (q *queue) push(j *job) {
	q.mu.Lock()
	q.jobs = append(q.jobs, j) // LEAK: without a limit
	q.mu.Unlock()
}

func (q *queue) pop() *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs) == 0 {
		return nil
	}
	j := q.jobs[0]
	q.jobs = q.jobs[1:]
	return j
}

var work queue

// Handle answers one request.
func Handle(id int) {
	work.push(&job{id: id, data: make([]byte, 512)})
	if id%2 == 0 {
		work.pop()
	}
}
