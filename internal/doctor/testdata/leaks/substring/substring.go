// Package substring remembers which hosts have called.
package substring

import (
	"fmt"
	"strings"
	"sync"
)

var (
	mu    sync.Mutex
	hosts = map[string]int{}
)

func logLine(id int) string {
	return fmt.Sprintf("host%d 200 %s", id, strings.Repeat("GET /index.html HTTP/1.1 ", 80))
}

// Handle answers one request.
func Handle(id int) {
	line := logLine(id)
	end := strings.IndexByte(line, ' ')
	host := line[:end] // LEAK: keeps the whole line
	mu.Lock()
	hosts[host]++
	mu.Unlock()
}
