package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/api"
	"github.com/longwire/longwire/internal/wire/centrifuge"
	"github.com/longwire/longwire/ws"
)

// Gateway is what the API speaks for.
type Gateway interface {
	api.Gateway
	Stats() longwire.Stats
	Search(ctx context.Context, q longwire.Search) (longwire.Found, error)
	ChannelPage(ctx context.Context, q longwire.ChannelQuery) (longwire.ChannelPage, error)
	Find(client string) (longwire.Conn, bool)
}

// Options are of New.
type Options struct {
	// Gateway returns the gateway. It is called with each request, so that the API may be made before the gateway. Required.
	Gateway func() Gateway
	// Node is what the node is and may. Required.
	Node func() Node
	// TCP is the kernel's side of connections. Nil tells that there is none.
	TCP func() TCPCounts
	// Drain begins the node's drain, over a length that may be negative for the configured one, or shortens the one that is
	// under way. Nil refuses.
	Drain func(ctx context.Context, over time.Duration) (Drained, error)
	// Mask is an address as the log may have it. Nil shows it whole.
	Mask func(netip.Addr) netip.Addr
	// Log gets what is done by hand, and internal errors. Nil means slog.Default().
	Log *slog.Logger
}

// Drained is what came of a wish to drain.
type Drained struct {
	Length   float64 `json:"length_s"`  // from now until the last connection has had its turn
	Conns    int     `json:"conns"`     // that are left
	UnderWay bool    `json:"under_way"` // it had begun before; it is no longer than it was
}

// Node is what does not change while a node runs.
type Node struct {
	Version   string     `json:"version"`
	Node      string     `json:"node"` // its name
	PID       int        `json:"pid"`
	Started   time.Time  `json:"started"`
	Uptime    float64    `json:"uptime_s"`
	Addr      string     `json:"addr"`
	Layout    string     `json:"layout"`
	Endpoints []Endpoint `json:"endpoints"`
	Limits    Limits     `json:"limits"`
	Features  Features   `json:"features"`
}

// Endpoint is where clients connect.
type Endpoint struct {
	Path     string `json:"path"`
	Protocol string `json:"protocol"` // plain, centrifuge or websocket
}

// Limits are those of the configuration; 0 is no bound, or off.
type Limits struct {
	MaxConns         int     `json:"max_conns"`
	MaxMemory        int64   `json:"max_memory"` // -1: what the machine has left
	ConnsPerAddress  int     `json:"conns_per_address"`
	RatePerAddress   float64 `json:"rate_per_address"`
	ConnectRate      float64 `json:"connect_rate"`
	MaxMessage       int     `json:"max_message"`
	WriteQueue       int     `json:"write_queue"`
	HandshakeTimeout float64 `json:"handshake_timeout_s"`
	PingAfter        float64 `json:"ping_after_s"`
	CloseAfter       float64 `json:"close_after_s"`
	Drain            float64 `json:"drain_s"`
}

// Features are what the node has beside serving.
type Features struct {
	Trace         string     `json:"trace"` // bpf, diag, errno or off
	Recorder      bool       `json:"recorder"`
	RecorderBytes int64      `json:"recorder_bytes"`
	RecorderFrom  *time.Time `json:"recorder_from,omitempty"` // of the oldest event; absent before the first
	MaskAddresses bool       `json:"mask_addresses"`
	Push          bool       `json:"push"`
	Dev           bool       `json:"dev"`
}

// API answers the console. Any goroutine may use it.
type API struct {
	o    Options
	live *live
	mux  *http.ServeMux
}

// Prefix is where the API stands.
const Prefix = "/admin/v1/"

// Bounds of requests, in bytes.
const (
	bodyMost    = 64 << 10
	publishMost = 1 << 20
)

