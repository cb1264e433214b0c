package centrifuge

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Subscription is a channel that a Client is subscribed to, through all its sessions.
type Subscription struct {
	client  *Client
	channel string           // frozen
	options SubscribeOptions // frozen
	first   chan error       // has one: how the first attempt that counts ended

	// Guarded by Client.mu.
	stream
	token      string
	subscribed bool // in the session at hand
	begun      bool // it was in force once
	whole      bool // no more deltas
	entered    time.Time
}

// Subscribe subscribes to a channel and returns when the subscription is in force. It stays so, through reconnects, until
// the server or Unsubscribe ends it. Errors that pass by themselves are tried again until ctx ends; others are an *Error.
// o may be nil.
func (c *Client) Subscribe(ctx context.Context, channel string, o *SubscribeOptions) (*Subscription, error) {
	s := &Subscription{client: c, channel: channel, first: make(chan error, 1)}
	if o != nil {
		s.options = *o
		s.token = o.Token
		if o.Since != nil {
			s.position, s.recoverable = *o.Since, true
		}
	}
	c.mu.Lock()
	if c.subs[channel] != nil {
		c.mu.Unlock()
		return nil, fmt.Errorf("centrifuge: subscribe: %w", ErrSubscribed)
	}
	c.subs[channel] = s
	current := c.session
	c.mu.Unlock()
	if current != nil {
		c.spawn(func() { s.subscribe(current, 0) })
	}
	var err error
	select {
	case err = <-s.first:
	case <-c.ended:
		err = c.Err()
	case <-ctx.Done():
		err = ctx.Err()
		ctx, cancel := context.WithTimeout(c.ctx, c.options.Timeout)
		defer cancel()
		_ = s.Unsubscribe(ctx)
	}
	if err != nil {
		s.remove()
		return nil, fmt.Errorf("centrifuge: subscribe: %w", err)
	}
	return s, nil
}

// Channel returns the channel's name.
func (s *Subscription) Channel() string { return s.channel }

// Position returns how far the subscription has seen the channel, to be kept for SubscribeOptions.Since; false where the
// channel has no positions. In a handler the publication at hand counts as seen.
func (s *Subscription) Position() (Position, bool) {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return s.position, s.positioned || s.recoverable
}

// Unsubscribe ends the subscription. The handler may be under way as it is called, and is not called afterwards. The
// error is about telling the server, no more.
func (s *Subscription) Unsubscribe(ctx context.Context) error {
	if !s.remove() {
		return nil
	}
	c := s.client
	c.mu.Lock()
	current := c.session
	c.mu.Unlock()
	if current == nil {
		return nil
	}
	_, err := c.ask(ctx, current, &command{Unsubscribe: &channelRequest{s.channel}})
	if err != nil && !errors.Is(err, ErrDisconnected) {
		return fmt.Errorf("centrifuge: unsubscribe: %w", err)
	}
	return nil
}

// remove reports whether s was a subscription of its client, which it is no more.
func (s *Subscription) remove() bool {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	s.subscribed = false
	if s.client.subs[s.channel] != s {
		return false
	}
	delete(s.client.subs, s.channel)
	return true
}

