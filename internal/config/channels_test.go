package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/channel"
)

// load loads a file of that text.
func load(text string) (Loaded, error) {
	return Load(Input{File: "f", Read: func(string) ([]byte, error) { return []byte(text), nil }})
}

// TestChannelOptionsMatch checks that the table and channel.Options have the same members, and that what the table says
// of defaults is so.
func TestChannelOptionsMatch(t *testing.T) {
	var o channel.Options
	fields := make(map[uintptr]string)
	v := reflect.ValueOf(&o).Elem()
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; name != "Name" {
			fields[v.Field(i).Addr().Pointer()] = name
		}
	}
	rules, err := channel.NewRules(channel.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	filled := *rules.At(0)
	names := make(map[string]bool)
	for _, c := range channelOptions {
		if names[c.name] || names[c.also] && c.also != "" {
			t.Errorf("option %s stands twice", c.name)
		}
		names[c.name], names[c.also] = true, true
		at := reflect.ValueOf(c.field(&o)).Pointer()
		if fields[at] == "" {
			t.Errorf("option %s has no field, or another's", c.name)
		}
		delete(fields, at)
		if c.typ == "" || !strings.HasSuffix(c.help, ".") || strings.Contains(c.help, "|") {
			t.Errorf("option %s: %+v: something is left out, or no sentence", c.name, c)
		}
		if got := show(c.field(&filled)); got != c.def {
			t.Errorf("option %s: default %s, but it is filled in as %s", c.name, c.def, got)
		}
		if err := read(c.field(&o), c.def); err != nil {
			t.Errorf("option %s: default: %v", c.name, err)
		}
	}
	for _, f := range fields {
		t.Errorf("field %s has no option", f)
	}
}

// TestChannelProblemsAreOptions checks that what channel.NewRules complains about is called as in the file.
func TestChannelProblemsAreOptions(t *testing.T) {
	for _, file := range []string{"rules.go"} {
		src, err := os.ReadFile(filepath.Join("..", "channel", file))
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`(?:needs|negative|add)\("([^"]+)",`).FindAllSubmatch(src, -1)
		if len(found) < 10 {
			t.Fatalf("found only %q", found)
		}
		for _, m := range found {
			if _, _, field := channelField(new(channel.Options), string(m[1]), true); field == nil {
				t.Errorf("channel.NewRules names %s, which is no option", m[1])
			}
		}
	}
}

func TestChannels(t *testing.T) {
	l, err := load(`
hook-publish: http://a.example/
channels:
  allow-subscribe-for-client: yes
  presence: true
  recover-max: 1_000
namespaces:
  - name: chat            # pasted from Centrifugo
    presence: true
    join_leave: true
    force_push_join_leave: true
    history_size: 100
    history_ttl: 300s
    history_meta_ttl: 24h
    force_recovery: true
    allow_subscribe_for_client: true
    allow_subscribe_for_anonymous: true
    allow_publish_for_subscriber: true
    allow_history_for_subscriber: true
    allow_user_limited_channels: true
    allowed_delta_types: ["fossil"]
    publish_proxy_enabled: true
  - &base
    allow-delta: true
    publish-rate: 2.5
    publish-burst: 4
    slow: drop-oldest
    slow-keep: 8
    name: "7"
  - {name: empty, allowed-delta-types: []}
`)
	if err != nil {
		t.Fatal(err)
	}
	if want := (channel.Options{SubscribeForClient: true, Presence: true, RecoverMax: 1000}); l.Channels != want {
		t.Errorf("channels = %+v, want %+v", l.Channels, want)
	}
	want := []channel.Options{
		{
			Name: "chat", Presence: true, JoinLeave: true, ForceJoinLeave: true, HistorySize: 100, HistoryTTL: 5 * time.Minute, HistoryMetaTTL: 24 * time.Hour,
			ForceRecovery: true, SubscribeForClient: true, SubscribeForAnonymous: true, PublishForSubscriber: true, HistoryForSubscriber: true, UserLimited: true,
			AllowDelta: true, PublishHook: true,
		},
		{Name: "7", AllowDelta: true, PublishRate: 2.5, PublishBurst: 4, Slow: channel.SlowDropOldest, SlowKeep: 8},
		{Name: "empty"},
	}
	if !slices.Equal(l.Namespaces, want) {
		t.Errorf("namespaces = %+v, want %+v", l.Namespaces, want)
	}
	if got := l.Origins["channels"].String() + " " + l.Origins["namespaces"].String(); got != "f:3 f:7" {
		t.Errorf("they come from %s, want f:3 f:7", got)
	}
	page, err := l.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := load(string(page))
	if err != nil {
		t.Fatalf("%v in\n%s", err, page)
	}
	if again.Channels != l.Channels || !slices.Equal(again.Namespaces, l.Namespaces) {
		t.Errorf("fed back = %+v, %+v; want %+v, %+v; file:\n%s", again.Channels, again.Namespaces, l.Channels, l.Namespaces, page)
	}
}

