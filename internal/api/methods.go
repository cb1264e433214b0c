package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/session"
	"github.com/longwire/longwire/internal/wire/centrifuge"
	wire "github.com/longwire/longwire/internal/wire/json"
)

// method is what one path does.
type method struct {
	// decode reads a request and returns what to do. Its error is about the text: the request as such is refused.
	decode func(b []byte) (do, error)
	// request is the zero value of what decode reads, for tests of the description.
	request any
}

type do func(ctx context.Context, a *api) (result any, err error)

// of makes a method of what its request is read into.
func of[R any](f func(ctx context.Context, a *api, r *R) (any, error)) method {
	return method{request: *new(R), decode: func(b []byte) (do, error) {
		r := new(R)
		if err := json.Unmarshal(b, r); err != nil {
			return nil, fmt.Errorf("read the request: %w", err)
		}
		return func(ctx context.Context, a *api) (any, error) { return f(ctx, a, r) }, nil
	}}
}

// methods are all but batch, which is made of them.
var methods = map[string]method{
	"publish": of(publish), "broadcast": of(broadcast), "subscribe": of(subscribe), "unsubscribe": of(unsubscribe),
	"disconnect": of(disconnect), "refresh": of(refresh), "presence": of(presence), "presence_stats": of(presenceStats),
	"history": of(history), "history_remove": of(historyRemove), "channels": of(channels), "info": of(info), "why": of(why), "rpc": of(rpc),
}

const batchName = "batch"

// The parts of requests. What a field is for is in openapi.json.

type content struct {
	Data           json.RawMessage   `json:"data"`
	B64Data        string            `json:"b64data"`
	Tags           map[string]string `json:"tags"`
	SkipHistory    bool              `json:"skip_history"`
	IdempotencyKey string            `json:"idempotency_key"`
	Delta          bool              `json:"delta"`
}

type target struct {
	User    string `json:"user"`
	Client  string `json:"client"`
	Session string `json:"session"` // of transports that this gateway does not have
}

// The requests.
type (
	publishRequest struct {
		Channel string `json:"channel"`
		content
	}
	broadcastRequest struct {
		Channels []string `json:"channels"`
		content
	}
	subscribeRequest struct {
		target
		Channel      string          `json:"channel"`
		Info         json.RawMessage `json:"info"`
		B64Info      string          `json:"b64info"`
		Data         json.RawMessage `json:"data"`
		B64Data      string          `json:"b64data"`
		ExpireAt     int64           `json:"expire_at"`
		RecoverSince *position       `json:"recover_since"`
		Override     override        `json:"override"`
	}
	unsubscribeRequest struct {
		target
		Channel string `json:"channel"`
	}
	disconnectRequest struct {
		target
		Disconnect *struct {
			Code   uint32 `json:"code"`
			Reason string `json:"reason"`
		} `json:"disconnect"`
		Whitelist []string `json:"whitelist"`
	}
	refreshRequest struct {
		target
		Expired  bool            `json:"expired"`
		ExpireAt int64           `json:"expire_at"`
		Info     json.RawMessage `json:"info"`
	}
	channelRequest struct {
		Channel string `json:"channel"`
	}
	historyRequest struct {
		Channel string    `json:"channel"`
		Limit   int32     `json:"limit"`
		Since   *position `json:"since"`
		Reverse bool      `json:"reverse"`
	}
	channelsRequest struct {
		Pattern string `json:"pattern"`
	}
	infoRequest struct{}
	rpcRequest  struct {
		Method string          `json:"method"`
		Params json.RawMessage `json:"params"`
	}
	batchRequest struct {
		Commands []map[string]json.RawMessage `json:"commands"`
		Parallel bool                         `json:"parallel"`
	}
)

type position struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch"`
}

// override is the options of one subscription, each {"value": true} or absent.
type override struct {
	Presence           *truth `json:"presence"`
	JoinLeave          *truth `json:"join_leave"`
	ForceRecovery      *truth `json:"force_recovery"`
	ForcePositioning   *truth `json:"force_positioning"`
	ForcePushJoinLeave *truth `json:"force_push_join_leave"`
}

type truth struct {
	Value bool `json:"value"`
}

func (t *truth) option() *bool {
	if t == nil {
		return nil
	}
	return &t.Value
}

