package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/wire/centrifuge"
)

type whyRequest struct {
	Client  string `json:"client"`
	User    string `json:"user"`
	Address string `json:"address"`
	Request string `json:"request"`
	Trace   string `json:"trace"`
	Cause   string `json:"cause"`
	Since   string `json:"since"`
	Limit   int    `json:"limit"`
}

type whyResult struct {
	Spans []longwire.Span `json:"spans"`
	From  *time.Time      `json:"from,omitempty"` // of the oldest event that is known; absent before the first
}

// question reads the request; its error is for the caller.
func (r *whyRequest) question(now time.Time) (longwire.Question, error) {
	q := longwire.Question{Client: r.Client, User: r.User, Address: r.Address, Request: r.Request, Trace: r.Trace, Limit: r.Limit}
	if r.Cause != "" {
		if err := q.Cause.UnmarshalText([]byte(r.Cause)); err != nil {
			return q, err
		}
	}
	if r.Since != "" {
		if ago, err := time.ParseDuration(r.Since); err == nil && ago >= 0 {
			q.Since = now.Add(-ago)
		} else if q.Since, err = time.Parse(time.RFC3339, r.Since); err != nil {
			return q, fmt.Errorf("since %q: want how long ago, such as 10m, or a time in RFC 3339", r.Since)
		}
	}
	return q, nil
}

// why tells what became of connections.
func why(_ context.Context, a *api, r *whyRequest) (any, error) {
	q, err := r.question(time.Now())
	if err != nil {
		return nil, badQuestion(err)
	}
	g := a.o.Gateway()
	spans, err := g.Why(q)
	switch {
	case errors.Is(err, longwire.ErrNoRecord):
		return nil, &Error{Code: centrifuge.ErrNotAvailable.Code, Message: "not available: the gateway records nothing (flight-record is none)"}
	case errors.Is(err, longwire.ErrBadQuestion):
		return nil, badQuestion(err)
	case err != nil:
		return nil, err
	}
	result := whyResult{Spans: spans}
	from, err := g.Recorded()
	if !from.IsZero() {
		from = from.UTC()
		result.From = &from
	}
	return &result, err
}

// badQuestion is the error of a request that says what is wrong with it.
func badQuestion(err error) *Error {
	return &Error{Code: centrifuge.ErrBadRequest.Code, Message: "bad request: " + err.Error()}
}
