// Package files writes a log for each user.
package files

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

var (
	mu   sync.Mutex
	logs = map[int]*os.File{}
	dir  = sync.OnceValue(func() string { d, _ := os.MkdirTemp("", "files"); _ = os.MkdirAll(d, 0o700); return d })
)

func logOf(user int) (*os.File, error) {
	mu.Lock()
	defer mu.Unlock()
	if f, ok := logs[user]; ok {
		return f, nil
	}
	f, err := os.OpenFile(filepath.Join(dir(), "all.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) // LEAK: opened for each user, closed for none
	if err != nil {
		return nil, err
	}
	logs[user] = f
	return f, nil
}

// Handle answers one request.
func Handle(id int) {
	if id%40 > 0 {
		return
	}
	if f, err := logOf(id); err == nil {
		fmt.Fprintln(f, "here")
	}
}
