// Package respbody asks another service for prices.
package respbody

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
)

var backend = sync.OnceValue(func() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.Repeat("price 100\n", 1000))
	}))
})

func price(id int) (int, error) {
	resp, err := http.Get(backend().URL) // LEAK: the body is not closed
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("price of %d: %s", id, resp.Status)
	}
	var n int
	_, err = fmt.Fscanf(resp.Body, "price %d", &n)
	return n, err
}

// Handle answers one request.
func Handle(id int) {
	if id%20 == 0 {
		_, _ = price(id)
	}
}