// New makes the API: everything below Prefix. Who may call it is for its caller to say (Guard).
func New(o Options) *API {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.TCP == nil {
		o.TCP = func() TCPCounts { return TCPCounts{Why: "connections are not traced"} }
	}
	if o.Mask == nil {
		o.Mask = func(a netip.Addr) netip.Addr { return a }
	}
	a := &API{o: o, live: newLive(func() longwire.Stats { return o.Gateway().Stats() }, o.TCP), mux: http.NewServeMux()}
	for _, m := range []struct {
		method, name string
		serve        func(w http.ResponseWriter, r *http.Request) error
	}{
		{http.MethodGet, "node", a.serveNode},
		{http.MethodGet, "live", a.serveLive},
		{http.MethodPost, "sessions", a.sessions},
		{http.MethodPost, "why", a.why},
		{http.MethodPost, "channels", a.channels},
		{http.MethodPost, "publish", a.publish},
		{http.MethodPost, "disconnect", a.disconnect},
		{http.MethodPost, "drain", a.drain},
	} {
		a.mux.HandleFunc(Prefix+m.name, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != m.method && !(m.method == http.MethodGet && r.Method == http.MethodHead) {
				w.Header().Set("Allow", m.method)
				fail(w, http.StatusMethodNotAllowed, "method_not_allowed", "want "+m.method)
				return
			}
			if err := m.serve(w, r); err != nil {
				a.failed(w, m.name, err)
			}
		})
	}
	a.mux.HandleFunc(Prefix, func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "not_found", "there is no such method")
	})
	return a
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// Close ends what runs for those who watch. The API must not be called any more.
func (a *API) Close() { a.live.close() }

// failed answers with what err means to the caller.
func (a *API) failed(w http.ResponseWriter, method string, err error) {
	var f *failure
	var e *api.Error
	switch {
	case errors.As(err, &f):
	case errors.Is(err, context.Canceled):
		return // nobody is there
	case errors.Is(err, longwire.ErrBusy):
		f = &failure{http.StatusServiceUnavailable, "busy", strings.TrimPrefix(err.Error(), "longwire: ") + ": try again", 1}
	case errors.Is(err, longwire.ErrClosed):
		f = errClosed
	case errors.Is(err, longwire.ErrBadQuestion):
		f = badRequest("%v", err)
	case errors.As(err, &e):
		f = apiFailure(e)
	default:
		a.o.Log.Error("admin", "method", method, "error", err.Error())
		f = &failure{status: http.StatusInternalServerError, code: "internal", message: "internal error: the log has it"}
	}
	if f.again > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.again))
	}
	if f.status == http.StatusServiceUnavailable {
		w.Header().Set("Connection", "close") // who waits holds no connection meanwhile
	}
	fail(w, f.status, f.code, f.message)
}

// apiFailure is an error of the application's API as this one says it.
func apiFailure(e *api.Error) *failure {
	f := &failure{status: http.StatusBadRequest, code: "bad_request", message: e.Message}
	switch e.Code {
	case centrifuge.ErrInternal.Code:
		f.status, f.code = http.StatusInternalServerError, "internal"
	case centrifuge.ErrUnknownChannel.Code:
		f.status, f.code = http.StatusNotFound, "unknown_channel"
		f.message = "unknown channel: no namespace of the configuration has it"
	case centrifuge.ErrNotAvailable.Code:
		f.status, f.code = http.StatusConflict, "not_available"
	case centrifuge.ErrTooManyRequests.Code:
		f.status, f.code, f.again = http.StatusServiceUnavailable, "busy", 1
	}
	return f
}

func (a *API) serveNode(w http.ResponseWriter, _ *http.Request) error {
	n := a.o.Node()
	if from, err := a.o.Gateway().Recorded(); err == nil {
		n.Features.Recorder = true
		if !from.IsZero() {
			from = from.UTC()
			n.Features.RecorderFrom = &from
		}
	}
	return respond(w, n)
}

