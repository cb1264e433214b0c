package config

import (
	"encoding"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestOptionsMatchServe checks that the table and the struct have the same members, each with its words.
func TestOptionsMatchServe(t *testing.T) {
	var s Serve
	fields := make(map[any]string)
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		fields[v.Field(i).Addr().Interface()] = v.Type().Field(i).Name
	}
	names := make(map[string]bool)
	for _, o := range options {
		if names[o.Name] {
			t.Errorf("option %s stands twice", o.Name)
		}
		names[o.Name] = true
		field, ok := fields[o.field(&s)]
		if !ok {
			t.Errorf("option %s has no field, or another's", o.Name)
		}
		delete(fields, o.field(&s))
		if want := strings.ReplaceAll(o.Name, "-", ""); strings.ToLower(field) != want {
			t.Errorf("option %s is field %s", o.Name, field)
		}
		for _, text := range []string{o.Group, o.Type, o.Help, o.Edge} {
			if text == "" {
				t.Errorf("option %s: %+v: something is left out", o.Name, o)
			}
		}
		for _, text := range []string{o.Help, o.Edge} {
			if !strings.HasSuffix(text, ".") {
				t.Errorf("option %s: %q is no sentence", o.Name, text)
			}
		}
	}
	for _, f := range fields {
		t.Errorf("field %s has no option", f)
	}
}

func TestDefaultsAreGood(t *testing.T) {
	l, err := Load(Input{})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(l.Serve, Default()) || len(l.Warnings) > 0 {
		t.Errorf("nothing given = %+v, warnings %q", l.Serve, l.Warnings)
	}
}

func TestValues(t *testing.T) {
	type value interface {
		encoding.TextUnmarshaler
		fmt.Stringer
	}
	for _, c := range []struct {
		v       value
		text    string
		want    string // what String gives; empty for an error
		problem string // a part of the error
	}{
		{new(Count), "0", "0", ""},
		{new(Count), "1_000_000", "1000000", ""},
		{new(Count), "-1", "", "is no count"},
		{new(Count), "1e6", "", "is no count"},
		{new(Count), "", "", "is no count"},
		{new(Count), "99999999999999999999", "", "is no count"},
		{new(Rate), "0.5", "0.5", ""},
		{new(Rate), "1e3", "1000", ""},
		{new(Rate), "-1", "", "is no rate"},
		{new(Rate), "NaN", "", "is no rate"},
		{new(Rate), "Inf", "", "is no rate"},
		{new(Size), "0", "0", ""},
		{new(Size), "1000", "1000", ""},
		{new(Size), "1024", "1KiB", ""},
		{new(Size), "1kB", "1000", ""},
		{new(Size), "512 MiB", "512MiB", ""},
		{new(Size), "512mib", "512MiB", ""},
		{new(Size), "1.5GiB", "1536MiB", ""},
		{new(Size), "2TiB", "2TiB", ""},
		{new(Size), "12B", "12", ""},
		{new(Size), "9007199254740993", "9007199254740993", ""},
		{new(Size), "0.3B", "", "is no size"},
		{new(Size), "-1", "", "is no size"},
		{new(Size), "1QB", "", "is no size"},
		{new(Size), "MiB", "", "is no size"},
		{new(Size), "1e30", "", "is no size"},
		{new(Memory), "auto", "auto", ""},
		{new(Memory), "none", "none", ""},
		{new(Memory), "2GiB", "2GiB", ""},
		{new(Memory), "some", "", `or "auto", or "none"`},
		{new(Duration), "90s", "1m30s", ""},
		{new(Duration), "2m", "2m", ""},
		{new(Duration), "1h", "1h", ""},
		{new(Duration), "1h0m5s", "1h0m5s", ""},
		{new(Duration), "10m", "10m", ""},
		{new(Duration), "off", "off", ""},
		{new(Duration), "0s", "off", ""},
		{new(Duration), "25", "", "has no unit"},
		{new(Duration), "-5s", "", "is no duration"},
		{new(Duration), "later", "", "is no duration"},
		{new(List), "a, b", "a,b", ""},
		{new(List), "a,,b", "", "empty item"},
		{new(List), "", "", "empty item"},
		{new(Tables), "private", "private", ""},
		{new(Tables), "Private", "", "is none of"},
		{new(LogFormat), "json", "json", ""},
		{new(LogFormat), "xml", "", "is none of"},
		{new(LogLevel), "warn", "warn", ""},
		{new(LogLevel), "warn+1", "", "is none of"},
	} {
		err := c.v.UnmarshalText([]byte(c.text))
		switch {
		case c.problem == "":
			if err != nil || c.v.String() != c.want {
				t.Errorf("%T %q = %v, %v; want %s", c.v, c.text, c.v, err, c.want)
			}
		case err == nil || !strings.Contains(err.Error(), c.problem):
			t.Errorf("%T %q = %v, %v; want an error with %q", c.v, c.text, c.v, err, c.problem)
		}
	}
}