// TestChannelsRoundTrip feeds options that all differ from their defaults back.
func TestChannelsRoundTrip(t *testing.T) {
	l := Loaded{Serve: Default(), Origins: map[string]Origin{}}
	l.Serve.HookSubscribe, l.Serve.HookPublish, l.Serve.HookSubRefresh = "http://a.example", "http://a.example", "http://a.example"
	for i, c := range channelOptions {
		text := map[string]string{"bool": "true", "count": "7", "duration": "90s", "number a second": "0.25"}[c.typ]
		if text == "" {
			text = "conflate"
		}
		if err := read(c.field(&l.Channels), text); err != nil || text == c.def {
			t.Fatalf("option %d, %s: %s, %v", i, c.name, text, err)
		}
	}
	l.Namespaces = []channel.Options{l.Channels, {Name: "null"}}
	l.Namespaces[0].Name = "true"
	page, err := l.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := load(string(page))
	if err != nil {
		t.Fatalf("%v in\n%s", err, page)
	}
	if again.Channels != l.Channels || !slices.Equal(again.Namespaces, l.Namespaces) {
		t.Errorf("fed back = %+v, %+v; want %+v, %+v; file:\n%s", again.Channels, again.Namespaces, l.Channels, l.Namespaces, page)
	}
	if !bytes.HasSuffix(page, []byte("\n")) {
		t.Errorf("the file ends with an open line: %q", page[len(page)-20:])
	}
}

