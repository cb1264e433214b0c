package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// A subject is what an experiment measures, in a process of its own. The process is asked one question at a time.
type subject struct {
	addr string // where it listens, host:port; "" for nowhere
	// ask answers a question that the experiment has for its own subject; nil for one that has none.
	ask func(ctx context.Context, what string, arg json.RawMessage) (any, error)
	// close ends it; nil for one that has nothing to end.
	close func() error
}

// maker makes a subject of what Run.Start was given.
type maker func(ctx context.Context, config json.RawMessage) (*subject, error)

// makes is a maker with a configuration of one type.
func makes[C any](f func(ctx context.Context, config C) (*subject, error)) maker {
	return func(ctx context.Context, raw json.RawMessage) (*subject, error) {
		var c C
		if err := json.Unmarshal(raw, &c); err != nil {
			return nil, fmt.Errorf("read the subject's configuration: %w", err)
		}
		return f(ctx, c)
	}
}

// What goes over the standard streams of a subject's process: a line of JSON each. The first request has the configuration.
type (
	request struct {
		Ask string          `json:"ask"`
		Arg json.RawMessage `json:"arg"`
	}
	response struct {
		Error  string          `json:"error,omitempty"`
		Answer json.RawMessage `json:"answer,omitempty"`
	}
	// introduction is the answer to the first request.
	introduction struct {
		Addr  string `json:"addr"`
		Pprof string `json:"pprof,omitempty"` // the URL where profiles are
	}
	// beginning is the argument of the first.
	beginning struct {
		Config json.RawMessage `json:"config"`
		Pprof  bool            `json:"pprof"`
	}
)

// Questions that every subject answers.
const (
	askBegin  = "begin"  // a beginning, answered by an introduction
	askSample = "sample" // how many collections first, answered by a Sample
)

// Serve is a subject: what the command of an Again comes to. It answers what stands on in, and ends with it. Signals that
// come from the terminal are for the program that started it.
func Serve(ctx context.Context, name string, in io.Reader, out io.Writer) (err error) {
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	var begin maker
	for _, e := range Experiments() {
		if m := e.subjects[name]; m != nil {
			begin = m
		}
	}
	if begin == nil {
		return fmt.Errorf("%q is no subject of an experiment", name)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	requests := listen(ctx, in, cancel)
	enc := json.NewEncoder(out)
	var s *subject
	var profiles *http.Server
	defer func() {
		if s != nil && s.close != nil {
			err = errors.Join(err, s.close())
		}
		if profiles != nil {
			err = errors.Join(err, profiles.Close())
		}
	}()
	began := time.Now()
	for q := range requests {
		var answer any
		var err error
		switch {
		case q.Ask == askBegin && s == nil:
			var b beginning
			if err = json.Unmarshal(q.Arg, &b); err != nil {
				break
			}
			var i introduction
			if b.Pprof {
				if profiles, i.Pprof, err = serveProfiles(); err != nil {
					break
				}
			}
			if s, err = begin(ctx, b.Config); err == nil {
				i.Addr = s.addr
				answer = i
			}
		case s == nil:
			err = fmt.Errorf("asked for %q before it began", q.Ask)
		case q.Ask == askSample:
			var collections int
			if err = json.Unmarshal(q.Arg, &collections); err == nil {
				answer = takeSample(began, collections)
			}
		case s.ask != nil:
			answer, err = s.ask(ctx, q.Ask, q.Arg)
		default:
			err = fmt.Errorf("asked for %q, which it does not know", q.Ask)
		}
		var x response
		if err == nil {
			x.Answer, err = json.Marshal(answer)
		}
		if err != nil {
			x = response{Error: err.Error()}
		}
		if err := enc.Encode(x); err != nil {
			return err
		}
	}
	return nil
}

// listen reads requests until in ends, and calls ended then: whoever is still at work on one can stop.
func listen(ctx context.Context, in io.Reader, ended func()) <-chan request {
	c := make(chan request)
	go func() { // until in ends, as the process does
		defer close(c)
		defer ended()
		d := json.NewDecoder(bufio.NewReader(in))
		for {
			var q request
			if d.Decode(&q) != nil {
				return
			}
			select {
			case c <- q:
			case <-ctx.Done():
				return
			}
		}
	}()
	return c
}

// serveProfiles serves /debug/pprof on loopback.
func serveProfiles() (*http.Server, string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.Serve(l) }() // until Close
	return s, "http://" + l.Addr().String(), nil
}
