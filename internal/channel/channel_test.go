package channel

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func newRules(t testing.TB, def Options, namespaces ...Options) *Rules {
	t.Helper()
	r, err := NewRules(def, namespaces)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLookup(t *testing.T) {
	r := newRules(t, Options{}, Options{Name: "chat"}, Options{Name: "a.b-c_D9"}, Options{Name: "$odd"[1:]})
	for _, c := range []struct {
		channel string
		index   uint16
		ok      bool
	}{
		{"news", 0, true},
		{"", 0, true}, // no name at all is CheckName's affair
		{"$", 0, true},
		{"$news", 0, true},
		{":news", 0, true}, // nothing before the colon is no namespace
		{"$:news", 0, true},
		{"chat", 0, true},
		{"chat:", 1, true},
		{"chat:room1", 1, true},
		{"chat:room1:more", 1, true},
		{"$chat:room1", 1, true},
		{"a.b-c_D9:x", 2, true},
		{"odd:x", 3, true},
		{"$odd:x", 3, true},
		{"$$odd:x", 0, false},
		{"Chat:room1", 0, false},
		{" chat:room1", 0, false},
		{"cha:room1", 0, false},
		{"chats:room1", 0, false},
		{"dialog#a:b", 0, false}, // the colon goes before the #
	} {
		o, index, ok := r.Lookup([]byte(c.channel))
		if index != c.index || ok != c.ok || ok && o != r.At(c.index) || !ok && o != nil {
			t.Errorf("Lookup(%q) = %v, %d, %v; want %d, %v", c.channel, o, index, ok, c.index, c.ok)
		}
	}
	if got, want := r.Len(), 4; got != want {
		t.Errorf("Len = %d, want %d", got, want)
	}
}

// TestCheckName goes through every byte value, and what is more than a byte.
func TestCheckName(t *testing.T) {
	for b := range 256 {
		want := b >= 0x20 && b < 0x7f
		for _, name := range [][]byte{{byte(b)}, {'a', byte(b), 'z'}} {
			if got := CheckName(name, 0); got != want {
				t.Errorf("CheckName(%q) = %v, want %v", name, got, want)
			}
		}
	}
	for _, c := range []struct {
		name  string
		limit int
		want  bool
	}{
		{"", 0, false},
		{"", 10, false},
		{"grüße", 0, true},
		{"房间:一", 0, true},
		{"🙂", 4, true},
		{"🙂", 3, false},
		{"a\x80", 0, false},            // a continuation byte alone
		{"a\xc3", 0, false},            // cut off
		{"a\xc0\x80", 0, false},        // NUL in two bytes
		{"a\xed\xa0\x80", 0, false},    // half of a surrogate pair
		{"\xf4\x90\x80\x80", 0, false}, // beyond the last code point
		{"\u0085\u2028\ufffd", 0, true},
		{strings.Repeat("a", 255), 0, true},
		{strings.Repeat("a", 256), 0, false},
		{strings.Repeat("a", 256), 256, true},
		{"ab", 1, false},
	} {
		if got := CheckName([]byte(c.name), c.limit); got != c.want {
			t.Errorf("CheckName(%q, %d) = %v, want %v", c.name, c.limit, got, c.want)
		}
	}
}

func TestUsers(t *testing.T) {
	for _, c := range []struct {
		channel, user    string
		private, limited bool
		allows           bool
	}{
		{channel: "news", user: "42", allows: true},
		{channel: "news", user: "", allows: true},
		{channel: "$news", user: "42", private: true, allows: true},
		{channel: "news$", user: "42", allows: true},
		{channel: "dialog#42", user: "42", limited: true, allows: true},
		{channel: "dialog#42", user: "4", limited: true},
		{channel: "dialog#42", user: "", limited: true},
		{channel: "dialog#42,43", user: "43", limited: true, allows: true},
		{channel: "dialog#42,43", user: "42,43", limited: true},
		{channel: "dialog#42, 43", user: "43", limited: true},
		{channel: "dialog#41#42", user: "42", limited: true, allows: true},
		{channel: "dialog#41#42", user: "41", limited: true},
		{channel: "dialog#", user: "", limited: true}, // nobody
		{channel: "dialog#,", user: "", limited: true},
		{channel: "dialog#,42,", user: "42", limited: true, allows: true},
		{channel: "#42", user: "42", limited: true, allows: true},
		{channel: "#", user: "42", limited: true},
		{channel: "$dialog#42", user: "42", private: true, limited: true, allows: true},
		{channel: "", user: "42", allows: true},
	} {
		name := []byte(c.channel)
		if Private(name) != c.private || UserLimited(name) != c.limited || AllowsUser(name, c.user) != c.allows {
			t.Errorf("%q for %q: private %v, limited %v, allowed %v; want %v, %v, %v",
				c.channel, c.user, Private(name), UserLimited(name), AllowsUser(name, c.user), c.private, c.limited, c.allows)
		}
	}
}

func TestMaySubscribe(t *testing.T) {
	none := Options{}
	client := Options{SubscribeForClient: true}
	everybody := Options{SubscribeForClient: true, SubscribeForAnonymous: true}
	listed := Options{UserLimited: true}
	both := Options{UserLimited: true, SubscribeForClient: true, SubscribeForAnonymous: true}
	for _, c := range []struct {
		o             *Options
		channel, user string
		want          bool
	}{
		{&none, "news", "42", false},
		{&none, "dialog#42", "42", false},
		{&client, "news", "42", true},
		{&client, "news", "", false},
		{&client, "$news", "42", false},
		{&client, "dialog#42", "42", true},
		{&client, "dialog#42", "43", false},
		{&everybody, "news", "", true},
		{&everybody, "$news", "", false},
		{&everybody, "dialog#", "", false},
		{&listed, "news", "42", false},
		{&listed, "dialog#42", "42", true},
		{&listed, "dialog#42", "43", false},
		{&listed, "dialog#", "", false},
		{&listed, "$dialog#42", "42", false},
		{&both, "news", "", true},
		{&both, "dialog#42", "43", false},
		{&both, "dialog#42", "", false},
		{&both, "dialog#42", "42", true},
	} {
		if got := c.o.MaySubscribe([]byte(c.channel), c.user); got != c.want {
			t.Errorf("MaySubscribe(%q, %q) with %+v = %v, want %v", c.channel, c.user, *c.o, got, c.want)
		}
	}
}

// TestRights goes through all that publishing, presence and history depend on.
func TestRights(t *testing.T) {
	for bits := range 1 << 5 {
		on := func(n int) bool { return bits>>n&1 == 1 }
		client, subscriber, forAnonymous, anonymous, subscribed := on(0), on(1), on(2), on(3), on(4)
		want := (client || subscriber && subscribed) && (forAnonymous || !anonymous)
		p := Options{PublishForClient: client, PublishForSubscriber: subscriber, PublishForAnonymous: forAnonymous}
		q := Options{PresenceForClient: client, PresenceForSubscriber: subscriber, PresenceForAnonymous: forAnonymous}
		h := Options{HistoryForClient: client, HistoryForSubscriber: subscriber, HistoryForAnonymous: forAnonymous}
		for _, c := range []struct {
			what            string
			got, other, too bool
		}{
			{"publish", p.MayPublish(anonymous, subscribed), p.MayPresence(anonymous, subscribed), p.MayHistory(anonymous, subscribed)},
			{"presence", q.MayPresence(anonymous, subscribed), q.MayPublish(anonymous, subscribed), q.MayHistory(anonymous, subscribed)},
			{"history", h.MayHistory(anonymous, subscribed), h.MayPublish(anonymous, subscribed), h.MayPresence(anonymous, subscribed)},
		} {
			if c.got != want || c.other || c.too {
				t.Errorf("%s: for client %v, subscriber %v, anonymous %v: anonymous %v, subscribed %v: %v, want %v; other rights %v, %v, want none",
					c.what, client, subscriber, forAnonymous, anonymous, subscribed, c.got, want, c.other, c.too)
			}
		}
	}
}

func TestRightsOfSubscribers(t *testing.T) {
	keeps := Options{HistorySize: 1, HistoryTTL: 1}
	with := func(change func(*Options)) Options {
		o := keeps
		change(&o)
		return o
	}
	for _, c := range []struct {
		o                            Options
		anonymous                    bool
		recover, position, joinLeave bool
	}{
		{o: Options{AllowRecovery: true, AllowPositioning: true, ForceRecovery: true, ForcePositioning: true}},
		{o: keeps},
		{o: with(func(o *Options) { o.AllowRecovery = true }), recover: true},
		{o: with(func(o *Options) { o.ForceRecovery = true }), recover: true},
		{o: with(func(o *Options) { o.AllowPositioning = true }), position: true},
		{o: with(func(o *Options) { o.ForcePositioning = true }), position: true},
		{o: with(func(o *Options) { o.HistoryForSubscriber = true }), recover: true, position: true},
		{o: with(func(o *Options) { o.HistoryForSubscriber = true }), anonymous: true},
		{o: Options{JoinLeave: true}},
		{o: Options{PresenceForSubscriber: true}},
		{o: Options{JoinLeave: true, PresenceForSubscriber: true}, joinLeave: true},
		{o: Options{JoinLeave: true, PresenceForSubscriber: true}, anonymous: true},
		{o: Options{JoinLeave: true, PresenceForClient: true, PresenceForAnonymous: true}, anonymous: true, joinLeave: true},
	} {
		if r, p, j := c.o.MayRecover(c.anonymous), c.o.MayPosition(c.anonymous), c.o.MayJoinLeave(c.anonymous); r != c.recover || p != c.position || j != c.joinLeave {
			t.Errorf("%+v, anonymous %v: recover %v, position %v, join and leave %v; want %v, %v, %v", c.o, c.anonymous, r, p, j, c.recover, c.position, c.joinLeave)
		}
	}
}

func TestDefaultsAreFilled(t *testing.T) {
	given := []Options{
		{Name: "limits", PublishRate: 2.1, RecoverMax: 7, Slow: SlowDropOldest, SlowKeep: 8, HistoryMetaTTL: time.Hour},
		{Name: "seldom", PublishRate: 0.1},
		{Name: "burst", PublishRate: 2, PublishBurst: 1},
		{Name: "huge", PublishRate: 1e300},
	}
	before := slices.Clone(given)
	r := newRules(t, Options{}, given...)
	if !reflect.DeepEqual(given, before) {
		t.Errorf("the caller's options became %+v", given)
	}
	want := []Options{
		{RecoverMax: 300, SlowKeep: 64, HistoryMetaTTL: 720 * time.Hour},
		{Name: "limits", PublishRate: 2.1, PublishBurst: 3, RecoverMax: 7, Slow: SlowDropOldest, SlowKeep: 8, HistoryMetaTTL: time.Hour},
		{Name: "seldom", PublishRate: 0.1, PublishBurst: 1, RecoverMax: 300, SlowKeep: 64, HistoryMetaTTL: 720 * time.Hour},
		{Name: "burst", PublishRate: 2, PublishBurst: 1, RecoverMax: 300, SlowKeep: 64, HistoryMetaTTL: 720 * time.Hour},
		{Name: "huge", PublishRate: 1e300, PublishBurst: math.MaxInt32, RecoverMax: 300, SlowKeep: 64, HistoryMetaTTL: 720 * time.Hour},
	}
	for i, w := range want {
		if got := *r.At(uint16(i)); got != w {
			t.Errorf("At(%d) = %+v, want %+v", i, got, w)
		}
	}
	if again, err := NewRules(*r.At(0), r.list[1:]); err != nil || !reflect.DeepEqual(again, r) {
		t.Errorf("rules of rules = %+v, %v; want the same", again, err)
	}
}

func TestNewRulesRefuses(t *testing.T) {
	history := Options{HistorySize: 10, HistoryTTL: time.Minute}
	with := func(o Options, change func(*Options)) Options {
		change(&o)
		return o
	}
	for _, c := range []struct {
		o    Options
		want string // option and a part of what is wrong; empty: nothing is
	}{
		{Options{}, ""},
		{history, ""},
		{Options{HistorySize: -1}, "history-size: it is negative"},
		{Options{HistoryTTL: -1}, "history-ttl: it is negative"},
		{Options{HistorySize: 10}, "history-size: it needs history-ttl"},
		{Options{HistoryTTL: time.Second}, "history-ttl: it needs history-size"},
		{Options{HistoryMetaTTL: -1}, "history-meta-ttl: it is negative"},
		{with(history, func(o *Options) { o.HistoryMetaTTL = time.Minute }), ""},
		{with(history, func(o *Options) { o.HistoryMetaTTL = time.Second }), "history-ttl: 1m0s is more than history-meta-ttl, 1s"},
		{with(history, func(o *Options) { o.HistoryTTL = 800 * time.Hour }), "history-ttl: 800h0m0s is more than history-meta-ttl, 720h0m0s"},
		{Options{ForceRecovery: true}, "force-recovery: it needs history-size and history-ttl"},
		{Options{AllowRecovery: true}, "allow-recovery: it needs history-size and history-ttl"},
		{Options{ForcePositioning: true}, "force-positioning: it needs history-size and history-ttl"},
		{Options{AllowPositioning: true}, "allow-positioning: it needs history-size and history-ttl"},
		{with(history, func(o *Options) {
			o.ForceRecovery, o.AllowRecovery, o.ForcePositioning, o.AllowPositioning = true, true, true, true
		}), ""},
		{Options{RecoverMax: -1}, "recover-max: it is negative"},
		{Options{SubscribeForAnonymous: true}, "allow-subscribe-for-anonymous: it needs allow-subscribe-for-client"},
		{Options{PublishForAnonymous: true}, "allow-publish-for-anonymous: it needs allow-publish-for-client or allow-publish-for-subscriber"},
		{Options{PresenceForAnonymous: true}, "allow-presence-for-anonymous: it needs allow-presence-for-client or"},
		{Options{HistoryForAnonymous: true}, "allow-history-for-anonymous: it needs allow-history-for-client or"},
		{Options{PublishForAnonymous: true, PublishForSubscriber: true}, ""},
		{Options{ForceJoinLeave: true}, "force-push-join-leave: it needs join-leave"},
		{Options{DeltaPublish: true}, "delta-publish: it needs allow-delta"},
		{Options{DeltaPublish: true, AllowDelta: true}, ""},
		{Options{PublishRate: -1}, "publish-rate: -1 is no rate"},
		{Options{PublishRate: math.NaN()}, "publish-rate: NaN is no rate"},
		{Options{PublishRate: math.Inf(1)}, "publish-rate: +Inf is no rate"},
		{Options{PublishBurst: -1}, "publish-burst: it is negative"},
		{Options{PublishBurst: 1}, "publish-burst: it needs publish-rate"},
		{Options{Slow: 3}, "slow: there is no SlowPolicy(3)"},
		{Options{SlowKeep: -1}, "slow-keep: it is negative"},
		{Options{SlowKeep: 1}, ""}, // as it is after defaults were filled in
	} {
		_, err := NewRules(c.o, nil)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v: %v, want no error", c.o, err)
		case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "channels: "+c.want)):
			t.Errorf("%+v: %v, want channels: %s…", c.o, err, c.want)
		}
		c.o.Name = "chat"
		_, err = NewRules(Options{}, []Options{{Name: "first"}, c.o})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v: %v, want no error", c.o, err)
		case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), `namespace "chat": `+c.want)):
			t.Errorf(`%+v: %v, want namespace "chat": %s…`, c.o, err, c.want)
		}
	}
}

