// Package api is the application's side of a gateway over HTTP: POST /api/publish and the like, with requests and answers
// in JSON. They are those of Centrifugo's server API, so that its clients in many languages work. docs/api.md is for
// those who call it, and openapi.json for their tools.
package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/pprof"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/session"
	"github.com/longwire/longwire/internal/wire/centrifuge"
)

// Gateway is what the API speaks for. Errors of its methods that are a *session.Error go to the caller as they are; all
// others are internal ones, which the caller is not told.
type Gateway interface {
	// Ready reports whether the gateway takes connections. Without it every request is answered 503.
	Ready() bool

	Publish(ctx context.Context, channel string, data []byte, o session.PublishOptions) (engine.Published, error)
	PublishAll(ctx context.Context, channels []string, data []byte, o session.PublishOptions) []session.PublishResult
	Subscribe(ctx context.Context, t session.Target, channel string, as session.SubscribeAs) error
	Unsubscribe(ctx context.Context, t session.Target, channel string) error
	Disconnect(ctx context.Context, t session.Target, as session.DisconnectAs) error
	Refresh(ctx context.Context, t session.Target, as session.RefreshAs) error
	Presence(ctx context.Context, channel string) (map[string]*engine.ClientInfo, error)
	PresenceStats(ctx context.Context, channel string) (engine.PresenceStats, error)
	History(ctx context.Context, channel string, f engine.HistoryFilter) ([]*engine.Publication, engine.Position, error)
	RemoveHistory(ctx context.Context, channel string) error
	Channels(ctx context.Context, pattern string) (map[string]int, error)
	Info(ctx context.Context) ([]session.NodeInfo, error)

	// Why and Recorded are of this node alone.
	Why(q longwire.Question) ([]longwire.Span, error)
	Recorded() (from time.Time, err error)
}

// Options are of New.
type Options struct {
	// Gateway returns the gateway. It is called with each request, so that the handler may be made before the gateway.
	// Required.
	Gateway func() Gateway
	// Key is what callers show. Empty lets nobody in, unless Insecure is set.
	Key string
	// Insecure asks for no key. Requests that a browser sends for a page of another origin are refused then: any page
	// could publish otherwise.
	Insecure bool
	// RPC answers the method rpc; an *Error it returns goes to the caller. Nil knows no method.
	RPC func(ctx context.Context, method string, params []byte) ([]byte, error)
	// MaxBody bounds a request's body in bytes. Zero means 1 MiB.
	MaxBody int64
	// Log gets internal errors. Nil means slog.Default().
	Log *slog.Logger
}

// Error is the error of an answer.
type Error = session.Error

var errNotFound = &Error{Code: centrifuge.ErrMethodNotFound.Code, Message: "not found"}

// Prefix is where the handler stands.
const Prefix = "/api/"

// documentPath is where the description is.
const documentPath = Prefix + "openapi.json"

//go:embed openapi.json
var document []byte

// api serves the methods.
type api struct {
	o      Options
	key    [sha256.Size]byte
	origin *http.CrossOriginProtection
}

// New returns a handler of everything under Prefix.
func New(o Options) http.Handler {
	if o.MaxBody == 0 {
		o.MaxBody = 1 << 20
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &api{o: o, key: sha256.Sum256([]byte(o.Key)), origin: http.NewCrossOriginProtection()}
}

// labels are those of a goroutine in profiles while it serves the API; those of its context come back.
var labels = pprof.WithLabels(context.Background(), pprof.Labels("subsystem", "api"))

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	pprof.SetGoroutineLabels(labels)
	defer pprof.SetGoroutineLabels(r.Context())
	if r.URL.Path == documentPath {
		if allow(w, r, http.MethodGet, http.MethodHead) {
			respond(w, document)
		}
		return
	}
	name := strings.TrimPrefix(r.URL.Path, Prefix)
	m, ok := methods[name]
	switch {
	case !ok && name != batchName:
		http.Error(w, "no such method: "+documentPath+" has them all", http.StatusNotFound)
		return
	}
	r.Pattern = Prefix + name // the route, for who times requests
	switch {
	case !allow(w, r, http.MethodPost):
		return
	case !a.authorized(r):
		w.Header().Set("WWW-Authenticate", "apikey")
		http.Error(w, "want the API key, as X-API-Key or as Authorization: apikey KEY", http.StatusUnauthorized)
		return
	}
	if err := a.origin.Check(r); a.o.Insecure && err != nil {
		http.Error(w, "a page of another origin may not call this API", http.StatusForbidden)
		return
	}
	if !a.o.Gateway().Ready() {
		unavailable(w)
		return
	}
	body, err := a.body(w, r)
	if err != nil {
		status := http.StatusBadRequest
		var tooLong *http.MaxBytesError
		if errors.As(err, &tooLong) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), status)
		return
	}
	if name == batchName {
		a.batch(w, r, body)
		return
	}
	do, err := m.decode(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	result, err := do(r.Context(), a)
	if err != nil && !a.o.Gateway().Ready() {
		unavailable(w) // it was on its way out in between
		return
	}
	var answer struct {
		Error  *wireError `json:"error,omitempty"`
		Result any        `json:"result,omitempty"`
	}
	if answer.Error = a.wireError(name, err); err == nil {
		answer.Result = result
	}
	a.respond(w, name, &answer)
}

// allow answers 405 to all methods of HTTP but those.
func allow(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	for _, m := range methods {
		if r.Method == m {
			return true
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	http.Error(w, "want "+strings.Join(methods, " or "), http.StatusMethodNotAllowed)
	return false
}

func unavailable(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, "the gateway is going away", http.StatusServiceUnavailable)
}

// authorized reports whether the caller has shown the key.
func (a *api) authorized(r *http.Request) bool {
	if a.o.Insecure {
		return true
	}
	key := r.Header.Get("X-API-Key")
	if scheme, rest, ok := strings.Cut(r.Header.Get("Authorization"), " "); key == "" && ok && strings.EqualFold(scheme, "apikey") {
		key = strings.TrimSpace(rest)
	}
	if key == "" {
		key = r.URL.Query().Get("api_key")
	}
	// Hashes have one length: not even that of the key shows in the time that this takes.
	sum := sha256.Sum256([]byte(key))
	return subtle.ConstantTimeCompare(sum[:], a.key[:]) == 1 && a.o.Key != ""
}

// body reads the request. None at all is an object without members.
func (a *api) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.o.MaxBody))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the body: %w", err)
	case !utf8.Valid(b):
		return nil, errors.New("the body is not UTF-8")
	case len(bytes.TrimSpace(b)) == 0:
		return []byte("{}"), nil
	}
	return b, nil
}

// wireError is the error as the caller gets it.
type wireError struct {
	Code    uint32 `json:"code"`
	Message string `json:"message"`
}

// wireError is what the caller is told of err, nil if there is none.
func (a *api) wireError(method string, err error) *wireError {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		a.o.Log.Error("api", "method", method, "error", err.Error())
		e = centrifuge.ErrInternal
	}
	return &wireError{Code: e.Code, Message: e.Message}
}

// respond writes v. Data of others passes as it is, but for white space.
func (a *api) respond(w http.ResponseWriter, method string, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		// Data that is no JSON, for example, published in Go for clients that speak Protobuf.
		a.o.Log.Error("api: write the answer", "method", method, "error", err.Error())
		b.Reset()
		fmt.Fprintf(&b, `{"error":{"code":%d,"message":%q}}`, centrifuge.ErrInternal.Code, centrifuge.ErrInternal.Message)
	}
	respond(w, bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

func respond(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(b)
}
