package centrifuge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/longwire/longwire/client"
	"github.com/longwire/longwire/ws"
)

// Client is a session with a server that is made anew when it is lost. Any goroutine may call its methods. Beside those of
// its connection it has one goroutine that reads, and one for each subscription under way and each token that expires.
type Client struct {
	options Options // frozen
	ctx     context.Context
	cancel  context.CancelFunc
	ended   chan struct{} // closed when there will be no session any more

	mu        sync.Mutex
	conn      *client.Conn // nil until Dial has it
	lastID    uint32
	connectID uint32 // of the connect command of the connection at hand
	pending   map[uint32]func(*reply, error)
	session   *session
	ready     chan struct{} // closed while there is a session
	subs      map[string]*Subscription
	server    map[string]*stream // the server-side subscriptions
	token     string
	err       error // why there will be no session any more
	group     sync.WaitGroup
}

// session is from the reply of a connect to the loss of its connection.
type session struct {
	ctx    context.Context
	cancel context.CancelFunc
	pong   bool
}

// stream is how far a channel was seen. It is guarded by Client.mu, but for its end.
type stream struct {
	position    Position
	positioned  bool // the channel has offsets
	recoverable bool // and gives what was missed

	// Of the goroutine that reads.
	delta bool   // publications may be deltas, and in JSON all of them are strings
	base  []byte // what the next delta builds on: the publication before, in this subscription
}

// seen tells whether a publication was there before, and notes it.
func (s *stream) seen(offset uint64) bool {
	if offset == 0 {
		return false
	}
	if offset <= s.position.Offset {
		return true
	}
	s.position.Offset = offset
	return false
}

// Dial connects to url and returns when there is a session; ctx bounds nothing after that. An error of the server that
// does not pass by itself is an *Error, and a connection that it does not want a *client.CloseError.
func Dial(ctx context.Context, url string, o *Options) (*Client, error) {
	if o == nil {
		o = &Options{}
	}
	c := &Client{
		options: *o, ended: make(chan struct{}), pending: make(map[uint32]func(*reply, error)), ready: make(chan struct{}),
		subs: make(map[string]*Subscription), server: make(map[string]*stream), token: o.Token,
	}
	if c.options.Timeout <= 0 {
		c.options.Timeout = 5 * time.Second
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	socket := c.options.Socket
	socket.Hello, socket.Once, socket.Resend = c.hello, false, false
	socket.Queue = client.Queue{Limit: -1} // a command belongs to its session
	socket.Subprotocols = nil
	if o.Protobuf {
		socket.Subprotocols = []string{"centrifuge-protobuf"}
	}
	if socket.Codes.Terminal == nil {
		socket.Codes.Terminal = [][2]int{{1009, 1009}, {3500, 3999}, {4500, 4999}}
	}
	socket.OnState = func(t client.Transition) {
		switch t.To {
		case client.Backoff, client.Melted, client.Offline, client.Closing, client.Closed:
			c.lost()
		}
		if o.Socket.OnState != nil {
			o.Socket.OnState(t)
		}
	}
	conn, err := client.Dial(ctx, url, &socket)
	if err != nil {
		c.cancel()
		return nil, err
	}
	c.mu.Lock()
	c.conn = conn
	ready := c.ready
	c.mu.Unlock()
	go c.run(conn)
	select {
	case <-ready:
		return c, nil
	case <-c.ended:
		err = c.err
	case <-ctx.Done():
		err = fmt.Errorf("centrifuge: connect: %w", ctx.Err())
	}
	_ = c.Close(ctx)
	return nil, err
}

// Close ends the Client, with the closing handshake if ctx leaves time for it. It returns when nothing of the Client runs
// any more; it must not be called by a handler.
func (c *Client) Close(ctx context.Context) error {
	err := c.conn.Close(ctx, ws.StatusNormalClosure, "")
	<-c.ended
	c.group.Wait()
	return err
}

// Done is closed when there will be no session any more, for which Err then has the reason.
func (c *Client) Done() <-chan struct{} { return c.ended }

// Err returns why there will be no session any more: a *client.CloseError or an *Error. It is nil before Done is closed.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Conn returns the connection, to look at: its state, its round trip. What Read would return belongs to the Client.
func (c *Client) Conn() *client.Conn { return c.conn }

// opcode is that of the format.
func (c *Client) opcode() ws.Opcode {
	if c.options.Protobuf {
		return ws.OpBinary
	}
	return ws.OpText
}

// hello makes the connect command of a new connection.
func (c *Client) hello(ctx context.Context) (ws.Opcode, []byte, error) {
	c.mu.Lock()
	token := c.token
	c.mu.Unlock()
	if token == "" && c.options.GetToken != nil {
		var err error
		if token, err = c.options.GetToken(ctx); err != nil {
			return 0, nil, fmt.Errorf("centrifuge: token: %w", err)
		}
	}
	connect := &connectRequest{Token: token, Data: c.options.Data, Name: c.options.Name, Version: c.options.Version,
		Headers: c.options.Headers}
	c.mu.Lock()
	c.token = token
	c.lastID++
	c.connectID = c.lastID
	m := &command{ID: c.lastID, Connect: connect}
	for channel, s := range c.server {
		if !s.recoverable {
			continue
		}
		if connect.Subs == nil {
			connect.Subs = make(map[string]*subscribe)
		}
		connect.Subs[channel] = &subscribe{Recover: true, Epoch: s.position.Epoch, Offset: s.position.Offset}
	}
	c.mu.Unlock()
	b, err := encode(c.options.Protobuf, m)
	if err != nil {
		return 0, nil, fmt.Errorf("centrifuge: connect: %w", err)
	}
	return c.opcode(), b, nil
}

// run reads.
func (c *Client) run(conn *client.Conn) {
	for {
		_, payload, err := conn.Read(c.ctx)
		if err != nil {
			c.finish(err)
			return
		}
		if err := decode(c.options.Protobuf, payload, c.take); err != nil {
			c.fail(fmt.Errorf("centrifuge: what the server sent: %w", err))
		}
	}
}

// fail ends the Client for good because of err.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(c.ctx, c.options.Timeout)
	defer cancel()
	_ = c.conn.Close(ctx, ws.StatusNormalClosure, "")
}

