package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/longwire/longwire/internal/session"
	"github.com/longwire/longwire/internal/wire/centrifuge"
)

// FuzzReply holds the decoder to what sessions rely on, whatever a backend says: what it takes is a JSON object without
// an error or a disconnect, what it gives is JSON of one line, and what a client is told can be sent.
func FuzzReply(f *testing.F) {
	if seeds, err := filepath.Glob("testdata/fuzz/FuzzReply/*"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	f.Fuzz(func(t *testing.T, b []byte, binary bool) {
		line := func(what string, v []byte, binary bool) {
			t.Helper()
			if v != nil && !binary && (!isJSON(v) || bytes.ContainsAny(v, "\r\n")) {
				t.Errorf("%s %q of %q is not JSON of one line", what, v, b)
			}
		}
		options := func(o session.SubscribeOptions) {
			t.Helper()
			line("info", o.Info, false)
			line("data", o.Data, binary)
		}
		took := func(err error) bool {
			t.Helper()
			var e *centrifuge.Error
			var d *centrifuge.Disconnect
			switch {
			case errors.As(err, &d):
				if d.Code < 3000 || d.Code > 4999 || len(d.Reason) > maxReason || !utf8.ValidString(d.Reason) {
					t.Errorf("disconnect %+v of %q", d, b)
				}
			case errors.As(err, &e):
				if e.Code == 0 || !utf8.ValidString(e.Message) {
					t.Errorf("error %+v of %q", e, b)
				}
			case err == nil:
				var reply map[string]json.RawMessage
				if err := json.Unmarshal(b, &reply); err != nil || reply == nil || !utf8.Valid(b) {
					t.Errorf("took %q: %v", b, err)
				}
				for _, name := range []string{"error", "disconnect"} {
					if v, ok := reply[name]; ok && string(v) != "null" && !repeated(b, name) {
						t.Errorf("took %q in spite of its %s", b, name)
					}
				}
			}
			return err == nil
		}
		if a, err := decode(b, binary, readConnect); took(err) {
			line("info", a.Info, false)
			line("data", a.Data, binary)
			for _, o := range a.Subs {
				options(o)
			}
			if a.ExpireAt.Year() > 9999 {
				t.Errorf("expire_at %v of %q", a.ExpireAt, b)
			}
		}
		if a, err := decode(b, binary, readSubscribe); took(err) {
			options(a.Options)
		}
		if a, err := decode(b, binary, readRefresh); took(err) {
			line("info", a.Info, false)
			if a.Expired && (a.Info != nil || !a.ExpireAt.IsZero()) {
				t.Errorf("%+v of %q: an end that goes on", a, b)
			}
		}
		if a, err := decode(b, binary, readPublish); took(err) {
			line("data", a.Data, binary)
		}
		if data, err := decode(b, binary, readRPC); took(err) {
			line("data", data, binary)
		}
	})
}

// repeated reports whether b may have the name more than once, in any case: then the last one counts.
func repeated(b []byte, name string) bool {
	return bytes.Count(bytes.ToLower(b), []byte(name)) > 1 || bytes.IndexByte(b, '\\') >= 0
}

// FuzzRequest shows that every request is JSON, and that data arrives as it came.
func FuzzRequest(f *testing.F) {
	if seeds, err := filepath.Glob("testdata/fuzz/FuzzRequest/*"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	f.Fuzz(func(t *testing.T, channel string, data []byte) {
		q := newRequest(client, data)
		q.Channel = channel
		b, err := q.encode()
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Channel  string          `json:"channel"`
			Encoding string          `json:"encoding"`
			Data     json.RawMessage `json:"data"`
			B64Data  []byte          `json:"b64data"`
		}
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if q.valid() && got.Channel != channel {
			t.Errorf("channel %q arrived as %q", channel, got.Channel)
		}
		var want bytes.Buffer
		switch {
		case len(data) == 0:
			if got.Data != nil || got.B64Data != nil || got.Encoding != "json" {
				t.Errorf("no data arrived as %s", b)
			}
		case json.Compact(&want, data) == nil && utf8.Valid(data):
			if !bytes.Equal(got.Data, want.Bytes()) || got.B64Data != nil || got.Encoding != "json" {
				t.Errorf("data %q arrived as %s", data, b)
			}
		default:
			if !bytes.Equal(got.B64Data, data) || got.Data != nil || got.Encoding != "binary" {
				t.Errorf("data %q arrived as %s", data, b)
			}
		}
	})
}
