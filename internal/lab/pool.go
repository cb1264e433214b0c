package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/longwire/longwire/internal/report"
)

func poolExperiment() Experiment {
	return Experiment{
		Name:   "pool",
		Title:  "What is left in objects that come out of a sync.Pool",
		Claims: claimsOf("pool"),
		About: "A server decodes each user's request into an object from a pool and answers with it. Every second user leaves fields out. Eight clients count " +
			"the answers that show what another user said. Then objects with a pointer are put into a pool, and weak pointers tell what lives over collections.",
		Run:      runPool,
		subjects: map[string]maker{"pool": makes(newPoolSubject)},
	}
}

// The ways in which a server uses a pool.
const (
	poolNone      = "none"        // a new object for each request
	poolResidue   = "residue"     // the object as it comes out
	poolReset     = "reset"       // mended: reset when it comes out
	poolAppend    = "bytes"       // a []byte that is appended to as it comes out
	poolTruncated = "bytes-reset" // mended: cut to [:0] first
	poolEarly     = "early"       // put back before the answer is written: the handler's pointer is stale
)

type poolConfig struct{ Way string }

// poolUser is what a request is decoded into and an answer encoded from: the article's User.
type poolUser struct {
	ID   int
	Name string    `json:",omitempty"` // every second user has none
	Data *poolData `json:",omitempty"` // the same
}

// poolData is what the article's Data points to.
type poolData struct{ Text string }

// poolProbe says what of a pool's objects lives after so many collections.
type poolProbe struct {
	Collections    int
	Objects, Datas int // alive
	Torn           int // objects that were alive and whose data was not what had been put there
}

// poolCount is how often the pool was asked, and made an object.
type poolCount struct{ Gets, News int }

// poolSubject is a server of one way.
type poolSubject struct {
	way        string
	users      sync.Pool // of *poolUser
	slices     sync.Pool // of *[]byte
	gets, news atomic.Int64
	mu         sync.Mutex // held while an object is written or read: what is shown is no race of the memory, but of the logic
}

func newPoolSubject(_ context.Context, c poolConfig) (*subject, error) {
	p := &poolSubject{way: c.Way}
	p.users.New = func() any { p.news.Add(1); return new(poolUser) }
	p.slices.New = func() any { p.news.Add(1); return new([]byte) }
	addr, stop, err := serveHTTP(&http.Server{Handler: p})
	if err != nil {
		return nil, err
	}
	return &subject{addr: addr, close: stop, ask: func(_ context.Context, what string, raw json.RawMessage) (any, error) {
		switch what {
		case "count":
			return poolCount{int(p.gets.Load()), int(p.news.Load())}, nil
		case "probe":
			var n int
			if err := json.Unmarshal(raw, &n); err != nil {
				return nil, err
			}
			return probePool(n), nil
		case "alone":
			var n int
			if err := json.Unmarshal(raw, &n); err != nil {
				return nil, err
			}
			return countPool(n), nil
		}
		return nil, fmt.Errorf("asked for %q, which it does not know", what)
	}}, nil
}