func TestNamespaceNames(t *testing.T) {
	for name, want := range map[string]string{
		"a": "", "chat": "", "A.b-c_9": "", strings.Repeat("x", 64): "",
		"":                      "it is empty",
		"a:b":                   `has a ':'`,
		"a b":                   `has a ' '`,
		"$a":                    `has a '$'`,
		"a#":                    `has a '#'`,
		"é":                     "want letters",
		strings.Repeat("x", 65): "it has 65 bytes",
	} {
		_, err := NewRules(Options{}, []Options{{Name: name}})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("namespace %q: %v, want %q", name, err, want)
		}
	}
	if _, err := NewRules(Options{Name: "a"}, nil); err == nil || !strings.HasPrefix(err.Error(), "channels: name: ") {
		t.Errorf("a name for the nameless: %v", err)
	}
	if _, err := NewRules(Options{}, []Options{{Name: "a"}, {Name: "b"}, {Name: "a"}}); err == nil || err.Error() != `namespace "a": name: namespace 1 of the list is called so already` {
		t.Errorf("a name twice: %v", err)
	}
	many := make([]Options, math.MaxUint16)
	for i := range many {
		many[i].Name = fmt.Sprint(i)
	}
	if _, err := NewRules(Options{}, many); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("%d namespaces: %v", len(many), err)
	}
	r := newRules(t, Options{}, many[1:]...)
	if _, index, ok := r.Lookup([]byte("65534:x")); index != math.MaxUint16-1 || !ok {
		t.Errorf("the last namespace = %d, %v", index, ok)
	}
}