// finish is called once, at the end of the connection.
func (c *Client) finish(err error) {
	c.lost()
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.cancel()
	c.mu.Unlock()
	close(c.ended)
}

// lost ends the session, if there is one, and the commands that wait for a reply. It is told of the connection's state
// late at times: when the next connection is there, the reply of its connect does the same.
func (c *Client) lost() {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil && conn.Open() && conn.State() != client.Closing {
		return
	}
	c.end()
}

func (c *Client) end() {
	c.mu.Lock()
	pending := c.pending
	c.pending = make(map[uint32]func(*reply, error))
	if s := c.session; s != nil {
		s.cancel()
		c.session = nil
		c.ready = make(chan struct{})
	}
	for _, s := range c.subs {
		s.subscribed = false
	}
	c.mu.Unlock()
	for _, f := range pending {
		f(nil, ErrDisconnected)
	}
}

// spawn runs f on a goroutine that Close waits for, unless it is too late for that.
func (c *Client) spawn(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() == nil {
		c.group.Go(f)
	}
}

// sleep waits, and reports false if ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// retryWait is the full-jitter backoff of subscriptions and tokens: anywhere up to 500 ms × 2^n, at most 20 s.
func retryWait(n int) time.Duration {
	window := math.Min(float64(20*time.Second), math.Ldexp(float64(500*time.Millisecond), n))
	return time.Duration(rand.Float64() * window)
}

// take handles one reply or push.
func (c *Client) take(r *reply) {
	switch {
	case r.Push != nil:
		c.push(r.Push)
	case r.ID == 0:
		c.pong()
	default:
		c.mu.Lock()
		f := c.pending[r.ID]
		delete(c.pending, r.ID)
		connect := r.ID == c.connectID
		c.mu.Unlock()
		switch {
		case connect:
			c.connected(r)
		case f == nil: // nobody waits any more
		case r.Error != nil:
			f(nil, r.Error)
		default:
			f(r, nil)
		}
	}
}

// pong answers the server's ping.
func (c *Client) pong() {
	c.mu.Lock()
	answer := c.session != nil && c.session.pong
	c.mu.Unlock()
	if !answer {
		return
	}
	b := []byte("{}")
	if c.options.Protobuf {
		b = []byte{0}
	}
	_ = c.conn.Write(c.ctx, c.opcode(), b) // if the connection is lost there is nothing to answer
}