// ServeHTTP answers a user with what the server took in of it.
func (p *poolSubject) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<10))
	if err == nil {
		body, err = p.answer(body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = w.Write(body)
}

func (p *poolSubject) answer(body []byte) ([]byte, error) {
	switch p.way {
	case poolNone:
		return p.through(new(poolUser), body)
	case poolResidue:
		u := p.get()
		defer p.users.Put(u)
		return p.through(u, body) // the fault: the decoder leaves alone what the request does not name
	case poolReset:
		u := p.get()
		defer p.users.Put(u)
		p.mu.Lock()
		*u = poolUser{}
		p.mu.Unlock()
		return p.through(u, body)
	case poolEarly:
		u := p.get()
		p.mu.Lock()
		*u = poolUser{}
		err := json.Unmarshal(body, u)
		p.mu.Unlock()
		p.users.Put(u)                     // the fault: u is still used
		time.Sleep(200 * time.Microsecond) // as long as a slow write may take
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return json.Marshal(u)
	case poolAppend, poolTruncated:
		p.gets.Add(1)
		b := p.slices.Get().(*[]byte)
		defer p.slices.Put(b)
		if p.way == poolTruncated || len(*b) > 4<<10 {
			*b = (*b)[:0]
		}
		*b = append(*b, body...) // the fault, without the line above: it goes behind what was there
		return bytes.Clone(*b), nil
	}
	return nil, fmt.Errorf("there is no way %q", p.way)
}

func (p *poolSubject) get() *poolUser {
	p.gets.Add(1)
	return p.users.Get().(*poolUser)
}

// through decodes a request into u and encodes u.
func (p *poolSubject) through(u *poolUser, body []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := json.Unmarshal(body, u); err != nil {
		return nil, err
	}
	return json.Marshal(u)
}

// probePool puts n objects with data into a pool and counts what lives after 0 to 3 collections.
func probePool(n int) (list []poolProbe) {
	var pool sync.Pool
	objects, datas := make([]weak.Pointer[poolUser], n), make([]weak.Pointer[poolData], n)
	for i := range n {
		u := &poolUser{ID: i, Data: &poolData{Text: poolText(i)}}
		objects[i], datas[i] = weak.Make(u), weak.Make(u.Data)
		pool.Put(u)
	}
	for collections := range 4 {
		if collections > 0 {
			runtime.GC()
		}
		x := poolProbe{Collections: collections}
		for i := range n {
			d := datas[i].Value()
			if d != nil {
				x.Datas++
			}
			if u := objects[i].Value(); u != nil {
				x.Objects++
				if d == nil || u.Data != d || d.Text != poolText(i) {
					x.Torn++
				}
			}
		}
		list = append(list, x)
	}
	runtime.KeepAlive(&pool)
	return list
}

// countPool takes an object out of a pool and puts it back n times, with a collection after each hundred, and counts the calls of New.
func countPool(n int) (c poolCount) {
	pool := sync.Pool{New: func() any { c.News++; return new(poolUser) }}
	for i := range n {
		c.Gets++
		pool.Put(pool.Get())
		if i%100 == 99 {
			runtime.GC()
			runtime.GC() // what the first one put aside the second one drops
		}
	}
	return c
}

func poolName(id int) string { return fmt.Sprintf("user-%d", id) }
func poolText(id int) string { return fmt.Sprintf("what only user-%d may read", id) }

// poolFigures is what was measured of one way.
type poolFigures struct {
	requests     int
	names, datas int // answers that show another user's
	broken       int // answers that are wrong otherwise
	requestBytes float64
	made         int // objects, by the pool's New
}

var poolCases = []struct{ name, way string }{
	{"a new object each time", poolNone},
	{"from a pool, as it comes out", poolResidue},
	{"mended: reset when it comes out", poolReset},
	{"put back before the answer is written", poolEarly},
	{"a []byte, appended to as it comes out", poolAppend},
	{"mended: a []byte, cut to [:0]", poolTruncated},
}

// poolClients is how many ask at a time.
const poolClients = 8

func runPool(ctx context.Context, r *Run) error {
	n := r.Of(4000)
	t := r.Table(fmt.Sprintf("%d requests from %d clients", n, poolClients), "way", "requests", "show another's name", "show another's data", "otherwise wrong", "objects made", "bytes allocated a request")
	all := map[string]poolFigures{}
	for _, c := range poolCases {
		r.Log("%s: %d requests", c.name, n)
		f, err := measurePool(ctx, r, c.way, n)
		if err != nil {
			return err
		}
		all[c.way] = f
		made := f.made
		if c.way == poolNone {
			made = f.requests
		}
		t.Row(c.name, f.requests, f.names, f.datas, f.broken, made, Size(f.requestBytes))
		r.Figure("answers with another user's name: "+c.way, float64(f.names), report.Count)
	}
	p, err := r.Start(ctx, "pool", poolConfig{poolReset}, nil)
	if err != nil {
		return err
	}
	var probes []poolProbe
	var alone poolCount
	err = errors.Join(p.Ask(ctx, "probe", 1000, &probes), p.Ask(ctx, "alone", 1000, &alone), p.Close())
	if err != nil {
		return err
	}
	t = r.Table("1000 objects in a pool, each with a pointer to data", "collections", "objects alive", "data alive", "objects whose data is gone or changed")
	for _, x := range probes {
		t.Row(x.Collections, x.Objects, x.Datas, x.Torn)
	}
	judgePool(r, all, probes, alone)
	return nil
}

func measurePool(ctx context.Context, r *Run, way string, n int) (f poolFigures, err error) {
	p, err := r.Start(ctx, "pool", poolConfig{way}, nil)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	before, err := p.Sample(ctx, 1)
	if err != nil {
		return f, err
	}
	if f, err = askPool(ctx, "http://"+p.Addr().String()+"/", n); err != nil {
		return f, err
	}
	after, err := p.Sample(ctx, 0)
	if err != nil {
		return f, err
	}
	f.requestBytes = each(before.Allocated, after.Allocated, n)
	var c poolCount
	err = p.Ask(ctx, "count", nil, &c)
	f.made = c.News
	return f, err
}

// askPool has clients send n requests, and looks at whose the answers are.
func askPool(ctx context.Context, url string, n int) (f poolFigures, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: poolClients}, Timeout: answerLimit}
	defer client.CloseIdleConnections()
	var next, names, datas, broken, done atomic.Int64
	var all sync.WaitGroup
	for range poolClients {
		all.Go(func() {
			for ctx.Err() == nil {
				id := int(next.Add(1))
				if id > n {
					return
				}
				// What the answer shows is looked for as text, since a mended answer and a broken one need not have the same form.
				want := poolUser{ID: id}
				if id%2 == 0 {
					want.Name, want.Data = poolName(id), &poolData{poolText(id)}
				}
				got, err := post(ctx, client, url, want)
				if err != nil {
					cancel(err)
					return
				}
				done.Add(1)
				own, _ := json.Marshal(want)
				if rest := strings.Replace(got, string(own), "", 1); rest == "" {
					continue
				}
				name, data := strings.Contains(without(got, `"Name":`, poolName(id)), `"Name":"user-`), strings.Contains(without(got, `"Text":`, poolText(id)), `"Text":"what only user-`)
				if name {
					names.Add(1)
				}
				if data {
					datas.Add(1)
				}
				if !name && !data {
					broken.Add(1)
				}
			}
		})
	}
	all.Wait()
	f = poolFigures{requests: int(done.Load()), names: int(names.Load()), datas: int(datas.Load()), broken: int(broken.Load())}
	if f.requests < n {
		return f, fmt.Errorf("%d of %d requests were answered: %w", f.requests, n, context.Cause(ctx))
	}
	return f, nil
}