// FuzzOptions checks for every option that a text which it takes is read back from what it writes.
func FuzzOptions(f *testing.F) {
	for _, o := range options {
		f.Add(o.Default)
	}
	for _, s := range []string{"off", "1_0", "1.5GiB", "1h0m", "none", "a, b", "0.1", "9223372036854775807", "1ns", "yes", "[::1]:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for i := range options {
			o := &options[i]
			var a, b Serve
			if o.set(&a, text) != nil {
				continue
			}
			if _, ok := o.field(&a).(*Secret); ok {
				// What is written is not the secret; and if it is, nothing is read back from it.
				if shown := o.text(&a); text != "" && (shown != redacted || o.set(&b, shown) == nil) {
					t.Errorf("%s: %q is written as %q, and that is read as %q", o.Name, text, shown, *o.field(&b).(*Secret))
				}
				continue
			}
			if err := o.set(&b, o.text(&a)); err != nil || !reflect.DeepEqual(a, b) {
				t.Errorf("%s: %q was read as %q, which is read as %q, %v", o.Name, text, o.text(&a), o.text(&b), err)
			}
		}
	})
}

// TestYAMLRoundTrip feeds the effective values of options that all differ from their defaults back.
func TestYAMLRoundTrip(t *testing.T) {
	other := map[string]string{
		"addr": "[::1]:1", "dev": "true", "admin": "localhost:2", "admin-insecure": "true", "max-conns": "3", "max-memory": "4MiB", "conns-per-address": "5",
		"rate-per-address": "6.5", "retry-after": "7s", "handshake-timeout": "8s", "max-header": "900", "origins": "https://*.x.example,null",
		"ping-after": "10s", "close-after": "11s", "user-timeout": "12s", "drain": "13s", "max-message": "14", "write-queue": "15",
		"compression": "true", "loops": "16", "tables": "private", "workers": "17", "backlog": "18", "metrics": "false", "flight-record": "18MiB", "flight-dir": "/var/lib/x", "trace": "true", "mask-addresses": "true",
		"profile-dir": "/var/lib/p", "profile-bytes": "31MiB", "profile-rss-jump": "32%", "profile-pause": "33ms", "profile-trace": "34s",
		"log-level": "error", "log-format": "json", "log-sampling": "dynamic", "log-share": "7%", "slow-call": "31s", "otlp-endpoint": "http://c.example:4318/x", "trace-sampling": "12.5%",
		"insecure": "true", "anonymous": "true", "client-channel-limit": "19", "channel-max-length": "20", "connect-rate": "21.5", "max-command": "22kB",
		"client-ping": "23s", "client-pong-timeout": "3s", "client-stale": "24s", "client-expire-grace": "26s", "history-memory": "27MiB",
		"token-rsa-public-key": publicPEM, "token-ecdsa-public-key": "/etc/key.pem", "token-ed25519-public-key": "true", "token-jwks-url": "https://a.example/jwks",
		"token-audience": "28", "token-issuer": "~", "api-insecure": "true",
		"hook-connect": "http://b.example/1", "hook-refresh": "http://b.example/2", "hook-subscribe": "http://b.example/3", "hook-sub-refresh": "http://b.example/4",
		"hook-publish": "http://b.example/5", "hook-rpc": "http://b.example/6?a=b", "hook-timeout": "29s", "hook-concurrency": "30", "hook-headers": "Cookie,X-A",
		"token-hmac-secret": "", "api-key": "", "admin-token": "", "otlp-headers": "", // TestSecretsAreNotShown
	}
	var in Input
	for _, o := range options {
		text, ok := other[o.Name]
		if _, secret := o.field(&in.Flags).(*Secret); !ok || text == o.Default && !secret {
			t.Fatalf("option %s has no other value in this test", o.Name)
		}
		in.Environ = append(in.Environ, EnvName(o.Name)+"="+text)
	}
	first, err := Load(in)
	if err != nil {
		t.Fatal(err)
	}
	page, err := first.YAML()
	if err != nil {
		t.Fatal(err)
	}
	second, err := Load(Input{File: "f", Read: func(string) ([]byte, error) { return page, nil }})
	if err != nil {
		t.Fatalf("%v in\n%s", err, page)
	}
	if !reflect.DeepEqual(first.Serve, second.Serve) {
		t.Errorf("fed back = %+v, want %+v; file:\n%s", second.Serve, first.Serve, page)
	}
	if first.Channels != devChannels || second.Channels != devChannels || len(second.Namespaces) != 0 {
		t.Errorf("channels = %+v, fed back %+v and %+v; want those of dev; file:\n%s", first.Channels, second.Channels, second.Namespaces, page)
	}
	for _, o := range options {
		if _, ok := o.field(&first.Serve).(*Secret); ok {
			continue
		}
		if got := second.Origins[o.Name]; got.Kind != FromFile || !strings.HasPrefix(got.Where, "f:") {
			t.Errorf("option %s is from %v, want a line of f", o.Name, got)
		}
		if got := first.Origins[o.Name].String(); got != EnvName(o.Name) {
			t.Errorf("option %s is from %s, want %s", o.Name, got, EnvName(o.Name))
		}
	}
}