// connected takes the reply to connect.
func (c *Client) connected(r *reply) {
	c.end()
	if e := r.Error; e != nil {
		if e.Code == tokenExpired && c.options.GetToken != nil {
			c.mu.Lock()
			c.token = ""
			c.mu.Unlock()
		}
		if !e.retry() || e.Code == tokenExpired && c.options.GetToken == nil {
			c.fail(e)
		} else {
			c.conn.Reconnect(0)
		}
		return
	}
	result := r.Connect
	if result == nil {
		result = &connectResult{}
	}
	s := &session{pong: result.Pong}
	c.mu.Lock()
	s.ctx, s.cancel = context.WithCancel(c.ctx)
	c.session = s
	close(c.ready)
	subs := make([]*Subscription, 0, len(c.subs))
	for _, sub := range c.subs {
		subs = append(subs, sub)
	}
	gone := maps.Clone(c.server)
	c.mu.Unlock()

	if f := c.options.OnConnected; f != nil {
		f(Connected{Client: result.Client, Version: result.Version, Data: result.Data})
	}
	for channel, sub := range result.Subs {
		delete(gone, channel)
		if sub == nil {
			sub = &subscribeResult{}
		}
		c.mu.Lock()
		st := c.server[channel]
		if st == nil {
			st = &stream{}
			c.server[channel] = st
		}
		c.mu.Unlock()
		c.subscribed(channel, st, &c.options.Handler, sub)
	}
	for channel := range gone {
		c.mu.Lock()
		delete(c.server, channel)
		c.mu.Unlock()
		if f := c.options.Handler.Unsubscribed; f != nil {
			f(channel, 0, "")
		}
	}
	if result.Expires {
		c.spawn(func() { c.refresh(s, result.TTL) })
	}
	for _, sub := range subs {
		c.spawn(func() { sub.subscribe(s, 0) })
	}
}

// refresh shows the server another token in time, again and again.
func (c *Client) refresh(s *session, ttl uint32) {
	for failures := 0; c.options.GetToken != nil; {
		wait := max(time.Duration(ttl)*time.Second, time.Second)
		if failures > 0 {
			wait = retryWait(failures)
		}
		if !sleep(s.ctx, wait) {
			return
		}
		failures++
		token, err := c.options.GetToken(s.ctx)
		if err != nil {
			continue
		}
		c.mu.Lock()
		c.token = token
		c.mu.Unlock()
		r, err := c.ask(s.ctx, s, &command{Refresh: &refreshRequest{Token: token}})
		var e *Error
		switch {
		case errors.As(err, &e) && !e.retry():
			c.spawn(func() { c.fail(e) })
			return
		case err != nil:
		case r.Refresh == nil || !r.Refresh.Expires:
			return
		default:
			failures, ttl = 0, r.Refresh.TTL
		}
	}
}

// subscribed takes a subscription that has come into force, client-side or server-side.
func (c *Client) subscribed(channel string, st *stream, h *Handler, r *subscribeResult) {
	c.mu.Lock()
	st.positioned, st.recoverable = r.Recoverable || r.Positioned, r.Recoverable
	switch {
	case len(r.Publications) == 0:
		st.position = Position{Offset: r.Offset, Epoch: r.Epoch}
	case !r.Recovered || st.position.Epoch != r.Epoch:
		st.position = Position{Epoch: r.Epoch}
		if p := r.Publications[0]; p != nil && p.Offset > 0 {
			st.position.Offset = p.Offset - 1
		}
	}
	at := st.position
	c.mu.Unlock()
	st.delta, st.base = r.Delta, nil
	if f := h.Subscribed; f != nil {
		f(channel, Subscribed{Position: at, WasRecovering: r.WasRecovering, Recovered: r.Recovered, Delta: r.Delta, Data: r.Data})
	}
	for _, p := range r.Publications {
		if !c.publication(channel, st, h, p) {
			return
		}
	}
}

// publication reports false if it is the last of its subscription: then what follows would not fit either.
func (c *Client) publication(channel string, st *stream, h *Handler, p *publication) bool {
	if p == nil {
		return true
	}
	if st.delta || p.Delta {
		if err := c.whole(st, p); err != nil {
			c.again(channel)
			return false
		}
	}
	c.mu.Lock()
	seen := st.positioned && st.seen(p.Offset)
	c.mu.Unlock()
	if f := h.Publication; f != nil && !seen {
		f(channel, p.Publication)
	}
	return true
}