// session is a connection as the console shows it.
type session struct {
	Client        string `json:"client"`
	User          string `json:"user"`
	Address       string `json:"address"`
	Endpoint      string `json:"endpoint"`
	Protocol      string `json:"protocol"`
	Age           int64  `json:"age_ms"`
	Silent        int64  `json:"silent_ms"`
	QueueBytes    int    `json:"queue_bytes"`
	Subscriptions int    `json:"subscriptions"`
}

// sessions searches the connections that are open.
func (a *API) sessions(w http.ResponseWriter, r *http.Request) error {
	var q struct {
		Client   string `json:"client"`
		User     string `json:"user"`
		Channel  string `json:"channel"`
		Address  string `json:"address"`
		Endpoint string `json:"endpoint"`
		Slow     bool   `json:"slow"`
		Cursor   string `json:"cursor"`
		Limit    int    `json:"limit"`
	}
	if err := read(w, r, bodyMost, &q); err != nil {
		return err
	}
	start := time.Now()
	found, err := a.o.Gateway().Search(r.Context(), longwire.Search{Client: q.Client, User: q.User, Channel: q.Channel, Address: q.Address,
		Endpoint: q.Endpoint, Slow: q.Slow, Cursor: q.Cursor, Limit: q.Limit})
	if err != nil {
		return err
	}
	answer := struct {
		Sessions []session `json:"sessions"`
		Cursor   string    `json:"cursor"`
		Scanned  int       `json:"scanned"`
		Total    int       `json:"total"`
		Took     float64   `json:"took_ms"`
	}{[]session{}, found.Cursor, found.Scanned, found.Total, milliseconds(time.Since(start))}
	for _, c := range found.Conns {
		answer.Sessions = append(answer.Sessions, session{Client: c.Client, User: c.User, Address: c.Address, Endpoint: c.Endpoint, Protocol: c.Protocol,
			Age: c.Age.Milliseconds(), Silent: c.Silent.Milliseconds(), QueueBytes: c.QueueBytes, Subscriptions: c.Subscriptions})
	}
	return respond(w, &answer)
}

// why is /api/why.
func (a *API) why(w http.ResponseWriter, r *http.Request) error {
	b, err := body(w, r, bodyMost)
	if err != nil {
		return err
	}
	return a.do(w, r, "why", b)
}

// do carries out a method of the application's API, and answers as that does where it succeeds.
func (a *API) do(w http.ResponseWriter, r *http.Request, method string, body []byte) error {
	result, err := api.Do(r.Context(), a.o.Gateway(), method, body)
	var bad *api.BodyError
	switch {
	case errors.As(err, &bad):
		return badRequest("%v", bad)
	case err != nil:
		return err
	}
	return respond(w, map[string]any{"result": result})
}

// channels is a page of the channels that have a subscriber on this node.
func (a *API) channels(w http.ResponseWriter, r *http.Request) error {
	var q struct {
		Pattern string `json:"pattern"`
		Cursor  string `json:"cursor"`
		Limit   int    `json:"limit"`
	}
	if err := read(w, r, bodyMost, &q); err != nil {
		return err
	}
	page, err := a.o.Gateway().ChannelPage(r.Context(), longwire.ChannelQuery{Pattern: q.Pattern, Cursor: q.Cursor, Limit: q.Limit})
	if err != nil {
		return err
	}
	type channel struct {
		Channel     string `json:"channel"`
		Subscribers int    `json:"subscribers"`
	}
	answer := struct {
		Channels []channel `json:"channels"`
		Cursor   string    `json:"cursor"`
		Total    int       `json:"total"`
	}{[]channel{}, page.Cursor, page.Total}
	for _, c := range page.Channels {
		answer.Channels = append(answer.Channels, channel{c.Name, c.Subscribers})
	}
	return respond(w, &answer)
}

// did logs what an operator did by hand: who and what, never a payload.
func (a *API) did(r *http.Request, what string, args ...any) {
	addr := "unknown"
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		addr = a.o.Mask(ap.Addr().Unmap()).String()
	}
	a.o.Log.Info("by hand: "+what, append([]any{"by", addr}, args...)...)
}

