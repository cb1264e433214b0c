package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/longwire/longwire/ws"
)

// publisher sends publications. One goroutine uses it at a time.
type publisher interface {
	// publish returns when the server has taken the publication of data in all channels.
	publish(ctx context.Context, data string, channels ...string) error
	close()
}

// publisher connects one by -publish.
func (b *bench) publisher(ctx context.Context, s *server) (publisher, error) {
	how := b.o.publish
	if how == "" {
		how = "api"
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://%v/api/info", s.Addr), strings.NewReader("{}"))
		if err != nil {
			return nil, err
		}
		req.Header.Set("X-API-Key", apiKey)
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusNotFound {
			how = "client"
		}
	}
	b.report.Publish = how
	switch how {
	case "api":
		t := &http.Transport{MaxIdleConnsPerHost: 1}
		return &api{url: fmt.Sprintf("http://%v/api/", s.Addr), transport: t, client: &http.Client{Transport: t, Timeout: 30 * time.Second}}, nil
	case "client":
		return &speaker{addr: s.Addr.String()}, nil
	}
	return nil, fmt.Errorf("-publish %s: want api or client", how)
}

// api publishes by HTTP.
type api struct {
	url       string
	transport *http.Transport
	client    *http.Client
}

func (a *api) publish(ctx context.Context, data string, channels ...string) error {
	method, body := "publish", fmt.Sprintf(`{"channel":%q,"data":%s}`, channels[0], data)
	if len(channels) > 1 {
		list, err := json.Marshal(channels)
		if err != nil {
			return err
		}
		method, body = "broadcast", fmt.Sprintf(`{"channels":%s,"data":%s}`, list, data)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+method, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-API-Key", apiKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || bytes.Contains(answer, []byte(`"error"`)) {
		return fmt.Errorf("/api/%s: %s: %.200s", method, resp.Status, answer)
	}
	return nil
}

func (a *api) close() { a.transport.CloseIdleConnections() }

// speaker is one blocking WebSocket client: it publishes by the protocol's command, or says what the floor sends on.
type speaker struct {
	addr   string
	conn   net.Conn  // nil: not connected
	used   time.Time // last
	reader ws.Reader
	in     []byte // read, not yet taken
	buf    [4096]byte
	id     int
}

// commandTimeout bounds one command of a speaker.
const commandTimeout = 30 * time.Second

func (p *speaker) dial(ctx context.Context) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return err
	}
	_ = c.SetDeadline(time.Now().Add(commandTimeout))
	d := ws.Dial{Host: p.addr, Target: endpoint}
	p.in, p.id = nil, 0
	var key [16]byte
	if _, err := c.Write(ws.AppendRequest(nil, &d, key)); err != nil {
		return errors.Join(err, c.Close())
	}
	for {
		n, err := c.Read(p.buf[:])
		if err != nil {
			return errors.Join(err, c.Close())
		}
		p.in = append(p.in, p.buf[:n]...)
		resp, n, err := ws.ParseResponse(p.in, 0)
		if err == nil && n > 0 {
			_, err = d.Check(&resp, key)
			p.in = p.in[n:]
		}
		if err != nil {
			return errors.Join(err, c.Close())
		}
		if n > 0 {
			break
		}
	}
	p.conn = c
	p.reader.Reset(ws.ReaderConfig{Role: ws.Client})
	return nil
}

func (p *speaker) say(b []byte) error {
	_, err := p.conn.Write(ws.AppendFrame(nil, ws.Client, ws.OpText, b, [4]byte{1, 2, 3, 4}))
	return err
}

// command sends one command and waits for its reply.
func (p *speaker) command(ctx context.Context, c string) error {
	p.id++
	deadline := time.Now().Add(commandTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = p.conn.SetDeadline(deadline)
	if err := p.say(fmt.Appendf(nil, `{"id":%d,%s}`, p.id, c)); err != nil {
		return err
	}
	want := fmt.Appendf(nil, `{"id":%d,`, p.id)
	for {
		for len(p.in) > 0 {
			ev, n, err := p.reader.Next(p.in)
			p.in = p.in[n:]
			if err != nil {
				return err
			}
			switch ev.Op {
			case ws.OpClose:
				return fmt.Errorf("closed with %d %s", ev.Code, ev.Payload)
			case ws.OpText:
				for line := range bytes.SplitSeq(ev.Payload, []byte("\n")) {
					switch {
					case string(line) == "{}":
						if err := p.say(line); err != nil {
							return err
						}
					case bytes.HasPrefix(line, want):
						if bytes.HasPrefix(line[len(want):], []byte(`"error"`)) {
							return fmt.Errorf("reply: %.200s", line)
						}
						return nil
					}
				}
			}
		}
		n, err := p.conn.Read(p.buf[:])
		if err != nil {
			return err
		}
		p.in = append(p.in[:0], p.buf[:n]...)
	}
}

func (p *speaker) publish(ctx context.Context, data string, channels ...string) error {
	if p.conn != nil && time.Since(p.used) > 5*time.Second {
		p.close() // pings that nobody answered may have ended it
	}
	if p.conn == nil {
		if err := p.dial(ctx); err != nil {
			return fmt.Errorf("connect to publish: %w", err)
		}
		if err := p.command(ctx, fmt.Sprintf(`"connect":{"token":"%s"}`, token(nil, -1))); err != nil {
			return fmt.Errorf("connect to publish: %w", err)
		}
	}
	for _, ch := range channels {
		if err := p.command(ctx, fmt.Sprintf(`"publish":{"channel":%q,"data":%s}`, ch, data)); err != nil {
			return err
		}
	}
	p.used = time.Now()
	return nil
}

func (p *speaker) close() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}