// subscribe has s subscribed in a session: it tries until that is so, or until there is no use in it, after as many
// failures as there were. Then it shows the server another token in time, where it has to.
func (s *Subscription) subscribe(current *session, failures int) {
	c := s.client
	for ; ; failures++ {
		if failures > 0 && !sleep(current.ctx, retryWait(failures)) {
			return
		}
		token, err := s.showToken(current.ctx)
		if err != nil {
			continue
		}
		request := &subscribe{Channel: s.channel, Token: token, Data: s.options.Data, Recoverable: s.options.Recoverable,
			Positioned: s.options.Positioned, JoinLeave: s.options.JoinLeave}
		c.mu.Lock()
		gone := c.subs[s.channel] != s
		if s.options.Delta && !s.whole {
			request.Delta = "fossil"
		}
		if s.recoverable {
			request.Recover, request.Epoch, request.Offset = true, s.position.Epoch, s.position.Offset
		}
		c.mu.Unlock()
		if gone || current.ctx.Err() != nil {
			return
		}
		answers := make(chan error, 1)
		var result *subscribeResult
		id, err := c.send(current.ctx, current, &command{Subscribe: request}, func(r *reply, err error) {
			if err == nil {
				result = r.Subscribe
				s.enter(&result)
			}
			answers <- err
		})
		if err == nil {
			timer := time.NewTimer(c.options.Timeout)
			select {
			case err = <-answers:
			case <-timer.C:
				// A server that does not answer may still do so: what it thinks is only clear in a new session.
				if c.forget(id) {
					c.conn.Reconnect(0)
					return
				}
				err = <-answers
			}
			timer.Stop()
		}
		var e *Error
		switch {
		case err == nil:
			if result.Expires {
				s.refresh(current, result.TTL)
			}
			return
		case errors.As(err, &e) && (!e.retry() || e.Code == tokenExpired && s.options.GetToken == nil):
			s.refused(e)
			return
		case e != nil && e.Code == tokenExpired:
			c.mu.Lock()
			s.token = ""
			c.mu.Unlock()
		case current.ctx.Err() != nil || errors.Is(err, ErrDisconnected):
			return
		}
	}
}

// enter takes the reply to subscribe, in its place among what the server sent.
func (s *Subscription) enter(result **subscribeResult) {
	if *result == nil {
		*result = &subscribeResult{}
	}
	c := s.client
	c.mu.Lock()
	gone := c.subs[s.channel] != s
	again := c.subs[s.channel] != nil
	first := !s.begun
	if !gone {
		s.subscribed, s.begun, s.entered = true, true, time.Now()
	}
	current := c.session
	c.mu.Unlock()
	if gone {
		// Unsubscribe has overtaken it. Where somebody else has subscribed to the channel meanwhile it is theirs.
		if !again && current != nil {
			c.spawn(func() {
				_, _ = c.ask(current.ctx, current, &command{Unsubscribe: &channelRequest{s.channel}})
			})
		}
		return
	}
	c.subscribed(s.channel, &s.stream, &s.options.Handler, *result)
	if first {
		s.first <- nil
	}
}

// refused ends the subscription because of an error of the server.
func (s *Subscription) refused(e *Error) {
	c := s.client
	c.mu.Lock()
	begun := s.begun
	c.mu.Unlock()
	if !s.remove() {
		return
	}
	if !begun {
		s.first <- e
	} else if f := s.options.Unsubscribed; f != nil {
		f(s.channel, e.Code, e.Message)
	}
}

// showToken returns the token to subscribe with.
func (s *Subscription) showToken(ctx context.Context) (string, error) {
	c := s.client
	c.mu.Lock()
	token := s.token
	c.mu.Unlock()
	if token != "" || s.options.GetToken == nil {
		return token, nil
	}
	token, err := s.options.GetToken(ctx, s.channel)
	if err == nil {
		c.mu.Lock()
		s.token = token
		c.mu.Unlock()
	}
	return token, err
}

// refresh shows the server another token in time, again and again, while s is subscribed in the session.
func (s *Subscription) refresh(current *session, ttl uint32) {
	c := s.client
	for failures := 0; s.options.GetToken != nil; {
		wait := max(time.Duration(ttl)*time.Second, time.Second)
		if failures > 0 {
			wait = retryWait(failures)
		}
		if !sleep(current.ctx, wait) {
			return
		}
		failures++
		c.mu.Lock()
		in := s.subscribed
		s.token = ""
		c.mu.Unlock()
		if !in {
			return
		}
		token, err := s.showToken(current.ctx)
		if err != nil {
			continue
		}
		r, err := c.ask(current.ctx, current, &command{SubRefresh: &channelAndToken{s.channel, token}})
		var e *Error
		switch {
		case errors.As(err, &e) && !e.retry():
			return // the server ends the subscription when its time has come
		case err != nil:
		case r.SubRefresh == nil || !r.SubRefresh.Expires:
			return
		default:
			failures, ttl = 0, r.SubRefresh.TTL
		}
	}
}