// The results.
type (
	empty         struct{}
	publishResult struct {
		Offset uint64 `json:"offset,omitempty"`
		Epoch  string `json:"epoch,omitempty"`
	}
	publishReply struct {
		Error  *wireError     `json:"error,omitempty"`
		Result *publishResult `json:"result,omitempty"`
	}
	broadcastResult struct {
		Responses []publishReply `json:"responses"`
	}
	client struct {
		User     string          `json:"user"`
		Client   string          `json:"client"`
		ConnInfo json.RawMessage `json:"conn_info,omitempty"`
		ChanInfo json.RawMessage `json:"chan_info,omitempty"`
	}
	presenceResult struct {
		Presence map[string]*client `json:"presence"`
	}
	presenceStatsResult struct {
		Clients int `json:"num_clients"`
		Users   int `json:"num_users"`
	}
	publication struct {
		Data    json.RawMessage   `json:"data,omitempty"`
		B64Data string            `json:"b64data,omitempty"` // instead, where the data is no JSON
		Info    *client           `json:"info,omitempty"`
		Offset  uint64            `json:"offset,omitempty"`
		Tags    map[string]string `json:"tags,omitempty"`
	}
	historyResult struct {
		Publications []publication `json:"publications"`
		Epoch        string        `json:"epoch"`
		Offset       uint64        `json:"offset"`
	}
	channelInfo struct {
		Clients int `json:"num_clients"`
	}
	channelsResult struct {
		Channels map[string]channelInfo `json:"channels"`
	}
	infoResult struct {
		Nodes []node `json:"nodes"`
	}
	node struct {
		UID      string `json:"uid"`
		Name     string `json:"name"`
		Version  string `json:"version"`
		Clients  int    `json:"num_clients"`
		Users    int    `json:"num_users"`
		Channels int    `json:"num_channels"`
		Uptime   int64  `json:"uptime,omitempty"`
		Subs     int    `json:"num_subs"`
	}
	rpcResult struct {
		Data json.RawMessage `json:"data,omitempty"`
	}
)

// bytes is the data that is published. Only b64data may be anything: what stands in the request as JSON goes to clients
// that speak JSON.
func (c *content) bytes() ([]byte, error) {
	if c.B64Data != "" {
		return decode64(c.B64Data)
	}
	if c.Data == nil {
		return nil, centrifuge.ErrBadRequest
	}
	return compact(c.Data)
}

func (c *content) options() session.PublishOptions {
	return session.PublishOptions{Tags: c.Tags, SkipHistory: c.SkipHistory, IdempotencyKey: c.IdempotencyKey, Delta: c.Delta}
}

// compact is raw without white space. It refuses what is nested deeper than clients are sent.
func compact(raw json.RawMessage) ([]byte, error) {
	if !wire.Valid(raw) {
		return nil, centrifuge.ErrBadRequest
	}
	var b bytes.Buffer
	b.Grow(len(raw))
	if err := json.Compact(&b, raw); err != nil {
		return nil, centrifuge.ErrBadRequest
	}
	return b.Bytes(), nil
}

func decode64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, centrifuge.ErrBadRequest
	}
	return b, nil
}

// optional is JSON that may be absent or null, or given in base64.
func optional(raw json.RawMessage, b64 string) ([]byte, error) {
	switch {
	case b64 != "":
		b, err := decode64(b64)
		if err != nil {
			return nil, err
		}
		return compact(b)
	case raw == nil || string(raw) == "null":
		return nil, nil
	}
	return compact(raw)
}

// who is whom a request is for. A session is refused: without it the request would be for more than was meant.
func (t *target) who() (session.Target, error) {
	if t.Session != "" {
		return session.Target{}, centrifuge.ErrNotAvailable
	}
	return session.Target{User: t.User, Client: t.Client}, nil
}

// expiry is a time in Unix seconds; 0 is never.
func expiry(seconds int64) (time.Time, error) {
	switch {
	case seconds == 0:
		return time.Time{}, nil
	case seconds < 0 || seconds > math.MaxUint32:
		return time.Time{}, centrifuge.ErrBadRequest
	}
	return time.Unix(seconds, 0), nil
}

