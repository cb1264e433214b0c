package console_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/console"
)

// mock is an admin API that does what a test tells it, for what a real gateway does rarely. It has the page of package
// console in front of it.
type mock struct {
	*httptest.Server
	pushed chan struct{} // takes an element for each snapshot that is to come after the first

	mu       sync.Mutex
	token    string // empty: none is asked for
	throttle bool   // wrong tokens are told to wait
	status   int    // of all answers; 0 is as it should be
	recorder bool
	users    string        // of all sessions
	changed  chan struct{} // closed when something of this was changed
	snapshot map[string]any
	seq      int
	asked    []string // method, path and body of what was asked for, live apart
	held     int      // questions for a newer snapshot that wait
}

func newMock(t *testing.T) *mock {
	t.Helper()
	m := &mock{pushed: make(chan struct{}), recorder: true, users: "ann", changed: make(chan struct{}), snapshot: quietSnapshot()}
	page := console.Handler()
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/admin/v1/") {
			m.serve(w, r)
			return
		}
		page.ServeHTTP(w, r)
	}))
	t.Cleanup(m.Server.Close)
	return m
}

// set changes what the mock does. Whoever waits for a snapshot gets one.
func (m *mock) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
	close(m.changed)
	m.changed = make(chan struct{})
}

// questions are what was asked for since the last call, live apart.
func (m *mock) questions() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.asked
	m.asked = nil
	return q
}

func quietSnapshot() map[string]any {
	zero := func(names ...string) map[string]any {
		z := make(map[string]any)
		for _, n := range names {
			z[n] = 0
		}
		return z
	}
	return map[string]any{
		"interval_s": 1, "draining": false, "conns": 1000, "max_conns": 1_000_000, "http": 2, "sessions": 900, "subscriptions": 1800, "queue_bytes": 0,
		"rss_bytes": 83_200_000, "heap_bytes": 9_000_000, "goroutines": 66,
		"gc": map[string]any{"cycles": 10, "pause_last_ms": 0.06, "pause_max_ms": 0.11}, "loop": map[string]any{"active": 2, "busy_share": 0.2, "lag_p99_us": 128, "lag_max_us": 2048},
		"rates": zero("accepted", "upgraded", "closed", "refused", "messages_in", "messages_out", "bytes_in", "bytes_out", "pings", "publications"),
		"ws": map[string]any{"states": map[string]any{"handshake": 3, "open": 990, "closing": 7},
			"edges": zero("accept>handshake", "handshake>open", "handshake>http", "handshake>refused", "handshake>timeout", "open>closing", "closing>closed", "open>closed")},
		"tcp":     map[string]any{"available": false, "why": "connections are not traced: --trace"},
		"causes":  []any{map[string]any{"cause": "client_close", "total": 70, "rate": 0}, map[string]any{"cause": "heartbeat_timeout", "total": 7, "rate": 0}, map[string]any{"cause": "reset", "total": 0, "rate": 0}},
		"refused": []any{map[string]any{"reason": "max_conns", "total": 0, "rate": 0}},
	}
}

// hostile is what a name may be at its worst.
const hostile = "</script><img src=x onerror=alert(1)>\u202e\u2066{{.}}\n"

