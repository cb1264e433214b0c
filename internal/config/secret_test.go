package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
)

// publicPEM and privatePEM are of the shape of keys.
const (
	publicPEM  = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"
	privatePEM = "-----BEGIN EC PRIVATE KEY-----\nMCowBQYDK2VwAyEA\n-----END EC PRIVATE KEY-----\n"
)

// TestSecretsAreNotShown prints secrets in all ways that there are, and checks that they arrive all the same.
func TestSecretsAreNotShown(t *testing.T) {
	const secret = "correct=horse-battery" // a header as well
	n := 0
	for i := range options {
		o := &options[i]
		var s Serve
		if _, ok := o.field(&s).(*Secret); !ok {
			continue
		}
		n++
		flags := Default()
		*o.field(&flags).(*Secret) = secret
		for from, in := range map[string]Input{
			"flag":        {Flags: flags, Given: []string{o.Name}},
			"environment": {Environ: []string{EnvName(o.Name) + "=" + secret}},
			"file":        {File: "f", Read: func(string) ([]byte, error) { return []byte(o.Name + ": " + secret), nil }},
		} {
			l, err := Load(in)
			if err != nil {
				t.Fatalf("%s from %s: %v", o.Name, from, err)
			}
			if got := *o.field(&l.Serve).(*Secret); got != secret {
				t.Errorf("%s from %s = %q, want %q", o.Name, from, string(got), secret)
			}
			page, err := l.YAML()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(page), o.Name+": "+redacted+" # ") {
				t.Errorf("%s from %s is not marked as redacted in\n%s", o.Name, from, page)
			}
			asJSON, err := json.Marshal(l.Serve)
			if err != nil {
				t.Fatal(err)
			}
			var logged bytes.Buffer
			slog.New(slog.NewTextHandler(&logged, nil)).Info("options", "one", *o.field(&l.Serve).(*Secret), "all", l.Serve)
			slog.New(slog.NewJSONHandler(&logged, nil)).Info("options", "one", *o.field(&l.Serve).(*Secret), "all", l.Serve)
			for how, shown := range map[string]string{
				"YAML": string(page), "JSON": string(asJSON), "log": logged.String(),
				"%v": fmt.Sprintf("%v", l.Serve), "%+v": fmt.Sprintf("%+v", l), "%#v": fmt.Sprintf("%#v", l.Serve), "%q": fmt.Sprintf("%q", *o.field(&l.Serve).(*Secret)),
			} {
				if strings.Contains(shown, secret) {
					t.Errorf("%s from %s as %s shows the secret: %s", o.Name, from, how, shown)
				}
			}
			if _, err := Load(Input{File: "f", Read: func(string) ([]byte, error) { return page, nil }}); err == nil || !strings.Contains(err.Error(), o.Name+": it was redacted") {
				t.Errorf("%s fed back: %v, want a refusal", o.Name, err)
			}
		}
	}
	if n < 2 {
		t.Errorf("%d secrets among the options, want some", n)
	}
}

func TestPEM(t *testing.T) {
	files := map[string]string{"public.pem": publicPEM, "private.pem": privatePEM, "text.pem": "hello"}
	read := func(name string) ([]byte, error) {
		if text, ok := files[name]; ok {
			return []byte(text), nil
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	for _, c := range []struct {
		p    PEM
		want string
		err  string
	}{
		{"", "", ""},
		{publicPEM, publicPEM, ""},
		{"public.pem", publicPEM, ""},
		{privatePEM, "", "read public key: it holds a block EC PRIVATE KEY: want the public key"},
		{"private.pem", "", "read public key: private.pem: it holds a block EC PRIVATE KEY"},
		{"text.pem", "", "read public key: text.pem: it holds no PEM"},
		{"-----BEGIN PUBLIC KEY-----\nMCow", "", "read public key: it holds no PEM"},
		{"nowhere.pem", "", "read public key: open nowhere.pem: "},
	} {
		got, err := c.p.Bytes(read)
		if string(got) != c.want || (err == nil) != (c.err == "") || err != nil && !strings.HasPrefix(err.Error(), c.err) {
			t.Errorf("%q = %q, %v; want %q, %s", string(c.p), got, err, c.want, c.err)
		}
	}
	if _, err := PEM("nowhere.pem").Bytes(read); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