func publish(ctx context.Context, a *api, r *publishRequest) (any, error) {
	data, err := r.bytes()
	if err != nil {
		return nil, err
	}
	p, err := a.o.Gateway().Publish(ctx, r.Channel, data, r.options())
	return &publishResult{p.Offset, p.Epoch}, err
}

func broadcast(ctx context.Context, a *api, r *broadcastRequest) (any, error) {
	if len(r.Channels) == 0 {
		return nil, centrifuge.ErrBadRequest
	}
	data, err := r.bytes()
	if err != nil {
		return nil, err
	}
	result := broadcastResult{Responses: make([]publishReply, len(r.Channels))}
	for i, p := range a.o.Gateway().PublishAll(ctx, r.Channels, data, r.options()) {
		if p.Err != nil {
			result.Responses[i].Error = a.wireError("broadcast", p.Err)
			continue
		}
		result.Responses[i].Result = &publishResult{p.Offset, p.Epoch}
	}
	return &result, nil
}

func subscribe(ctx context.Context, a *api, r *subscribeRequest) (any, error) {
	to, err := r.who()
	if err != nil {
		return nil, err
	}
	as := session.SubscribeAs{Options: session.SubscribeOptions{
		Presence: r.Override.Presence.option(), JoinLeave: r.Override.JoinLeave.option(),
		ForceJoinLeave: r.Override.ForcePushJoinLeave.option(), ForceRecovery: r.Override.ForceRecovery.option(),
		ForcePositioning: r.Override.ForcePositioning.option(),
	}}
	if as.Options.Info, err = optional(r.Info, r.B64Info); err != nil {
		return nil, err
	}
	if as.Options.Data, err = optional(r.Data, r.B64Data); err != nil {
		return nil, err
	}
	if as.ExpireAt, err = expiry(r.ExpireAt); err != nil {
		return nil, err
	}
	if r.RecoverSince != nil {
		as.Recover, as.RecoverOffset, as.RecoverEpoch = true, r.RecoverSince.Offset, r.RecoverSince.Epoch
	}
	return empty{}, a.o.Gateway().Subscribe(ctx, to, r.Channel, as)
}

func unsubscribe(ctx context.Context, a *api, r *unsubscribeRequest) (any, error) {
	to, err := r.who()
	if err != nil {
		return nil, err
	}
	return empty{}, a.o.Gateway().Unsubscribe(ctx, to, r.Channel)
}

func disconnect(ctx context.Context, a *api, r *disconnectRequest) (any, error) {
	to, err := r.who()
	if err != nil {
		return nil, err
	}
	as := session.DisconnectAs{Whitelist: r.Whitelist}
	if d := r.Disconnect; d != nil {
		if d.Code > math.MaxUint16 {
			return nil, centrifuge.ErrBadRequest
		}
		as.Code, as.Reason = uint16(d.Code), d.Reason
	}
	return empty{}, a.o.Gateway().Disconnect(ctx, to, as)
}

func refresh(ctx context.Context, a *api, r *refreshRequest) (any, error) {
	to, err := r.who()
	if err != nil {
		return nil, err
	}
	as := session.RefreshAs{Expired: r.Expired}
	if as.ExpireAt, err = expiry(r.ExpireAt); err != nil {
		return nil, err
	}
	if as.Info, err = optional(r.Info, ""); err != nil {
		return nil, err
	}
	return empty{}, a.o.Gateway().Refresh(ctx, to, as)
}

func clientOf(c *engine.ClientInfo) *client {
	if c == nil {
		return nil
	}
	return &client{User: c.User, Client: c.Client, ConnInfo: c.ConnInfo, ChanInfo: c.ChanInfo}
}

func presence(ctx context.Context, a *api, r *channelRequest) (any, error) {
	m, err := a.o.Gateway().Presence(ctx, r.Channel)
	result := presenceResult{Presence: make(map[string]*client, len(m))}
	for id, c := range m {
		result.Presence[id] = clientOf(c)
	}
	return &result, err
}

func presenceStats(ctx context.Context, a *api, r *channelRequest) (any, error) {
	s, err := a.o.Gateway().PresenceStats(ctx, r.Channel)
	return &presenceStatsResult{s.Clients, s.Users}, err
}

