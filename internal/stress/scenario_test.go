package stress

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestDecode(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "plan.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Decode("plan.yaml", b)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	want := Script{
		Target: "ws://127.0.0.1:8000/connection/websocket", Timeout: 300 * time.Millisecond, Seed: 42,
		Scenarios: []Scenario{
			{Kind: PublishKind, Name: "fan-out", Protocol: Centrifuge, Weight: 8, Model: OpenModel, Spacing: Exponential, Size: 256, Channel: "news", Channels: 100, Publishers: 4},
			{Kind: EchoKind, Name: "echo", Path: "/echo", Protocol: Raw, Weight: 1, Model: ClosedModel, Every: time.Second, Size: 64, InFlight: 2, Binary: true},
			{Kind: RequestKind, Name: "request", Protocol: Centrifuge, Weight: 1, Model: ClosedModel, Think: time.Second, InFlight: 1},
			{Kind: ChurnKind, Name: "churn", Protocol: Centrifuge, Weight: 1, Lifetime: 5 * time.Second},
			{Kind: StormKind, Name: "storm", Protocol: Centrifuge, Weight: 1, Share: 0.2, Every: 30 * time.Second},
			{Kind: SlowKind, Name: "slow", Protocol: Centrifuge, Weight: 1, Channel: "news", ReadRate: 1000},
			{Kind: HalfOpenKind, Name: "halfopen", Protocol: Plain, Weight: 1, After: 10 * time.Second},
			{Kind: HoldKind, Name: "hold", Protocol: Centrifuge, Weight: 1},
		},
		Stages: []Stage{
			{Kind: RampStage, Of: OfConns, To: 10_000, For: 5 * time.Second},
			{Kind: StepStage, Of: OfRate, To: 1000, By: 250, Every: 2 * time.Second},
			{Kind: SpikeStage, Of: OfRate, To: 5000, For: time.Second},
			{Kind: SoakStage, For: time.Minute},
		},
		Thresholds: Thresholds{{Figure: "p99", Op: "<", Value: 5e7}, {Figure: "errors", Op: "<", Value: 0.1, Percent: true}},
		Find:       &Find{Of: OfRate, Search: Search{From: 1000, Step: 500, To: 50_000, Precision: 0.03}, For: 3 * time.Second, Hold: time.Minute, Rest: 2 * time.Second},
	}
	for i := range s.Scenarios {
		s.Scenarios[i].line = 0
	}
	for i := range s.Stages {
		s.Stages[i].line = 0
	}
	s.file, s.targetLine, s.Find.line = "", 0, 0
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got\n%+v\nwant\n%+v", s, want)
	}
	conns, rate := s.Curves()
	for _, c := range []struct {
		at          time.Duration
		conns, rate float64
	}{
		{2500 * time.Millisecond, 5000, 0},
		{5 * time.Second, 10_000, 250},
		{12 * time.Second, 10_000, 1000},
		{13 * time.Second, 10_000, 5000},
		{14 * time.Second, 10_000, 1000},
	} {
		if a, b := conns.At(c.at), rate.At(c.at); a != c.conns || b != c.rate {
			t.Errorf("after %v: %v conns, %v/s; want %v, %v/s", c.at, a, b, c.conns, c.rate)
		}
	}
	if conns.End() != 74*time.Second || rate.End() != conns.End() {
		t.Errorf("conns end after %v, rate after %v; want 1m14s", conns.End(), rate.End())
	}
}

const (
	rampHold = "scenarios: [hold]\nstages: [{kind: ramp, to: 10, for: 1s}]\n"
	rampOnly = "stages: [{kind: ramp, to: 10, for: 1s}]\n"
)