func (m *mock) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the page went away
	}
	name := strings.TrimPrefix(r.URL.Path, "/admin/v1/")
	m.mu.Lock()
	defer m.mu.Unlock()
	if name != "live" {
		m.asked = append(m.asked, strings.TrimSpace(name+" "+string(body)))
	}
	fail := func(status int, code, message string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": code, "message": message}})
	}
	if m.status != 0 {
		w.Header().Set("Retry-After", "5")
		fail(m.status, "busy", "256 already watch this node")
		return
	}
	if m.token != "" && r.Header.Get("Authorization") != "Bearer "+m.token {
		if m.throttle {
			w.Header().Set("Retry-After", "2")
			fail(http.StatusTooManyRequests, "too_many_failures", "too many wrong tokens")
			return
		}
		fail(http.StatusUnauthorized, "unauthorized", "no admin token, or a wrong one")
		return
	}
	var q struct {
		Client, User, Cause, Cursor, Pattern string
		Limit                                int
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &q); err != nil {
			fail(http.StatusBadRequest, "bad_request", err.Error())
			return
		}
	}
	answer := map[string]any{}
	switch name {
	case "node":
		answer = map[string]any{"version": "1.2.3", "node": "node-1", "pid": 42, "started": "2026-11-22T12:00:00Z", "uptime_s": 60, "addr": "127.0.0.1:8000", "layout": "2 loops", "endpoints": []any{map[string]string{"path": "/ws", "protocol": "plain"}},
			"limits":   map[string]any{"max_conns": 1_000_000, "max_memory": -1, "rate_per_address": 20.5, "write_queue": 1 << 20, "drain_s": 10, "close_after_s": 0},
			"features": map[string]any{"trace": "off", "recorder": m.recorder, "recorder_bytes": 16 << 20, "dev": true}}
	case "live":
		if r.URL.Query().Get("after") != "" {
			newer := false
			m.held++
			changed := m.changed
			m.mu.Unlock()
			select {
			case <-changed:
				newer = true
			case <-m.pushed:
				newer = true
			case <-time.After(5 * time.Second): // as the real one does
			case <-r.Context().Done():
			}
			m.mu.Lock()
			m.held--
			if !newer {
				m.seq--
			}
		}
		m.seq++
		m.snapshot["seq"], m.snapshot["time"] = m.seq, time.Now().UTC().Format(time.RFC3339Nano)
		answer = maps.Clone(m.snapshot)
		if r.URL.Query().Get("history") != "" {
			var history []any
			for i := range 100 {
				s := maps.Clone(m.snapshot)
				s["seq"], s["time"] = i-1000, time.Now().Add(time.Duration(i-101)*time.Second).UTC().Format(time.RFC3339Nano)
				history = append(history, s)
			}
			answer["history"] = history
		}
	case "sessions":
		page, _ := strconv.Atoi(q.Cursor)
		var rows []any
		for i := range 50 {
			rows = append(rows, map[string]any{"client": fmt.Sprintf("client-%07d", page*50+i), "user": m.users, "address": "198.51.100.7:50000", "endpoint": "/ws", "protocol": "plain", "age_ms": 61_000, "silent_ms": 900, "queue_bytes": 0, "subscriptions": 2})
		}
		if q.Client != "" {
			rows = rows[:1]
			rows[0].(map[string]any)["client"] = q.Client
		}
		answer = map[string]any{"sessions": rows, "cursor": strconv.Itoa(page + 1), "scanned": 50, "total": 1_000_000, "took_ms": 1.5}
	case "why":
		if !m.recorder {
			fail(http.StatusConflict, "not_available", "not available: the gateway records nothing (flight-record is none)")
			return
		}
		const ended = "client-0000007"
		span := map[string]any{"client": cmp.Or(q.Client, ended), "user": m.users, "address": "198.51.100.7:50000", "endpoint": "/ws", "open": true, "why": "It is open.",
			"events": []any{map[string]string{"time": "2026-11-22T12:00:01.000Z", "kind": "opened", "text": "198.51.100.7:50000 /ws"}, map[string]string{"time": "2026-11-22T12:00:01.250Z", "kind": "connected", "text": m.users}}}
		if q.Cause != "" || q.Client == ended {
			maps.Copy(span, map[string]any{"open": false, "why": "The network went silent: our ping of 12:03:02 was sent again 5 times and was never acknowledged.", "cause": "heartbeat_timeout", "code": 3012, "detail": "no_pong",
				"evidence": map[string]any{"age_ms": 299_800, "silent_ms": 33_000, "pinged_ms": 8000, "queue_bytes": 0, "rtt_us": 48_200, "unacked_bytes": 5, "timeouts": 5, "retransmits": 6, "last_ack_ms": 33_000, "pong_ms": -1, "close_sent": 3012, "close_received": -1},
				"kernel":   map[string]any{"level": "bpf", "verdict": "what we sent was never acknowledged", "path": []string{"SYN_RECV", "ESTABLISHED", "CLOSE"}, "error": "ETIMEDOUT", "rtt_us": 48_200, "unacked_bytes": 5, "retransmits": 6}})
		}
		answer = map[string]any{"result": map[string]any{"spans": slices.Repeat([]any{span}, 3), "from": "2026-11-22T12:00:00Z"}}
	case "channels":
		answer = map[string]any{"channels": []any{map[string]any{"channel": "news", "subscribers": 900}, map[string]any{"channel": m.users, "subscribers": 1}}, "cursor": "", "total": 2}
	case "publish":
		answer = map[string]any{"result": map[string]any{"offset": 7, "epoch": "e"}}
	case "disconnect", "drain":
	default:
		fail(http.StatusNotFound, "not_found", "there is no such method")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}