func TestDevOpensChannels(t *testing.T) {
	for _, c := range []struct {
		text               string
		insecure, apiToAll bool
		channels           channel.Options
		origin             string // of channels
	}{
		{"", false, false, channel.Options{}, "default"},
		{"dev: false", false, false, channel.Options{}, "default"},
		{"dev: true", true, true, devChannels, "derived"},
		{"dev: true\ninsecure: false", false, true, devChannels, "derived"},
		{"dev: true\napi-insecure: false", true, false, devChannels, "derived"},
		{"dev: true\nnamespaces: []", true, true, devChannels, "derived"},
		{"dev: true\nchannels:", true, true, channel.Options{}, "f:2"},
		{"dev: true\nchannels: {presence: true}", true, true, channel.Options{Presence: true}, "f:2"},
	} {
		l, err := load(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if l.Serve.Insecure != c.insecure || l.Serve.APIInsecure != c.apiToAll || l.Channels != c.channels || l.Origins["channels"].String() != c.origin {
			t.Errorf("%q: insecure %v, api-insecure %v, channels %+v from %v; want %v, %v, %+v from %s",
				c.text, l.Serve.Insecure, l.Serve.APIInsecure, l.Channels, l.Origins["channels"], c.insecure, c.apiToAll, c.channels, c.origin)
		}
		if want := map[bool]string{true: "derived", false: l.Origins["insecure"].String()}[c.insecure]; l.Origins["insecure"].String() != want {
			t.Errorf("%q: insecure is from %v, want %s", c.text, l.Origins["insecure"], want)
		}
	}
}

func TestChannelErrors(t *testing.T) {
	for text, want := range map[string][]string{
		"chanels: {}\n":                           {`f:1: "chanels" is no option, did you mean "channels"?`},
		"namespace: []\n":                         {`f:1: "namespace" is no option, did you mean "namespaces"?`},
		"channels: {}\nchannels: {}\n":            {"f:2: channels: it stands in line 1 already"},
		"channels: []\n":                          {"f:1: channels: want a mapping"},
		"channels: yes\n":                         {"f:1: channels: want a mapping"},
		"namespaces: {chat: {}}\n":                {"f:1: namespaces: want a list"},
		"namespaces:\n- chat\n- name: a\n- [b]\n": {"f:2: namespaces: want a mapping", "f:4: namespaces: want a mapping"},
		"namespaces: &a\n- *a\n":                  {"f:1: namespaces: want a mapping"},
		"channels: &a {presence: *a}\n":           {"f:1: channels: presence: it is a mapping: want one bool"},
		"channels:\n  presense: true\n  histroy_size: 1\n  colour: 2\n": {
			`f:2: channels: "presense" is no option of channels, did you mean "presence"?`,
			`f:3: channels: "histroy_size" is no option of channels, did you mean "history-size"?`,
			`f:4: channels: "colour" is no option of channels`,
		},
		"channels: {name: chat}\n":                                                    {`f:1: channels: "name" is no option of channels`},
		"channels: {\"\": 1}\n":                                                       {`f:1: channels: "" is no option of channels`},
		"channels: {? [presence] : 1}\n":                                              {`f:1: channels: "" is no option of channels`},
		"channels:\n  join-leave: true\n  join_leave: no\n":                           {"f:3: channels: join-leave: it stands in line 2 already"},
		"channels: {allow-delta: yes, allowed-delta-types: [fossil]}\n":               {"f:1: channels: allow-delta: it stands in line 1 already"},
		"channels: {allowed-delta-types: [brotli]}\n":                                 {`f:1: channels: allow-delta: "brotli" is no type of deltas: want fossil`},
		"channels: {allow-delta: [fossil]}\n":                                         {"f:1: channels: allow-delta: it is a list: want one bool"},
		"channels: {presence: }\n":                                                    {"f:1: channels: presence: it has no value"},
		"channels: {presence: maybe}\n":                                               {`f:1: channels: presence: "maybe" is neither true nor false`},
		"channels: {history-size: -1}\n":                                              {`f:1: channels: history-size: "-1" is no count`},
		"channels: {history-ttl: 300}\n":                                              {`f:1: channels: history-ttl: "300" has no unit`},
		"channels: {publish-rate: fast}\n":                                            {`f:1: channels: publish-rate: "fast" is no rate`},
		"channels: {slow: down}\n":                                                    {`f:1: channels: slow: "down" is none of disconnect, drop-oldest, conflate`},
		"channels:\n  presence: true\n  history-size: 1\n":                            {"f:3: channels: history-size: it needs history-ttl"},
		"namespaces:\n- presence: true\n":                                             {`f:2: namespace "": name: it is empty`},
		"namespaces:\n- presence: true\n  name:\n":                                    {`f:3: namespace "": name: it has no value`},
		"namespaces:\n- name: a\n- name: b c\n":                                       {`f:3: namespace "b c": name: "b c" has a ' '`},
		"namespaces:\n- name: a\n- presence: no\n  name: a\n":                         {`f:4: namespace "a": name: namespace 1 of the list is called so already`},
		"namespaces:\n- slow: up\n  name: a\n":                                        {`f:2: namespace "a": slow: "up" is none of`},
		"namespaces:\n- name: a\n- name: b\n  force-recovery: true\n  slow-keep: 3\n": {`f:4: namespace "b": force-recovery: it needs history-size and history-ttl`},
		"namespaces:\n- name: a\n  subscribe-hook: true\n  publish_proxy_enabled: true\nchannels:\n  sub-refresh-hook: true\n": {
			"f:6: channels: sub-refresh-hook: it needs hook-sub-refresh, which is empty",
			`f:3: namespace "a": subscribe-hook: it needs hook-subscribe, which is empty`,
			`f:4: namespace "a": publish-hook: it needs hook-publish, which is empty`,
		},
	} {
		_, err := load(text)
		if err == nil {
			t.Errorf("%q: no error, want %q", text, want)
			continue
		}
		got := strings.Split(err.Error(), "\n")
		if !slices.EqualFunc(got, want, strings.HasPrefix) {
			t.Errorf("%q: %q, want %q…", text, got, want)
		}
	}
}

// TestChannelPages checks that the page about channels has every option with its default, and that examples load.
func TestChannelPages(t *testing.T) {
	page, err := os.ReadFile("../../docs/channels.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range channelOptions {
		if row := "\n| `" + c.name + "` | `" + c.def + "` | "; !strings.Contains(string(page), row) {
			t.Errorf("docs/channels.md lacks the row %q", row)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| `").FindAllSubmatch(page, -1) {
		if _, _, field := channelField(new(channel.Options), string(m[1]), false); field == nil {
			t.Errorf("docs/channels.md has a row for %s, which is no option", m[1])
		}
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) == 0 {
		t.Error("docs/channels.md has no example")
	}
	for _, m := range blocks {
		if _, err := load(string(m[1])); err != nil {
			t.Errorf("docs/channels.md: %v", err)
		}
	}
}

func TestExample(t *testing.T) {
	l, err := Load(Input{File: "../../examples/longwire.yaml", Read: os.ReadFile})
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Warnings) > 0 || len(l.Namespaces) < 2 || l.Origins["channels"].Kind != FromFile {
		t.Errorf("examples/longwire.yaml: warnings %q, namespaces %+v, channels from %v", l.Warnings, l.Namespaces, l.Origins["channels"])
	}
}

func TestReferencesHaveAll(t *testing.T) {
	for what, page := range map[string]string{"Reference": string(Reference(100)), "Markdown": string(Markdown())} {
		for _, o := range options {
			if !strings.Contains(page, "\n"+o.Name+"  (") && !strings.Contains(page, "\n### `"+o.Name+"`\n") {
				t.Errorf("%s lacks %s", what, o.Name)
			}
		}
		for _, c := range channelOptions {
			if !strings.Contains(page, "\n"+c.name+"  (") && !strings.Contains(page, "\n| `"+c.name+"` |") {
				t.Errorf("%s lacks %s", what, c.name)
			}
		}
	}
}

// FuzzChannels checks that whatever the sections hold, there is an error, or what was read is read back.
func FuzzChannels(f *testing.F) {
	if seeds, err := filepath.Glob("testdata/fuzz/FuzzChannels/*"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, err := load(text)
		if err != nil {
			return
		}
		page, err := first.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(page, []byte(redacted)) {
			return
		}
		second, err := load(string(page))
		if err != nil {
			t.Fatalf("%q: %v in\n%s", text, err, page)
		}
		if first.Channels != second.Channels || !slices.Equal(first.Namespaces, second.Namespaces) {
			t.Errorf("%q: %+v %+v, fed back %+v %+v", text, first.Channels, first.Namespaces, second.Channels, second.Namespaces)
		}
	})
}
