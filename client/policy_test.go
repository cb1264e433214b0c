package client

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// scenario is one of testdata/heartbeat. docs/client-policy.md has the format.
type scenario struct {
	Name    string
	Options json.RawMessage
	Memory  memory
	Random  []float64
	Steps   []struct {
		At      int64
		Event   string
		Name    string
		TS      *int64
		Code    *int
		Reason  *string
		Clean   bool
		Status  int
		After   *int64
		Message *struct {
			ID    string
			Bytes int
		}
		Expect struct {
			State   State
			Actions []any
		}
	}
	After struct {
		Memory memory
		RTT    float64
		Queued int
	}
}

// TestPolicy runs the scenarios that this implementation of the policy shares with the one in TypeScript.
func TestPolicy(t *testing.T) {
	files, err := filepath.Glob("../testdata/heartbeat/*.json")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var list []scenario
		if err := json.Unmarshal(b, &list); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		count += len(list)
		for i := range list {
			t.Run(strings.TrimSuffix(filepath.Base(name), ".json")+"/"+list[i].Name, func(t *testing.T) { list[i].run(t) })
		}
	}
	if count < 120 {
		t.Errorf("%d scenarios in testdata/heartbeat, want 120 and more", count)
	}
}

func (s *scenario) run(t *testing.T) {
	o := defaults()
	if s.Options != nil {
		d := json.NewDecoder(strings.NewReader(string(s.Options)))
		d.DisallowUnknownFields()
		if err := d.Decode(&o); err != nil {
			t.Fatal(err)
		}
	}
	chances := s.Random
	record := s.Memory
	p := newPolicy(o, func() float64 {
		if len(chances) == 0 {
			t.Fatal("out of random numbers")
		}
		r := chances[0]
		chances = chances[1:]
		return r
	}, &record)
	messages := map[string]*message{}
	ids := map[*message]string{}
	armed, at := "", int64(0)
	for _, step := range s.Steps {
		if step.At < at {
			t.Fatal("the table runs backwards")
		}
		at = step.At
		e := event{at: at, kind: step.Event, name: step.Name, clean: step.Clean, status: step.Status, after: -1}
		if step.TS != nil {
			e.ts, e.hasTS = *step.TS, true
		}
		if step.Code != nil {
			e.code = *step.Code
		}
		if step.Reason != nil {
			e.reason = *step.Reason
		}
		if step.After != nil {
			e.after = *step.After
		}
		if m := step.Message; m != nil {
			if messages[m.ID] == nil {
				messages[m.ID] = &message{bytes: m.Bytes}
				ids[messages[m.ID]] = m.ID
			}
			e.message = messages[m.ID]
		}
		if step.Event == "timer" && step.Name == armed {
			armed = ""
		}
		actions := []any{}
		for _, a := range p.step(e) {
			list := []any{a.do}
			switch a.do {
			case "timer":
				list = append(list, a.name, float64(a.at))
				if armed != "" {
					t.Errorf("at %d: a second timer", at)
				}
				armed = a.name
			case "clear":
				list = append(list, a.name)
				if armed != a.name {
					t.Errorf("at %d: cleared the timer %s, there is %q", at, a.name, armed)
				}
				armed = ""
			case "connect":
			case "ping":
				list = append(list, float64(a.at))
			case "close":
				list = append(list, float64(a.code), a.reason)
			case "shut":
				var code, reason any
				if step.Code != nil {
					code = float64(a.code)
				}
				if step.Reason != nil {
					reason = a.reason
				}
				list = append(list, code, reason)
			case "state":
				list = append(list, string(a.state), a.reason)
			case "open", "error":
				list = []any{"emit", a.do}
			case "end":
				list = []any{"emit", "close", float64(a.code), a.reason, a.clean}
			case "write":
				list = append(list, ids[a.message])
			case "drop", "reject":
				list = append(list, ids[a.message], a.reason)
			default:
				t.Fatalf("at %d: unknown action %q", at, a.do)
			}
			actions = append(actions, list)
		}
		if p.state != step.Expect.State {
			t.Errorf("at %d: %s: state is %s, want %s", at, step.Event, p.state, step.Expect.State)
		}
		if !reflect.DeepEqual(actions, step.Expect.Actions) {
			t.Errorf("at %d: %s: actions are\n%v, want\n%v", at, step.Event, actions, step.Expect.Actions)
		}
		if p.state == Closed && armed != "" {
			t.Errorf("at %d: closed with the timer %s", at, armed)
		}
	}
	if record != s.After.Memory {
		t.Errorf("the record is %+v, want %+v", record, s.After.Memory)
	}
	if p.rtt != s.After.RTT || p.queued != s.After.Queued {
		t.Errorf("rtt %v, queued %d; want %v, %d", p.rtt, p.queued, s.After.RTT, s.After.Queued)
	}
	if len(chances) > 0 {
		t.Errorf("%d random numbers that nobody drew", len(chances))
	}
}

// TestPolicyAllocs: a flood of messages costs nothing.
func TestPolicyAllocs(t *testing.T) {
	p := newPolicy(defaults(), func() float64 { return 0 }, &memory{})
	p.step(event{kind: "start"})
	p.step(event{at: 1, kind: "open"})
	if n := testing.AllocsPerRun(100, func() { p.step(event{at: 2, kind: "message"}) }); n > 0 {
		t.Errorf("%v allocations for a message, want 0", n)
	}
}