// publish publishes what an operator typed.
func (a *API) publish(w http.ResponseWriter, r *http.Request) error {
	var q struct {
		Channel string          `json:"channel"`
		Data    json.RawMessage `json:"data"`
	}
	if err := read(w, r, publishMost, &q); err != nil {
		return err
	}
	if len(q.Data) == 0 {
		return badRequest("no data: want JSON")
	}
	b, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if err := a.do(w, r, "publish", b); err != nil {
		return err
	}
	a.did(r, "publish", "channel", q.Channel, "bytes", len(q.Data))
	return nil
}

// disconnect ends connections: all of a user, or the one of a client.
func (a *API) disconnect(w http.ResponseWriter, r *http.Request) error {
	var q struct {
		Client string `json:"client"`
		User   string `json:"user"`
		Code   uint32 `json:"code"`
		Reason string `json:"reason"`
	}
	if err := read(w, r, bodyMost, &q); err != nil {
		return err
	}
	if q.Code != 0 && (q.Code < 3000 || q.Code > 4999) || len(q.Reason) > 123 {
		return badRequest("want a code from 3000 to 4999, and a reason of at most 123 bytes")
	}
	if (q.Client == "") == (q.User == "") {
		return badRequest("want either a client or a user")
	}
	if q.Client != "" {
		found, err := a.o.Gateway().Search(r.Context(), longwire.Search{Client: q.Client})
		switch {
		case err != nil:
			return err
		case len(found.Conns) == 0:
			return &failure{status: http.StatusNotFound, code: "not_found", message: "no client of this node has this id now"}
		case !found.Conns[0].Session:
			return a.closeConn(w, r, q.Client, q.Code, q.Reason)
		}
	}
	type disconnect struct {
		Code   uint32 `json:"code"`
		Reason string `json:"reason"`
	}
	b, err := json.Marshal(struct {
		User       string      `json:"user"`
		Client     string      `json:"client"`
		Disconnect *disconnect `json:"disconnect"`
	}{q.User, q.Client, &disconnect{q.Code, q.Reason}})
	if err != nil {
		return fmt.Errorf("disconnect: %w", err)
	}
	if err := a.do(w, r, "disconnect", b); err != nil {
		return err
	}
	a.did(r, "disconnect", "client", q.Client, "user", q.User, "code", q.Code)
	return nil
}

// closeConn ends a connection that has no session.
func (a *API) closeConn(w http.ResponseWriter, r *http.Request, client string, code uint32, reason string) error {
	c, ok := a.o.Gateway().Find(client)
	if !ok {
		return &failure{status: http.StatusNotFound, code: "not_found", message: "no client of this node has this id now"}
	}
	if code == 0 {
		code, reason = uint32(centrifuge.DisconnectForced.Code), centrifuge.DisconnectForced.Reason
	}
	if err := c.Close(ws.StatusCode(code), reason); err != nil {
		return err
	}
	a.did(r, "disconnect", "client", client, "code", code)
	return respond(w, map[string]any{"result": struct{}{}})
}

// drain begins the drain of the node, which ends the process.
func (a *API) drain(w http.ResponseWriter, r *http.Request) error {
	q := struct {
		Length *float64 `json:"length_s"`
	}{}
	if err := read(w, r, bodyMost, &q); err != nil {
		return err
	}
	over := time.Duration(-1)
	if q.Length != nil {
		if !(*q.Length >= 0 && *q.Length <= math.MaxInt32) {
			return badRequest("length_s %v: want seconds, 0 or more", *q.Length)
		}
		over = time.Duration(*q.Length * float64(time.Second))
	}
	if a.o.Drain == nil {
		return &failure{status: http.StatusConflict, code: "not_available", message: "this program ends by itself, not by hand"}
	}
	d, err := a.o.Drain(r.Context(), over)
	if err != nil {
		return err
	}
	a.did(r, "drain", "over", time.Duration(d.Length*float64(time.Second)), "under_way", d.UnderWay)
	return respond(w, &d)
}
