package api

import "context"

// BodyError is about the text of a request, which could not be read.
type BodyError struct{ err error }

func (e *BodyError) Error() string { return e.err.Error() }
func (e *BodyError) Unwrap() error { return e.err }

// Do carries out one method (not batch) for a caller that somebody else has let in, and returns the result as the HTTP API
// has it. body is the request, in JSON. The error is a *BodyError, an *Error for the caller, or an internal one.
func Do(ctx context.Context, g Gateway, method string, body []byte) (result any, err error) {
	m, ok := methods[method]
	if !ok {
		return nil, errNotFound
	}
	if len(body) == 0 {
		body = []byte("{}")
	}
	do, err := m.decode(body)
	if err != nil {
		return nil, &BodyError{err}
	}
	return do(ctx, &api{o: Options{Gateway: func() Gateway { return g }}})
}
