// Package globalcache remembers answers by query.
package globalcache

import (
	"fmt"
	"strings"
	"sync"
)

var answers sync.Map

func compute(query string) string {
	return strings.Repeat(query, 20)
}

func answer(query string) string {
	if a, ok := answers.Load(query); ok {
		return a.(string)
	}
	a := compute(query)
	answers.Store(query, a) // LEAK: queries have no end
	return a
}

// Handle answers one request.
func Handle(id int) {
	_ = answer(fmt.Sprintf("q=%d", id))
}
