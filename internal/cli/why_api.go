package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/config"
)

// whyAPI is the API of a gateway that is asked what became of connections.
type whyAPI struct {
	base   *url.URL
	key    string
	client http.Client
}

// newWhyAPI takes the values of --url and --api-key; without a key it is that of the environment.
func newWhyAPI(c *call, address, key string) (*whyAPI, error) {
	base, err := url.Parse(address)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("--url %q: want one such as http://localhost:8000", address)
	}
	if key == "" {
		name := config.EnvName("api-key") + "="
		for _, v := range c.Environ {
			if v, ok := strings.CutPrefix(v, name); ok {
				key = v
			}
		}
	}
	return &whyAPI{base: base, key: key, client: http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the key is for this host
	}}, nil
}

// questionError is what the API says to a question that cannot be asked so.
type questionError struct{ text string }

func (e *questionError) Error() string { return e.text }

// whyAnswer is the API's. An error of the whole request is an exitError instead.
type whyAnswer struct {
	Error *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
	Result json.RawMessage `json:"result"`
}

type whyResult struct {
	Spans []longwire.Span `json:"spans"`
	From  time.Time       `json:"from"`
}

// ask asks a question, whose fields are the API's, and returns the result, a whyResult, as it came.
func (w *whyAPI) ask(ctx context.Context, question map[string]any) (json.RawMessage, error) {
	body, err := json.Marshal(question)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.base.JoinPath("/api/why").String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if w.key != "" {
		r.Header.Set("X-API-Key", w.key)
	}
	resp, err := w.client.Do(r)
	if err != nil {
		return nil, &exitError{code: exitFailed, err: fmt.Errorf("ask the gateway: %w", err), hint: "is it running? --url says where"}
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", w.base, err)
	}
	failed := func(hint, format string, args ...any) error {
		return &exitError{code: exitFailed, err: fmt.Errorf(format, args...), hint: hint}
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		if w.key == "" {
			return nil, failed("give it with --api-key, or better in LONGWIRE_API_KEY", "%s wants the key of its API", w.base)
		}
		return nil, failed("it is what the gateway has as api-key", "%s has another API key", w.base)
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return nil, failed("longwire serve has an API with --api-key, or with --dev", "%s has no API that could be asked", w.base)
	default:
		line, _, _ := strings.Cut(string(text[:min(len(text), 200)]), "\n")
		return nil, failed("", "%s answers %s: %s", w.base, resp.Status, visible(line))
	}
	var a whyAnswer
	if err := json.Unmarshal(text, &a); err != nil {
		return nil, failed("is it a longwire gateway?", "read the answer of %s: %w", w.base, err)
	}
	switch {
	case a.Error == nil:
		return a.Result, nil
	case a.Error.Code == 107:
		return nil, &exitError{code: exitFailed, err: &questionError{fmt.Sprintf("%s answers: %s", w.base, visible(a.Error.Message))}}
	case a.Error.Code == 108:
		return nil, failed("start it with a flight-record that is not none", "the gateway at %s records nothing", w.base)
	}
	return nil, failed("", "%s answers: %s", w.base, visible(a.Error.Message))
}