func TestDecodeSmall(t *testing.T) {
	s, err := Decode("p", []byte("duration: 3s\nscenarios: [http, {kind: echo, size: 0}, {kind: hold, protocol: plain}]\nthresholds: p99<1s,rate>1\n"+rampOnly))
	if err != nil {
		t.Fatal(err)
	}
	if c := s.Scenarios[0]; c.Kind != HTTPKind || c.Method != "GET" || c.Protocol != "" || c.Size != 0 || c.PerRequest || c.Model != ClosedModel {
		t.Errorf("http: %+v", c)
	}
	if c := s.Scenarios[1]; c.Size != 0 || c.Protocol != Raw || c.InFlight != 1 {
		t.Errorf("echo: %+v", c)
	}
	if conns, _ := s.Curves(); conns.End() != 3*time.Second || s.Timeout != 10*time.Second || len(s.Thresholds) != 2 {
		t.Errorf("%v for %v, %v", s.Timeout, conns.End(), s.Thresholds)
	}
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "p: target: there is none") {
		t.Errorf("Check without a target: %v", err)
	}
	s, err = Decode("p", []byte("target: http://h/\nscenarios: [{kind: http, connections: per-request, method: POST, headers: {a: b, c: ''}, size: 10}]\n"+rampOnly))
	if err != nil || s.Check() != nil {
		t.Fatal(err, s.Check())
	}
	if c := s.Scenarios[0]; !c.PerRequest || c.Method != "POST" || !reflect.DeepEqual(c.Headers, []Header{{"a", "b"}, {"c", ""}}) {
		t.Errorf("http: %+v", c)
	}
}

func TestDecodeErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "p: it is empty"},
		{"# nothing\n", "p: it is empty"},
		{"[1]", "p: want a mapping with scenarios and stages"},
		{"a: b: c", "p: mapping values are not allowed in this context"},
		{"target: ws://h/\na: b: c", "p:2: mapping values are not allowed in this context"},
		{rampHold + "---\na: b\n", "p: more than one document"},
		{"{}", "p: scenarios: there is none"},
		{"{}", "p: stages: there is none"},
		{rampHold + "tagret: x\n", `p:3: "tagret" is no key of a plan, did you mean "target"?: want target, protocol,`},
		{rampHold + "target: x\n", `p:3: target: "x" is no URL with a host`},
		{rampHold + "target: wz://h/\n", `p:3: target: scheme "wz" is none of ws, wss, http, https, did you mean "ws"?`},
		{rampHold + "seed: 1\nseed: 2\n", "p:4: seed: it stands in line 3 already"},
		{rampHold + "seed: -1\n", `p:3: seed: "-1": want a whole number`},
		{rampHold + "timeout: 5\n", `p:3: timeout: "5" has no unit: want a time such as 5s`},
		{rampHold + "timeout: soon\n", `p:3: timeout: "soon" is no time`},
		{rampHold + "timeout: 0s\n", "p:3: timeout: 0s: want 1ns to 24000h0m0s"},
		{rampHold + "timeout: [1s]\n", "p:3: timeout: it is a list: want one value"},
		{rampHold + "timeout:\n", "p:3: timeout: it has no value"},
		{rampHold + "protocol: centrifugo\n", `p:3: protocol: "centrifugo" is none of raw, plain, centrifuge, did you mean "centrifuge"?`},
		{rampHold + "thresholds: p99<50\n", `p:3: threshold "p99<50": "50" has no unit`},
		{rampHold + "thresholds:\n  - p99<50ms\n  - eror<1%\n", `p:5: threshold "eror<1%": "eror" is no figure, did you mean "errors"?`},
		{"scenarios: hold\n" + rampOnly, "p:1: scenarios: want a list"},
		{"scenarios: [hald]\n" + rampOnly, `p:1: kind: "hald" is none of http, hold, echo,`},
		{"scenarios: [hald]\n" + rampOnly, `did you mean "hold"?`},
		{"scenarios:\n  - name: x\n" + rampOnly, "p:2: scenario: it has no kind"},
		{"scenarios:\n  - kind: hold\n    size: 5\n" + rampOnly, "p:3: size: hold has no such key: want kind, name, path, weight, protocol"},
		{"scenarios:\n  - kind: echo\n    in-flight: 0\n" + rampOnly, "p:3: in-flight: 0: want a whole number from 1 to 65535"},
		{"scenarios:\n  - kind: echo\n    in_flight: 1\n" + rampOnly, `p:3: "in_flight" is no key of a scenario, did you mean "in-flight"?`},
		{"scenarios:\n  - kind: echo\n    binary: yes\n" + rampOnly, `p:3: binary: "yes" is none of true, false`},
		{"scenarios:\n  - kind: storm\n    share: 120%\n" + rampOnly, `p:3: share: "120%": want a share above 0`},
		{"scenarios:\n  - kind: publish\n" + rampOnly, "p:2: scenario publish: publish needs a protocol with commands: want protocol plain or centrifuge"},
		{"scenarios:\n  - kind: echo\n    model: open\n" + rampOnly, "p:2: scenario echo: model open needs a rate: want a stage with of: rate"},
		{"scenarios:\n  - kind: echo\n    spacing: exponential\n" + rampOnly, "p:2: scenario echo: spacing belongs to model open"},
		{"scenarios:\n  - kind: echo\n    every: 1s\n    think: 1s\n" + rampOnly, "p:2: scenario echo: every and think exclude each other"},
		{"scenarios:\n  - kind: echo\n    path: echo\n" + rampOnly, "p:2: scenario echo: path \"echo\": want one that begins with /"},
		{"scenarios: [hold, hold]\n" + rampOnly, "p:1: scenario hold: it is the second of that name"},
		{"target: ws://h/\nscenarios: [http]\n" + rampOnly, "p:2: scenario http: http requests need a target with http:// or https://, not ws://"},
		{"scenarios: [hold]\nstages:\n  - kind: ramp\n    to: 5\n", "p:3: stage: ramp needs for"},
		{"scenarios: [hold]\nstages:\n  - kind: rmap\n", `p:3: kind: "rmap" is none of ramp, step, spike, soak, did you mean "ramp"?`},
		{"scenarios: [hold]\nstages:\n  - to: 5\n", "p:3: stage: it has no kind"},
		{"scenarios: [hold]\nstages:\n  - kind: ramp\n    to: 5.5\n    for: 1s\n", "p:3: stage: 5.5 conns by 0: want whole ones"},
		{"scenarios: [hold]\nstages:\n  - kind: ramp\n    to: 1e30\n    for: 1s\n", "p:4: to: 1e+30: want 0 to 1e+09"},
		{"scenarios: [hold]\nstages:\n  - kind: step\n    to: 5\n    by: 0\n    every: 1s\n", "p:3: stage: step by 0 every 1s: want more than 0"},
		{"scenarios: [hold]\nstages:\n  - {kind: step, to: 1e9, by: 1, every: 1s}\n", "p: stages: they have 1000000000 steps: want at most 100000"},
		{"scenarios: [hold]\nstages:\n  - kind: soak\n  - {kind: ramp, to: 5, for: 1s}\n", "p:3: stage: a soak without for never ends"},
		{"scenarios: [hold]\nstages:\n  - {kind: soak, for: 1s, to: 5}\n", "p:3: to: soak has no such key: want kind, for"},
		{"scenarios: [hold]\nstages:\n  - {kind: soak, for: 1s}\n", "p: stages: none of them opens a conn"},
		{rampHold + "find: {from: 1, step: 1}\n", "p:3: find: there are no thresholds that say what breaks"},
		{rampHold + "find: {of: conns, from: 1}\nthresholds: p99<1s\n", "p:3: find: search: step 0: want more than 0"},
		{"scenarios: [echo]\nthresholds: p99<1s\nfind: {from: 1, step: 1}\n", "p:3: find: there are no conns to put a rate on"},
		{"scenarios: [hold]\nthresholds: p99<1s\nfind: {of: conns, from: 1, step: 1}\nstages: [{kind: soak}]\n", "p:4: stage: a soak without for never ends, and find"},
		{rampHold + "find: {of: users}\n", `p:3: of: "users" is none of conns, rate`},
		{"scenarios: [hold]\nstages:\n  - {kind: ramp, of: rate, to: 5, for: 1s}\n", "p: stages: a stage moves the rate, and no scenario has model open"},
		{"a: &x [*x]\n" + rampHold, "p:1: "},
		{"target: &x ws://h/\nprotocol: *x\n" + rampHold, "p:2: protocol: it is an alias: want one value"},
	} {
		_, err := Decode("p", []byte(c.in))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\n got %v\nwant %s", c.in, err, c.want)
		}
	}
	if _, err := Decode("p", []byte(strings.Repeat("c: d\n", 1000))); err == nil || strings.Count(err.Error(), "\n") != maxErrors-1 {
		t.Errorf("1000 wrong lines: %v; want %d errors", err, maxErrors)
	}
	if _, err := Decode("p", make([]byte, maxScript+1)); err == nil {
		t.Error("a file of more than 1 MiB is read")
	}
}