// without takes a field with the user's own value out of an answer.
func without(answer, field, own string) string {
	return strings.ReplaceAll(answer, field+`"`+own+`"`, "")
}

func post(ctx context.Context, c *http.Client, url string, u poolUser) (string, error) {
	b, err := json.Marshal(u)
	if err != nil {
		return "", err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	resp, err := c.Do(q)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("answered with %s: %s", resp.Status, bytes.TrimSpace(got))
	}
	return string(got), err
}

func judgePool(r *Run, all map[string]poolFigures, probes []poolProbe, alone poolCount) {
	residue, reset, early := all[poolResidue], all[poolReset], all[poolEarly]
	slice, cut := all[poolAppend], all[poolTruncated]
	says := fmt.Sprintf("%d of %d answers showed another user's name with objects as they came out of the pool, and %d where they were reset; put back too early, an object showed another's name in %d",
		residue.names, residue.requests, reset.names, early.names)
	switch {
	case residue.names > 0 && reset.names == 0:
		r.Verdict("pool-residue", Holds, says)
	case residue.names > 0:
		r.Verdict("pool-residue", HoldsInPart, says)
	default:
		r.Verdict("pool-residue", DoesNotHold, says)
	}

	torn, left := 0, make([]string, 0, len(probes))
	for _, x := range probes {
		torn += x.Torn
		left = append(left, fmt.Sprintf("%d and %d", x.Objects, x.Datas))
	}
	says = fmt.Sprintf("of 1000 pooled objects and what they point to there were, after 0 to %d collections, %s: data lives as long as an object points to it, and %d were found with data that was gone or changed. "+
		"What a stale pointer shows is another user's data, whole, in %d of %d answers", len(probes)-1, strings.Join(left, ", "), torn, residue.datas, residue.requests)
	switch {
	case torn > 0:
		r.Verdict("pool-dangling", Holds, says)
	case residue.datas > 0:
		r.Verdict("pool-dangling", DoesNotHold, says)
	default:
		r.Verdict("pool-dangling", NotShown, says)
	}

	says = fmt.Sprintf("New was called %d times in %d turns of taking an object out and putting it back, with collections between: whenever the pool has none at hand, since collections empty it; an object that comes back is not made anew", alone.News, alone.Gets)
	switch {
	case alone.News == 1:
		r.Verdict("pool-new", Holds, says)
	case alone.News < alone.Gets:
		r.Verdict("pool-new", HoldsInPart, says)
	default:
		r.Verdict("pool-new", DoesNotHold, says)
	}

	says = fmt.Sprintf("%d of %d answers from a pooled []byte showed another user's bytes, %d where it was cut to [:0] first, which is all the reset that it needs. The same table ticks int and string as safe to reuse; "+
		"a string showed another user's name in %d of %d answers", slice.names+slice.broken, slice.requests, cut.names+cut.broken, residue.names, residue.requests)
	switch {
	case slice.names+slice.broken == 0:
		r.Verdict("pool-slices", DoesNotHold, says)
	case cut.names+cut.broken > 0 || residue.names > 0:
		r.Verdict("pool-slices", HoldsInPart, says)
	default:
		r.Verdict("pool-slices", Holds, says)
	}
}
