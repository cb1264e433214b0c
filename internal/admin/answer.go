package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// failure is the error of an answer: {"error":{"code":"…","message":"…"}}.
type failure struct {
	status  int
	code    string // a word that does not change
	message string // for people
	again   int    // seconds for Retry-After; 0: none
}

func (f *failure) Error() string { return f.message }

func badRequest(format string, args ...any) *failure {
	return &failure{status: http.StatusBadRequest, code: "bad_request", message: fmt.Sprintf(format, args...)}
}

// fail answers with an error.
func fail(w http.ResponseWriter, status int, code, message string) {
	type inner struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	b, _ := json.Marshal(map[string]inner{"error": {code, message}}) // of strings: cannot fail
	write(w, status, b)
}

// write answers with JSON that nobody keeps.
func write(w http.ResponseWriter, status int, b []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// respond writes v.
func respond(w http.ResponseWriter, v any) error {
	b, err := encode(v)
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	write(w, http.StatusOK, b)
	return nil
}

// encode is v in JSON, with < and > as they are. Data of others passes unchanged, but for white space.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// bodyTimeout is how long a request's body may take.
const bodyTimeout = 10 * time.Second

// read takes the request's body, which is an object or nothing, into v. Fields that v does not have are refused: a misspelt
// one would search, or disconnect, more than was meant.
func read(w http.ResponseWriter, r *http.Request, most int64, v any) error {
	b, err := body(w, r, most)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return badRequest("read the request: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return badRequest("read the request: more than one value")
	}
	return nil
}

// body is the request's body.
func body(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(bodyTimeout)) // where there is none, as in tests, there is no slow client
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	_ = c.SetReadDeadline(time.Time{})
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, &failure{status: http.StatusRequestEntityTooLarge, code: "too_large", message: fmt.Sprintf("the body is larger than %d bytes", most)}
	case err != nil:
		return nil, badRequest("read the body: %v", err)
	}
	return b, nil
}
