// Package nokeepalive asks another service for prices.
package nokeepalive

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"
)

var backend = sync.OnceValue(func() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "price", r.URL.Path)
	}))
})

func price(id int) (string, error) {
	client := &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 8}, // LEAK: its connections are closed with it
	}
	defer client.CloseIdleConnections()
	resp, err := client.Get(fmt.Sprintf("%s/%d", backend().URL, id))
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

var questions = sync.OnceValue(func() chan int {
	q := make(chan int)
	for range 8 {
		go func() {
			for id := range q {
				_, _ = price(id)
			}
		}()
	}
	return q
})

// Handle answers one request.
func Handle(id int) {
	if id%2 == 0 {
		questions() <- id
	}
}