// whole has the data of p be the publication itself, in a channel with deltas, and notes it for the next.
func (c *Client) whole(st *stream, p *publication) error {
	if !st.delta {
		return errDelta // nobody asked for it
	}
	b := []byte(p.Data)
	if !c.options.Protobuf {
		var text string
		if err := json.Unmarshal(b, &text); err != nil {
			return errDelta
		}
		b = []byte(text)
	}
	if p.Delta {
		limit := c.options.Socket.ReadLimit
		if limit <= 0 {
			limit = 1 << 20
		}
		var err error
		if b, err = applyDelta(st.base, b, limit); err != nil {
			return err
		}
	}
	if !c.options.Protobuf && !json.Valid(b) {
		return errDelta
	}
	st.base, p.Data = b, bytes.Clone(b)
	return nil
}

// again begins a session anew, because of a delta that does not fit: the subscription then goes on where it stood, without
// deltas.
func (c *Client) again(channel string) {
	c.mu.Lock()
	if s := c.subs[channel]; s != nil {
		s.subscribed, s.whole = false, true
	}
	c.mu.Unlock()
	c.conn.Reconnect(0)
}

// push handles what the server sends by itself.
func (c *Client) push(p *push) {
	c.mu.Lock()
	sub, st := c.subs[p.Channel], c.server[p.Channel]
	current := c.session
	in := sub != nil && sub.subscribed
	c.mu.Unlock()
	h := &c.options.Handler
	switch {
	case in:
		h, st = &sub.options.Handler, &sub.stream
	case sub != nil && st == nil: // not yet in force, or of one before
		h, st = nil, nil
	}
	switch {
	case p.Message != nil:
		if f := c.options.OnMessage; f != nil {
			f(p.Message.Data)
		}
	case p.Disconnect != nil:
		c.disconnect(p.Disconnect)
	case p.Refresh != nil:
		if p.Refresh.Expires && current != nil {
			c.spawn(func() { c.refresh(current, p.Refresh.TTL) })
		}
	case p.Subscribe != nil:
		r := p.Subscribe
		st = &stream{}
		c.mu.Lock()
		c.server[p.Channel] = st
		c.mu.Unlock()
		c.subscribed(p.Channel, st, &c.options.Handler, &subscribeResult{Recoverable: r.Recoverable,
			Positioned: r.Positioned, Epoch: r.Epoch, Offset: r.Offset, Data: r.Data})
	case st == nil:
	case p.Pub != nil:
		c.publication(p.Channel, st, h, p.Pub)
	case p.Join != nil && p.Join.Info != nil:
		if h.Join != nil {
			h.Join(p.Channel, *p.Join.Info)
		}
	case p.Leave != nil && p.Leave.Info != nil:
		if h.Leave != nil {
			h.Leave(p.Channel, *p.Leave.Info)
		}
	case p.Unsubscribe != nil:
		c.unsubscribed(p.Channel, sub, in, p.Unsubscribe)
	}
}

// resubscribe is the first code of an unsubscribe after which a client subscribes again.
const resubscribe = 2500

func (c *Client) unsubscribed(channel string, sub *Subscription, in bool, u *unsubscribePush) {
	h := &c.options.Handler
	c.mu.Lock()
	s := c.session
	switch {
	case !in:
		delete(c.server, channel)
	case u.Code >= resubscribe:
		sub.subscribed = false
		failures := 0
		if time.Since(sub.entered) < time.Second {
			failures = 1 // a server that does so at once, again and again, is not asked in a loop
		}
		c.mu.Unlock()
		if s != nil {
			c.spawn(func() { sub.subscribe(s, failures) })
		}
		return
	default:
		h = &sub.options.Handler
		delete(c.subs, channel)
		sub.subscribed = false
	}
	c.mu.Unlock()
	if h.Unsubscribed != nil {
		h.Unsubscribed(channel, u.Code, u.Reason)
	}
}

// disconnect takes a disconnect that came as a message.
func (c *Client) disconnect(d *disconnectPush) {
	if d.Code >= 3500 && d.Code < 4000 || d.Code >= 4500 && d.Code < 5000 {
		c.fail(&client.CloseError{Code: ws.StatusCode(d.Code), Reason: d.Reason})
		return
	}
	c.conn.Reconnect(0)
}