func TestFlagsGoFirst(t *testing.T) {
	flags := Default()
	flags.Workers, flags.Backlog = 1, 2
	flags.Drain = Duration(3 * time.Second)
	l, err := Load(Input{
		Flags: flags, Given: []string{"workers", "config"}, File: "f",
		Environ: []string{"LONGWIRE_WORKERS=5", "LONGWIRE_BACKLOG=6", "OTHER=1", "broken"},
		Read:    func(string) ([]byte, error) { return []byte("workers: 7\nbacklog: 8\ndrain: 9s\n"), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if l.Serve.Workers != 1 || l.Serve.Backlog != 6 || l.Serve.Drain != Duration(9*time.Second) {
		t.Errorf("workers %v, backlog %v, drain %v; want 1, 6, 9s", l.Serve.Workers, l.Serve.Backlog, l.Serve.Drain)
	}
}

func TestFileErrors(t *testing.T) {
	for text, want := range map[string]string{
		"workers: 1\nworkers: 2\n":                   "f:2: workers: it stands in line 1 already",
		"workers: ~\n":                               "f:1: workers: it has no value",
		"a: &x 3\nworkers: *x\n":                     `f:1: "a" is no option`,
		"wrokers: 1\n":                               `f:1: "wrokers" is no option, did you mean "workers"?`,
		"? [a]\n: 1\n":                               `f:1: "" is no option`,
		"just text\n":                                "f:1: want a mapping",
		"workers: 1\n---\nworkers: 2\n":              "f: more than one document",
		"workers: 1\n---\nworkers: [\n":              "f: more than one document",
		"workers: [\n":                               "f:",
		"\tworkers: 1\n":                             "f:",
		"origins: [a://b, [c]]\n":                    "f:1: origins: its items are no words",
		"origins: []\n":                              "f:1: origins: ",
		"hook-headers: []\n":                         "",
		"api-key: (redacted)\n":                      "f:1: api-key: it was redacted when it was printed",
		"api-key: [secret]\n":                        "f:1: api-key: it is a list: want one secret",
		"client-ping: off\n":                         "f:1: client-ping: off is too little: want at least 1s",
		"client-ping: 1s\n":                          "",
		"client-ping: 6s\n":                          "",
		"client-ping: 6s\nclient-pong-timeout: 6s\n": "f:2: client-pong-timeout: 6s is not less than client-ping, 6s",
		"client-stale: off\n":                        "f:1: client-stale: it cannot be off",
		"channel-max-length: 1025\n":                 "f:1: channel-max-length: 1025 is out of range: want 1 to 1024",
		"hook-rpc: backend/rpc\n":                    "f:1: hook-rpc: it is no URL",
		"hook-rpc: ftp://a.example/\n":               "f:1: hook-rpc: it is no URL",
		"hook-rpc: \"http://a b\"\n":                 "f:1: hook-rpc: it is no URL",
		"hook-rpc: http://u:secret@a.example\n":      "f:1: hook-rpc: it has a user or password",
		"hook-rpc: http://a.example#x\n":             "f:1: hook-rpc: it has a fragment, #x",
		"hook-headers: [Cookie, \"A:\"]\n":           `f:1: hook-headers: "A:" is no header`,
		"token-rsa-public-key: -----BEGIN X\n":       "f:1: token-rsa-public-key: it holds no PEM",
		"token-rsa-public-key: key.pem\n":            "",
		"workers: \"1\"\n":                           "",
		"":                                           "",
		"~\n":                                        "",
		"ping-after: 20s\nclose-after: 20s\n":        "f:2: close-after: 20s is not more than ping-after, 20s",
		"ping-after: 40s\n":                          "",
		"handshake-timeout: 0s\nmax-conns: 0x\n":     `f:2: max-conns: "0x" is no count`,
	} {
		_, err := Load(Input{File: "f", Read: func(string) ([]byte, error) { return []byte(text), nil }})
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v, want no error", text, err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%q: %v, want %s…", text, err, want)
		}
	}
	_, err := Load(Input{File: "f", Read: func(string) ([]byte, error) { return nil, &fs.PathError{Op: "open", Path: "f", Err: fs.ErrNotExist} }})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