// The command of the founding article.
func TestFlags(t *testing.T) {
	const s = time.Second
	article := Flags{Target: "http://api.example.com/health", RampUp: 5 * s, Step: 200, MaxConns: 2000, Duration: 60 * s, Timeout: 300 * time.Millisecond}
	script, err := article.Script()
	if err != nil {
		t.Fatal(err)
	}
	if err := script.Check(); err != nil {
		t.Error(err)
	}
	if c := script.Scenarios[0]; c.Kind != HTTPKind || c.Model != ClosedModel || c.PerRequest || script.Timeout != 300*time.Millisecond {
		t.Errorf("scenario %+v, timeout %v", c, script.Timeout)
	}
	conns, rate := script.Curves()
	for at, want := range map[time.Duration]float64{0: 0, 2500 * time.Millisecond: 100, 5 * s: 200, 7*s - 1: 200, 7 * s: 400, 9 * s: 600, 23*s - 1: 1800, 23 * s: 2000, 59 * s: 2000} {
		if got := conns.At(at); got != want {
			t.Errorf("after %v: %v conns, want %v", at, got, want)
		}
	}
	if conns.End() != 60*s || rate.Max() != 0 {
		t.Errorf("conns end after %v, rate %v; want 1m0s, 0", conns.End(), rate)
	}

	for _, c := range []struct {
		name  string
		flags Flags
		at    time.Duration
		conns float64
		rate  float64
		end   time.Duration
	}{
		{"all at once", Flags{MaxConns: 70}, 0, 70, 0, Forever},
		{"ramp to all", Flags{MaxConns: 100, RampUp: 10 * s, Duration: 20 * s}, 5 * s, 50, 0, 20 * s},
		{"steps without a ramp", Flags{MaxConns: 500, Step: 200, Duration: 20 * s}, 2 * s, 400, 0, 20 * s},
		{"step larger than all", Flags{MaxConns: 50, Step: 200, RampUp: s, Duration: 20 * s}, 2 * s, 50, 0, 20 * s},
		{"another interval", Flags{MaxConns: 500, Step: 200, StepEvery: 5 * s, Duration: 20 * s}, 10 * s, 500, 0, 20 * s},
		{"ends in the last step", Flags{MaxConns: 500, Step: 200, StepEvery: 5 * s, Duration: 11 * s}, 10 * s, 500, 0, 11 * s},
		{"rate", Flags{MaxConns: 10, Rate: 1000, Duration: 5 * s, Scenario: Scenario{Kind: EchoKind, Spacing: Exponential}}, s, 10, 1000, 5 * s},
	} {
		c.flags.Target = "ws://h/ws"
		script, err := c.flags.Script()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		conns, rate := script.Curves()
		if a, b := conns.At(c.at), rate.At(c.at); a != c.conns || b != c.rate || conns.End() != c.end {
			t.Errorf("%s: after %v %v conns, %v/s, until %v; want %v, %v/s, %v", c.name, c.at, a, b, conns.End(), c.conns, c.rate, c.end)
		}
		if k := script.Scenarios[0].Kind; c.rate == 0 && k != HoldKind {
			t.Errorf("%s: kind %s, want hold", c.name, k)
		}
	}
	for _, c := range []struct {
		name  string
		flags Flags
		want  Find
		conns float64 // when the search begins
	}{
		{"conns by tenths", Flags{MaxConns: 2005, Find: true}, Find{Of: OfConns, Search: Search{From: 201, Step: 201, To: 2005, Whole: true}, Hold: 30 * s}, 0},
		{"conns by steps", Flags{MaxConns: 2000, Step: 500, Find: true, Duration: 60 * s}, Find{Of: OfConns, Search: Search{From: 500, Step: 500, To: 2000, Whole: true}, Hold: 60 * s}, 0},
		{"rate", Flags{MaxConns: 50, Rate: 1000, Find: true, Scenario: Scenario{Kind: EchoKind}}, Find{Of: OfRate, Search: Search{From: 100, Step: 100, To: 1000}, Hold: 30 * s}, 50},
	} {
		c.flags.Target = "ws://h/ws"
		c.flags.Thresholds = Thresholds{{Figure: "p99", Op: "<", Value: 5e7}}
		c.want.For, c.want.Rest = 5*s, 2*s
		script, err := c.flags.Script()
		if err != nil {
			t.Errorf("find, %s: %v", c.name, err)
			continue
		}
		if conns, _ := script.Curves(); *script.Find != c.want || conns.Last() != c.conns || conns.End() == Forever {
			t.Errorf("find, %s: %+v after %v; want %+v, %v conns", c.name, *script.Find, conns, c.want, c.conns)
		}
	}
	for _, c := range []struct {
		flags Flags
		want  string
	}{
		{Flags{MaxConns: 5, Find: true}, "there are no thresholds"},
		{Flags{MaxConns: 2000, Step: 200, Duration: 10 * s}, "--duration 10s: the last of 2000 conns is due after 18s"},
		{Flags{}, "--max-conns 0"},
		{Flags{MaxConns: 5, RampUp: -1}, "--ramp-up -1ns"},
		{Flags{MaxConns: 5, Rate: 10}, "no scenario has model open"},
		{Flags{MaxConns: 1e9, Step: 1}, "they have 1000000000 steps"},
		{Flags{MaxConns: 5, Scenario: Scenario{Kind: HTTPKind}}, "http requests need a target with http://"},
		{Flags{MaxConns: 5, Scenario: Scenario{Kind: PublishKind}}, "publish needs a protocol with commands"},
	} {
		c.flags.Target = "ws://h/ws"
		_, err := c.flags.Script()
		var ue *UsageError
		if !errors.As(err, &ue) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s", c.flags, err, c.want)
		}
	}
}

func FuzzScript(f *testing.F) {
	seeds(f)
	b, err := os.ReadFile(filepath.Join("testdata", "plan.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 1<<14 {
			return
		}
		s, err := Decode("p", in)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "p:") || s.Scenarios != nil || s.Stages != nil {
				t.Errorf("%q: %v", in, err)
			}
			return
		}
		s.Target = "" // any
		conns, rate := s.Curves()
		if conns.End() != rate.End() || conns.End() < 0 || conns.Max() < 0 || conns.Max() > maxLevel || rate.Max() > maxLevel {
			t.Errorf("%q: conns %v, rate %v", in, conns, rate)
		}
		p := NewPacer(rate, Even, s.Seed)
		if n := p.Count(conns.End()); n < 0 {
			t.Errorf("%q: %d arrivals", in, n)
		}
		for _, c := range s.Scenarios {
			if c.Name == "" || c.Weight < 1 || c.Size < 0 || fmt.Sprint(c.Kind) == "" {
				t.Errorf("%q: %+v", in, c)
			}
		}
		if again, err := Decode("p", in); err != nil || !reflect.DeepEqual(s.Stages, again.Stages) {
			t.Errorf("%q: read again: %+v, %v", in, again, err)
		}
	})
}