// TestAllProblems checks that every mistake is found at once, each with its place.
func TestAllProblems(t *testing.T) {
	_, err := NewRules(Options{RecoverMax: -1}, []Options{{Name: "a", ForceRecovery: true}, {Name: "b"}, {Name: "c:", SlowKeep: -1}})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%v joins nothing", err)
	}
	var got []string
	for _, e := range joined.Unwrap() {
		var p *Problem
		if !errors.As(e, &p) {
			t.Fatalf("%v is no problem", e)
		}
		got = append(got, fmt.Sprintf("%d %s %s", p.Index, p.Namespace, p.Option))
	}
	if want := []string{"0  recover-max", "1 a force-recovery", "3 c: name", "3 c: slow-keep"}; !slices.Equal(got, want) {
		t.Errorf("problems = %q, want %q", got, want)
	}
}

func TestSlowPolicies(t *testing.T) {
	for p, want := range map[SlowPolicy]string{SlowDisconnect: "disconnect", SlowDropOldest: "drop-oldest", SlowConflate: "conflate", 9: "SlowPolicy(9)"} {
		if got := p.String(); got != want {
			t.Errorf("policy %d = %s, want %s", uint8(p), got, want)
		}
	}
}

func TestNamesAllocate(t *testing.T) {
	r := newRules(t, Options{SubscribeForClient: true}, Options{Name: "chat", UserLimited: true})
	channel, user := []byte("chat:dialog-with-a-name-that-is-rather-long#41,42,43"), "43"
	if n := testing.AllocsPerRun(100, func() {
		if !CheckName(channel, 0) {
			t.Fatal("bad name")
		}
		o, index, ok := r.Lookup(channel)
		if !ok || index != 1 || Private(channel) || !UserLimited(channel) || !AllowsUser(channel, user) || !o.MaySubscribe(channel, user) {
			t.Fatal("wrong answer")
		}
	}); n != 0 {
		t.Errorf("a lookup with its checks allocates %v times", n)
	}
}