func history(ctx context.Context, a *api, r *historyRequest) (any, error) {
	f := engine.HistoryFilter{Limit: int(r.Limit), Reverse: r.Reverse}
	if r.Since != nil {
		f.Since = &engine.Position{Offset: r.Since.Offset, Epoch: r.Since.Epoch}
	}
	pubs, top, err := a.o.Gateway().History(ctx, r.Channel, f)
	result := historyResult{Publications: make([]publication, len(pubs)), Epoch: top.Epoch, Offset: top.Offset}
	for i, p := range pubs {
		out := publication{Info: clientOf(p.Info), Offset: p.Offset, Tags: p.Tags}
		if wire.Valid(p.Data) {
			out.Data = p.Data
		} else {
			out.B64Data = base64.StdEncoding.EncodeToString(p.Data)
		}
		result.Publications[i] = out
	}
	return &result, err
}

func historyRemove(ctx context.Context, a *api, r *channelRequest) (any, error) {
	return empty{}, a.o.Gateway().RemoveHistory(ctx, r.Channel)
}

func channels(ctx context.Context, a *api, r *channelsRequest) (any, error) {
	m, err := a.o.Gateway().Channels(ctx, r.Pattern)
	result := channelsResult{Channels: make(map[string]channelInfo, len(m))}
	for name, n := range m {
		result.Channels[name] = channelInfo{n}
	}
	return &result, err
}

func info(ctx context.Context, a *api, _ *infoRequest) (any, error) {
	nodes, err := a.o.Gateway().Info(ctx)
	result := infoResult{Nodes: make([]node, len(nodes))}
	for i, n := range nodes {
		result.Nodes[i] = node{UID: n.UID, Name: n.Name, Version: n.Version, Clients: n.Clients, Users: n.Users,
			Channels: n.Channels, Uptime: n.Uptime, Subs: n.Subs}
	}
	return &result, err
}

func rpc(ctx context.Context, a *api, r *rpcRequest) (any, error) {
	switch {
	case r.Method == "":
		return nil, centrifuge.ErrBadRequest
	case a.o.RPC == nil:
		return nil, errNotFound
	}
	data, err := a.o.RPC(ctx, r.Method, r.Params)
	return &rpcResult{data}, err
}

// Bounds of a batch.
const (
	batchMost   = 10_000 // commands
	batchAtOnce = 64     // commands that wait at a time, if the batch is parallel
)

// batch does many commands. What is no command gets an error of its own and keeps no other from being done, but nothing is
// done of a batch that is not well formed.
func (a *api) batch(w http.ResponseWriter, r *http.Request, body []byte) {
	var b batchRequest
	if err := json.Unmarshal(body, &b); err != nil {
		http.Error(w, "read the request: "+err.Error(), http.StatusBadRequest)
		return
	}
	if len(b.Commands) > batchMost {
		http.Error(w, fmt.Sprintf("%d commands: want at most %d", len(b.Commands), batchMost), http.StatusBadRequest)
		return
	}
	type step struct {
		name string
		do   do
		err  error
	}
	steps := make([]step, len(b.Commands))
	for i, command := range b.Commands {
		s := &steps[i]
		s.err = errNotFound
		for name, text := range command {
			m, ok := methods[name]
			if !ok {
				continue // a field that a later version knows, or nothing
			}
			d, err := m.decode(text)
			if err != nil {
				http.Error(w, fmt.Sprintf("command %d: %s: %v", i, name, err), http.StatusBadRequest)
				return
			}
			if s.do != nil {
				s.err = centrifuge.ErrBadRequest // two at once: which first?
				continue
			}
			s.name, s.do, s.err = name, d, nil
		}
	}
	replies := make([]map[string]any, len(steps))
	workers := 1
	if b.Parallel {
		workers = min(len(steps), batchAtOnce)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(steps)); i = next.Add(1) - 1 {
				s := &steps[i]
				result, err := any(nil), s.err
				if err == nil {
					result, err = s.do(r.Context(), a)
				}
				if err != nil {
					replies[i] = map[string]any{"error": a.wireError(s.name, err)}
				} else {
					replies[i] = map[string]any{s.name: result}
				}
			}
		})
	}
	wg.Wait()
	a.respond(w, batchName, map[string]any{"replies": replies})
}
