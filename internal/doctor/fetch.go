package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// Error is why evidence could not be had, and what to do instead.
type Error struct {
	Err  error
	Hint string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// mostAnswer bounds one answer. The runtime writes at most 64 MiB of goroutines.
const mostAnswer = 72 << 20

// profiler is a /debug/pprof that is asked over HTTP.
type profiler struct {
	base   *url.URL // …/debug/pprof/
	header http.Header
	client *http.Client
	most   int64 // bytes of one answer
	spent  time.Duration
	status int // of the last answer to get, 0 where there was none
}

// parseTarget makes the address of /debug/pprof of what a person writes: http://host:port, host:port, or a longer URL.
func parseTarget(target string) (*url.URL, error) {
	if !strings.Contains(target, "://") {
		target = "http://" + target
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, &Error{fmt.Errorf("target %q: %w", target, err), "give a URL like http://127.0.0.1:6060, a pid, or files"}
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, &Error{fmt.Errorf("target %q: want http or https, and a host", target), "give a URL like http://127.0.0.1:6060, a pid, or files"}
	}
	before, _, _ := strings.Cut(u.Path, "/debug/pprof")
	u.Path = strings.TrimSuffix(before, "/") + "/debug/pprof/"
	u.RawQuery, u.Fragment = "", ""
	return u, nil
}

func newProfiler(base *url.URL, header http.Header, dial func(ctx context.Context, network, addr string) (net.Conn, error)) *profiler {
	return &profiler{
		base: base, header: header, most: mostAnswer,
		client: &http.Client{
			Transport: &http.Transport{
				DialContext:           dial,
				ResponseHeaderTimeout: 20 * time.Second,
				MaxIdleConnsPerHost:   1, // one connection is all that it costs the target
				DisableCompression:    true,
			},
		},
	}
}

func (p *profiler) close() { p.client.CloseIdleConnections() }

// errNoProfile is a profile that the target does not have, where it has others.
var errNoProfile = errors.New("the target does not have this profile")

// get fetches one profile. The error is one for people.
func (p *profiler) get(ctx context.Context, name string, query url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 25*time.Second)
	defer cancel()
	u := p.base.JoinPath(name)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", name, err)
	}
	for k, v := range p.header {
		req.Header[k] = v
	}
	begin := time.Now()
	defer func() { p.spent += time.Since(begin) }()
	p.status = 0
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, p.connectError(err)
	}
	p.status = resp.StatusCode
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, p.most+1))
	switch {
	case resp.StatusCode == http.StatusOK:
	case resp.StatusCode == http.StatusNotFound && (bytes.Contains(b, []byte("Unknown profile")) || name == "goroutineleak"):
		return nil, errNoProfile
	case resp.StatusCode == http.StatusNotFound:
		return nil, &Error{fmt.Errorf("%s answers 404: there is no pprof there", u.Redacted()), `import _ "net/http/pprof" and serve http.DefaultServeMux on an address of its own (longwire serve: --admin 127.0.0.1:6060, and --header 'Authorization: Bearer TOKEN' here), or give the URL where it is`}
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return nil, &Error{fmt.Errorf("%s answers %s: it does not let everybody look", u.Redacted(), resp.Status), "give what it wants with --header 'Authorization: …', or ask from an address that it allows"}
	default:
		return nil, &Error{fmt.Errorf("%s answers %s", u.Redacted(), resp.Status), "see the target's log, or give the URL of its /debug/pprof"}
	}
	switch {
	case int64(len(b)) > p.most:
		return nil, &Error{fmt.Errorf("%s does not end: more than %d MiB came", u.Redacted(), p.most>>20), "is it /debug/pprof of a Go program? It may be a stream of something else"}
	case errors.Is(err, context.DeadlineExceeded):
		return nil, &Error{fmt.Errorf("%s does not end: %d bytes came in 25 s", u.Redacted(), len(b)), "is it /debug/pprof of a Go program? If it is a very large or busy one, save profiles with curl and give the files"}
	case err != nil:
		return nil, &Error{fmt.Errorf("%s broke off after %d bytes: %w", u.Redacted(), len(b), err), "try again; if a proxy is in between, ask the program itself"}
	}
	return b, nil
}

// page fetches what is served beside the profiles, up to a bound. ok is false where it is not there or cannot be read: it is extra.
func (p *profiler) page(ctx context.Context, u *url.URL) (b []byte, ok bool) {
	const most = 8 << 20
	return p.begin(ctx, u, most, false)
}

// beginning fetches a profile as far as it comes within a bound, such as an execution trace, which is of use though it is cut off.
func (p *profiler) beginning(ctx context.Context, name string, query url.Values, most int64) (b []byte, ok bool) {
	u := p.base.JoinPath(name)
	u.RawQuery = query.Encode()
	return p.begin(ctx, u, most, true)
}

func (p *profiler) begin(ctx context.Context, u *url.URL, most int64, cut bool) ([]byte, bool) {
	ctx, cancel := context.WithTimeout(ctx, 25*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, false
	}
	for k, v := range p.header {
		req.Header[k] = v
	}
	begin := time.Now()
	defer func() { p.spent += time.Since(begin) }()
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, false
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, most))
	whole := err == nil && int64(len(b)) < most
	return b, resp.StatusCode == http.StatusOK && len(b) > 0 && (whole || cut)
}

// connectError says what is wrong with a target that does not answer.
func (p *profiler) connectError(err error) error {
	var dns *net.DNSError
	var ne net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, syscall.ECONNREFUSED):
		return &Error{fmt.Errorf("nobody listens on %s", p.base.Host), "is the program running, and is this the address of its pprof?"}
	case errors.As(err, &dns):
		return &Error{fmt.Errorf("the name %s is not known: %w", p.base.Hostname(), err), "give an address that resolves from here"}
	case strings.Contains(err.Error(), "malformed HTTP"), strings.Contains(err.Error(), "readLoopPeekFailLocked"): // or it spoke first
		return &Error{fmt.Errorf("%s does not speak HTTP", p.base.Host), "it may be TLS (give https://) or another protocol; give the address of its pprof"}
	case errors.As(err, &ne) && ne.Timeout():
		return &Error{fmt.Errorf("%s does not answer in time: %w", p.base.Host, err), "a firewall may be in between, or the program is stuck: try from the same machine"}
	case strings.Contains(err.Error(), "certificate"):
		return &Error{fmt.Errorf("%s: %w", p.base.Host, err), "ask by http:// from the same machine"}
	}
	return &Error{fmt.Errorf("%s does not answer: %w", p.base.Host, err), "is it the address of a Go program's pprof?"}
}