// FuzzNames holds what is said of names against what the strings package makes of Centrifugo's rules.
func FuzzNames(f *testing.F) {
	if seeds, err := filepath.Glob("testdata/fuzz/FuzzNames/*"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	r := newRules(f, Options{}, Options{Name: "chat"}, Options{Name: "a"})
	f.Fuzz(func(t *testing.T, channel []byte, user string) {
		s := string(channel)
		var index uint16
		ok := true
		if name, _, has := strings.Cut(strings.TrimPrefix(s, "$"), ":"); has && name != "" {
			at := slices.Index([]string{"chat", "a"}, name)
			index, ok = uint16(at+1), at >= 0
		}
		if o, gotIndex, gotOK := r.Lookup(channel); gotIndex != index || gotOK != ok || ok && o != r.At(index) {
			t.Errorf("Lookup(%q) = %d, %v; want %d, %v", s, gotIndex, gotOK, index, ok)
		}
		parts := strings.Split(s, "#")
		limited := len(parts) > 1
		allows := !limited || user != "" && slices.Contains(strings.Split(parts[len(parts)-1], ","), user)
		if got := UserLimited(channel); got != limited {
			t.Errorf("UserLimited(%q) = %v", s, got)
		}
		if got := AllowsUser(channel, user); got != allows {
			t.Errorf("AllowsUser(%q, %q) = %v", s, user, got)
		}
		good := s != "" && len(s) <= NameMax && utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
		if got := CheckName(channel, 0); got != good {
			t.Errorf("CheckName(%q) = %v", s, got)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	r := newRules(b, Options{}, Options{Name: "chat"}, Options{Name: "news"})
	channel := []byte("news:sport")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := r.Lookup(channel); !ok {
			b.Fatal("unknown")
		}
	}
}
