// Package waitgroup asks several sources at once.
package waitgroup

import "sync"

func ask(source, id int) (int, bool) { return source * id, source != id%50 }

func gather(id int) int {
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for source := range 3 {
		wg.Add(1)
		go func() {
			n, ok := ask(source, id)
			if !ok {
				return // LEAK: without Done
			}
			mu.Lock()
			total += n
			mu.Unlock()
			wg.Done()
		}()
	}
	wg.Wait()
	return total
}

// Handle answers one request.
func Handle(id int) {
	go gather(id)
}