// await returns the session, when there is one.
func (c *Client) await(ctx context.Context) (*session, error) {
	for { // again when a session was lost at once
		c.mu.Lock()
		s, ready := c.session, c.ready
		c.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-ready:
		case <-c.ended:
			return nil, c.Err()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// send sends a command in s. f is called once, with the reply or with an error, by the goroutine that reads or by the one
// that finds the connection lost, unless send returns an error.
func (c *Client) send(ctx context.Context, s *session, m *command, f func(*reply, error)) (id uint32, err error) {
	c.mu.Lock()
	if c.session != s {
		c.mu.Unlock()
		return 0, ErrDisconnected
	}
	c.lastID++
	id = c.lastID
	if f != nil {
		m.ID = id
		c.pending[id] = f
	}
	c.mu.Unlock()
	b, err := encode(c.options.Protobuf, m)
	if err == nil {
		if err = c.conn.Write(ctx, c.opcode(), b); errors.Is(err, client.ErrQueueFull) {
			err = ErrDisconnected // there is no queue
		}
	}
	if err != nil && f != nil && !c.forget(id) {
		return id, nil // f was called
	}
	return id, err
}

// forget reports whether a reply was still awaited, and has nobody wait for it any more.
func (c *Client) forget(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.pending[id]
	delete(c.pending, id)
	return ok
}

// ask sends a command in s and waits for the reply, for Options.Timeout at the most.
func (c *Client) ask(ctx context.Context, s *session, m *command) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	type answer struct {
		r   *reply
		err error
	}
	answers := make(chan answer, 1)
	id, err := c.send(ctx, s, m, func(r *reply, err error) { answers <- answer{r, err} })
	if err != nil {
		return nil, err
	}
	select {
	case a := <-answers:
		return a.r, a.err
	case <-ctx.Done():
		if !c.forget(id) {
			a := <-answers
			return a.r, a.err
		}
		return nil, ctx.Err()
	}
}

// call is ask in the session that there is, or that there will be.
func (c *Client) call(ctx context.Context, what string, m *command) (*reply, error) {
	s, err := c.await(ctx)
	if err == nil {
		var r *reply
		if r, err = c.ask(ctx, s, m); err == nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("centrifuge: %s: %w", what, err)
}

// Publish publishes data in a channel, and returns when the server has taken it. While there is no session it waits for
// one; so do all the methods below.
func (c *Client) Publish(ctx context.Context, channel string, data []byte) error {
	_, err := c.call(ctx, "publish", &command{Publish: &publishRequest{Channel: channel, Data: data}})
	return err
}

// Send sends data to the server, which does not answer.
func (c *Client) Send(ctx context.Context, data []byte) error {
	s, err := c.await(ctx)
	if err == nil {
		_, err = c.send(ctx, s, &command{Send: &dataMessage{Data: data}}, nil)
	}
	if err != nil {
		return fmt.Errorf("centrifuge: send: %w", err)
	}
	return nil
}

// RPC calls a method of the server's application.
func (c *Client) RPC(ctx context.Context, method string, data []byte) ([]byte, error) {
	r, err := c.call(ctx, "rpc", &command{RPC: &rpcRequest{Method: method, Data: data}})
	if err != nil || r.RPC == nil {
		return nil, err
	}
	return r.RPC.Data, nil
}

// History reads from the stream of a channel, and returns its top.
func (c *Client) History(ctx context.Context, channel string, o HistoryOptions) ([]Publication, Position, error) {
	request := &historyRequest{Channel: channel, Limit: int32(min(o.Limit, math.MaxInt32)), Reverse: o.Reverse}
	if o.Limit < 0 {
		request.Limit = -1
	}
	if o.Since != nil {
		request.Since = o.Since
	}
	r, err := c.call(ctx, "history", &command{History: request})
	if err != nil || r.History == nil {
		return nil, Position{}, err
	}
	pubs := make([]Publication, 0, len(r.History.Publications))
	for _, p := range r.History.Publications {
		if p != nil {
			pubs = append(pubs, p.Publication)
		}
	}
	return pubs, Position{Offset: r.History.Offset, Epoch: r.History.Epoch}, nil
}

// Presence returns who is in a channel, by client id.
func (c *Client) Presence(ctx context.Context, channel string) (map[string]ClientInfo, error) {
	r, err := c.call(ctx, "presence", &command{Presence: &channelRequest{channel}})
	if err != nil {
		return nil, err
	}
	present := make(map[string]ClientInfo)
	if r.Presence != nil {
		for id, info := range r.Presence.Presence {
			if info != nil {
				present[id] = *info
			}
		}
	}
	return present, nil
}

// PresenceStats returns how many are in a channel.
func (c *Client) PresenceStats(ctx context.Context, channel string) (PresenceStats, error) {
	r, err := c.call(ctx, "presence stats", &command{PresenceStats: &channelRequest{channel}})
	if err != nil || r.PresenceStats == nil {
		return PresenceStats{}, err
	}
	return *r.PresenceStats, nil
}
