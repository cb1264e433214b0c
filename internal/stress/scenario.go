package stress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/longwire/longwire/internal/spelling"
)

// Bounds on what a script may ask for, so that a slip of the finger is an error and no run.
const (
	maxScript = 1 << 20               // bytes
	maxPieces = 100_000               // steps of all stages
	maxLevel  = 1e9                   // conns, or arrivals a second
	maxFor    = 1000 * 24 * time.Hour // of one time
	maxCount  = 1 << 30               // sizes, channels and the like
	maxItems  = 1000                  // of a list
	maxErrors = 50                    // that are told at a time
)

// Kind is what a scenario does with its conns.
type Kind string

// The kinds of scenario.
const (
	HTTPKind     Kind = "http"     // HTTP requests, on conns that are kept or on one conn each
	HoldKind     Kind = "hold"     // nothing but answer pings
	EchoKind     Kind = "echo"     // messages that come back
	RequestKind  Kind = "request"  // commands and their replies
	PublishKind  Kind = "publish"  // publications, timed until each subscriber has them
	ChurnKind    Kind = "churn"    // conns that end after a while, and others in their place
	StormKind    Kind = "storm"    // a share of all conns ends at once and comes back
	SlowKind     Kind = "slow"     // conns that read slowly
	HalfOpenKind Kind = "halfopen" // conns that stop to answer, and do not close
)

// Protocol is what clients speak on a WebSocket conn.
type Protocol string

// The protocols.
const (
	Raw        Protocol = "raw" // messages of no protocol
	Plain      Protocol = "plain"
	Centrifuge Protocol = "centrifuge"
)

// Model is what decides when the next exchange begins.
type Model string

// The models.
const (
	OpenModel   Model = "open"   // exchanges are due at a rate, whatever becomes of those before
	ClosedModel Model = "closed" // each conn begins one when it has ended the one before
)

// StageKind is how a stage goes to its level.
type StageKind string

// The kinds of stage.
const (
	RampStage  StageKind = "ramp"  // evenly
	StepStage  StageKind = "step"  // by steps, the first of them at once
	SpikeStage StageKind = "spike" // at once, and back at its end
	SoakStage  StageKind = "soak"  // nothing changes
)

// Quantity is what a stage or a search moves.
type Quantity string

// The quantities.
const (
	OfConns Quantity = "conns"
	OfRate  Quantity = "rate" // arrivals a second, over all conns
)

// Stage is a segment of a script.
type Stage struct {
	Kind  StageKind
	Of    Quantity // what it moves, the other stays where it was; empty for soak
	To    float64  // level at the end; spike: in between
	By    float64  // step: its size
	Every time.Duration
	For   time.Duration // soak: zero means until the run is interrupted

	line int // in the file; 0 means none
}

// Scenario is what a part of the conns does. A field that does not belong to its kind is zero.
type Scenario struct {
	Kind     Kind
	Name     string // in reports; the kind when not given
	Path     string // instead of the target's; empty means the target's
	Protocol Protocol
	Weight   int // how many parts of the conns: 1 when not given
	Model    Model
	Spacing  Spacing       // of arrivals in the open model
	Every    time.Duration // closed: from one due time of a conn to the next; storm: from one storm to the next
	Think    time.Duration // closed: from one exchange of a conn to the next
	Size     int           // bytes of a message or body; 64 when not given
	InFlight int           // exchanges that a conn has under way: 1 when not given
	Binary   bool
	// PerRequest is one conn for each HTTP request instead of conns that are kept.
	PerRequest bool
	Method     string // HTTP: GET when not given
	Headers    []Header
	// Channel is the channel, or with Channels above 1 what their names begin with; publish: 1 channel "stress" when
	// not given. Publishers is how many conns publish, 1 when not given; all of them are subscribers.
	Channel    string
	Channels   int
	Publishers int
	Lifetime   time.Duration // churn: of a conn; zero means that it ends as soon as it stands
	Share      float64       // storm: of the conns, from 0 to 1: all when not given
	ReadRate   int           // slow: bytes a second that a conn reads; zero means none
	After      time.Duration // halfopen: how long a conn answers before it stops

	line int
}

// Header is a header field of an HTTP request.
type Header struct{ Name, Value string }

// Script is a whole run: what is aimed at, with what, in which stages, and what must hold. Decode reads one from
// YAML, Flags.Script makes one.
type Script struct {
	Target     string
	Timeout    time.Duration // of a connect, and of an exchange. Zero means 10 s
	Duration   time.Duration // after which the run ends, whatever stage it is in. Zero means when its stages do
	Seed       uint64        // of all that is random
	Scenarios  []Scenario
	Stages     []Stage
	Thresholds Thresholds
	Find       *Find // nil means no search

	file       string
	targetLine int
}

// Find asks for the breaking point in conns or in rate, once the stages are over. The thresholds say what breaks.
type Find struct {
	Of Quantity
	Search
	// For is how long a measurement takes: 5 s when not given. Hold is how long one takes that confirms what held:
	// 30 s when not given. Rest is the time to let the server come to rest in after it broke: 2 s when not given.
	For, Hold, Rest time.Duration

	line int
}

// The keys of a scenario that depend on its kind, beside kind, name, path and weight.
var kindKeys = map[Kind][]string{
	HTTPKind:     {"method", "headers", "size", "connections", "model", "spacing", "every", "think"},
	HoldKind:     {"protocol"},
	EchoKind:     {"protocol", "size", "in-flight", "binary", "model", "spacing", "every", "think"},
	RequestKind:  {"protocol", "size", "in-flight", "model", "spacing", "every", "think"},
	PublishKind:  {"protocol", "size", "channel", "channels", "publishers", "model", "spacing", "every", "think"},
	ChurnKind:    {"protocol", "lifetime"},
	StormKind:    {"protocol", "share", "every"},
	SlowKind:     {"protocol", "read-rate", "channel", "channels"},
	HalfOpenKind: {"protocol", "after"},
}

var stageKeys = map[StageKind][]string{
	RampStage:  {"of", "to", "for"},
	StepStage:  {"of", "to", "by", "every"},
	SpikeStage: {"of", "to", "for"},
	SoakStage:  {"for"},
}

var (
	kinds      = []string{"http", "hold", "echo", "request", "publish", "churn", "storm", "slow", "halfopen"}
	protocols  = []string{"raw", "plain", "centrifuge"}
	stageKinds = []string{"ramp", "step", "spike", "soak"}
	quantities = []string{"conns", "rate"}
)

// Decode reads a script from YAML. name is the file's, for error texts. The error joins one for each wrong key or
// value, with its line. The target may be missing, since a flag can give it: Check wants one.
func Decode(name string, b []byte) (Script, error) {
	s := Script{file: name}
	if len(b) > maxScript {
		return Script{}, fmt.Errorf("%s: %d bytes: a plan has at most %d", name, len(b), maxScript)
	}
	var doc yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(b))
	switch err := d.Decode(&doc); {
	case err == io.EOF:
		return Script{}, fmt.Errorf("%s: it is empty: want scenarios and stages", name)
	case err != nil:
		// "yaml: line 3: …" → "FILE:3: …"
		text := strings.TrimPrefix(err.Error(), "yaml: ")
		if rest, ok := strings.CutPrefix(text, "line "); ok {
			return Script{}, fmt.Errorf("%s:%s", name, rest)
		}
		return Script{}, fmt.Errorf("%s: %s", name, text)
	}
	if d.Decode(new(yaml.Node)) != io.EOF {
		return Script{}, fmt.Errorf("%s: more than one document: want one", name)
	}
	r := reader{file: name}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return Script{}, fmt.Errorf("%s: want a mapping with scenarios and stages", name)
	}
	top := doc.Content[0]
	protocol := Raw
	r.mapping(top, "a plan", []key{
		{"target", func(n *yaml.Node) error { s.targetLine = n.Line; return text(n, &s.Target) }},
		{"protocol", func(n *yaml.Node) error { return word(n, &protocol, protocols) }},
		{"timeout", func(n *yaml.Node) error { return duration(n, &s.Timeout, 1) }},
		{"duration", func(n *yaml.Node) error { return duration(n, &s.Duration, 1) }},
		{"seed", func(n *yaml.Node) error { return seed(n, &s.Seed) }},
		{"scenarios", func(n *yaml.Node) error {
			return r.list(n, func(item *yaml.Node) { s.Scenarios = append(s.Scenarios, r.scenario(item)) })
		}},
		{"stages", func(n *yaml.Node) error {
			return r.list(n, func(item *yaml.Node) { s.Stages = append(s.Stages, r.stage(item)) })
		}},
		{"thresholds", func(n *yaml.Node) error { return r.thresholds(n, &s.Thresholds) }},
		{"find", func(n *yaml.Node) error { s.Find = r.find(n); return nil }},
	})
	if len(r.errs) > 0 {
		return Script{}, errors.Join(r.errs...)
	}
	for i := range s.Scenarios {
		if s.Scenarios[i].Protocol == "" {
			s.Scenarios[i].Protocol = protocol
		}
	}
	s.fill()
	if err := s.check(false); err != nil {
		return Script{}, err
	}
	return s, nil
}

// reader collects the errors of a file.
type reader struct {
	file string
	errs []error
}

func (r *reader) wrong(line int, format string, args ...any) {
	if len(r.errs) == maxErrors {
		return // a file of another kind has one in every line
	}
	r.errs = append(r.errs, fmt.Errorf("%s:%d: %w", r.file, line, fmt.Errorf(format, args...)))
}

// key is one key of a mapping and what takes its value.
type key struct {
	name string
	set  func(*yaml.Node) error
}

// mapping hands each value to its key. what is the mapping, for error texts. It returns the line of each key it met.
func (r *reader) mapping(n *yaml.Node, what string, keys []key) map[string]int {
	lines := make(map[string]int)
	if n.Kind != yaml.MappingNode {
		r.wrong(n.Line, "want a mapping of keys to values here: %s", what)
		return lines
	}
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		at := slices.Index(names, name.Value)
		switch line, twice := lines[name.Value]; {
		case name.Kind != yaml.ScalarNode || at < 0:
			r.wrong(name.Line, "%s is no key of %s%s: want %s", quoted(name), what, spelling.Hint(name.Value, names, ""), strings.Join(names, ", "))
			continue
		case twice:
			r.wrong(name.Line, "%s: it stands in line %d already", name.Value, line)
			continue
		}
		lines[name.Value] = name.Line
		if err := keys[at].set(value); err != nil {
			r.wrong(value.Line, "%s: %w", name.Value, err)
		}
	}
	return lines
}

// list hands each item on.
func (r *reader) list(n *yaml.Node, item func(*yaml.Node)) error {
	switch {
	case n.Kind != yaml.SequenceNode:
		return errors.New("want a list, each item after a dash")
	case len(n.Content) > maxItems:
		return fmt.Errorf("%d items: want at most %d", len(n.Content), maxItems)
	}
	for _, c := range n.Content {
		item(c)
	}
	return nil
}

// peek is the scalar value of a key, before the mapping is read.
func peek(n *yaml.Node, name string) *yaml.Node {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				return n.Content[i+1]
			}
		}
	}
	return nil
}

// only keeps the keys of a kind. For those of other kinds there is an error that says so.
func only(keys []key, always, here []string, kind string) []key {
	for i, k := range keys {
		if !slices.Contains(always, k.name) && !slices.Contains(here, k.name) {
			keys[i].set = func(*yaml.Node) error {
				return fmt.Errorf("%s has no such key: want %s", kind, strings.Join(append(slices.Clone(always), here...), ", "))
			}
		}
	}
	return keys
}

func (r *reader) scenario(n *yaml.Node) Scenario {
	s := Scenario{line: n.Line}
	kind := n // a kind alone is a scenario with all its defaults
	if n.Kind != yaml.ScalarNode {
		if kind = peek(n, "kind"); kind == nil {
			r.wrong(n.Line, "scenario: it has no kind: want one of %s", strings.Join(kinds, ", "))
			return s
		}
	}
	if err := word(kind, &s.Kind, kinds); err != nil {
		r.wrong(kind.Line, "kind: %w", err)
		return s
	}
	s.Size = -1 // what is not given has a default, and 0 is a size
	if kind == n {
		return s
	}
	var connections string
	keys := []key{
		{"kind", func(*yaml.Node) error { return nil }},
		{"name", func(n *yaml.Node) error { return text(n, &s.Name) }},
		{"path", func(n *yaml.Node) error { return text(n, &s.Path) }},
		{"weight", func(n *yaml.Node) error { return count(n, &s.Weight, 1, maxItems*maxItems) }},
		{"protocol", func(n *yaml.Node) error { return word(n, &s.Protocol, protocols) }},
		{"model", func(n *yaml.Node) error { return word(n, &s.Model, []string{"open", "closed"}) }},
		{"spacing", func(n *yaml.Node) error {
			var w string
			err := word(n, &w, []string{"even", "exponential"})
			if w == "exponential" {
				s.Spacing = Exponential
			}
			return err
		}},
		{"every", func(n *yaml.Node) error { return duration(n, &s.Every, 1) }},
		{"think", func(n *yaml.Node) error { return duration(n, &s.Think, 0) }},
		{"size", func(n *yaml.Node) error { return count(n, &s.Size, 0, maxCount) }},
		{"in-flight", func(n *yaml.Node) error { return count(n, &s.InFlight, 1, 65535) }},
		{"binary", func(n *yaml.Node) error { return truth(n, &s.Binary) }},
		{"connections", func(n *yaml.Node) error {
			err := word(n, &connections, []string{"keep-alive", "per-request"})
			s.PerRequest = connections == "per-request"
			return err
		}},
		{"method", func(n *yaml.Node) error { return text(n, &s.Method) }},
		{"headers", func(n *yaml.Node) error { return headers(n, &s.Headers) }},
		{"channel", func(n *yaml.Node) error { return text(n, &s.Channel) }},
		{"channels", func(n *yaml.Node) error { return count(n, &s.Channels, 1, maxCount) }},
		{"publishers", func(n *yaml.Node) error { return count(n, &s.Publishers, 1, maxCount) }},
		{"lifetime", func(n *yaml.Node) error { return duration(n, &s.Lifetime, 0) }},
		{"share", func(n *yaml.Node) error { return share(n, &s.Share) }},
		{"read-rate", func(n *yaml.Node) error { return count(n, &s.ReadRate, 0, maxCount) }},
		{"after", func(n *yaml.Node) error { return duration(n, &s.After, 0) }},
	}
	r.mapping(n, "a scenario", only(keys, []string{"kind", "name", "path", "weight"}, kindKeys[s.Kind], string(s.Kind)))
	return s
}

func (r *reader) stage(n *yaml.Node) Stage {
	s := Stage{line: n.Line}
	kind := peek(n, "kind")
	if kind == nil {
		r.wrong(n.Line, "stage: it has no kind: want one of %s", strings.Join(stageKinds, ", "))
		return s
	}
	if err := word(kind, &s.Kind, stageKinds); err != nil {
		r.wrong(kind.Line, "kind: %w", err)
		return s
	}
	if s.Kind != SoakStage {
		s.Of = OfConns
	}
	keys := []key{
		{"kind", func(*yaml.Node) error { return nil }},
		{"of", func(n *yaml.Node) error { return word(n, &s.Of, quantities) }},
		{"to", func(n *yaml.Node) error { return number(n, &s.To) }},
		{"by", func(n *yaml.Node) error { return number(n, &s.By) }},
		{"every", func(n *yaml.Node) error { return duration(n, &s.Every, 1) }},
		{"for", func(n *yaml.Node) error { return duration(n, &s.For, 0) }},
	}
	lines := r.mapping(n, "a stage", only(keys, []string{"kind"}, stageKeys[s.Kind], string(s.Kind)))
	for _, want := range stageKeys[s.Kind] {
		if _, ok := lines[want]; !ok && want != "of" && s.Kind != SoakStage {
			r.wrong(n.Line, "stage: %s needs %s", s.Kind, want)
		}
	}
	return s
}

func (r *reader) find(n *yaml.Node) *Find {
	f := Find{Of: OfRate, line: n.Line}
	r.mapping(n, "find", []key{
		{"of", func(n *yaml.Node) error { return word(n, &f.Of, quantities) }},
		{"from", func(n *yaml.Node) error { return number(n, &f.From) }},
		{"step", func(n *yaml.Node) error { return number(n, &f.Step) }},
		{"to", func(n *yaml.Node) error { return number(n, &f.To) }},
		{"factor", func(n *yaml.Node) error { return number(n, &f.Factor) }},
		{"precision", func(n *yaml.Node) error { return share(n, &f.Precision) }},
		{"for", func(n *yaml.Node) error { return duration(n, &f.For, 1) }},
		{"hold", func(n *yaml.Node) error { return duration(n, &f.Hold, 1) }},
		{"rest", func(n *yaml.Node) error { return duration(n, &f.Rest, 1) }},
		{"trials", func(n *yaml.Node) error { return count(n, &f.Trials, 1, 10_000) }},
	})
	f.Whole = f.Of == OfConns
	return &f
}

// thresholds reads a text with commas or a list.
func (r *reader) thresholds(n *yaml.Node, to *Thresholds) error {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	for _, c := range items {
		var w string
		if err := text(c, &w); err != nil {
			return err
		}
		t, err := ParseThresholds(w)
		if err != nil {
			r.wrong(c.Line, "%w", err)
			continue
		}
		*to = append(*to, t...)
	}
	return nil
}

// quoted is a node for error texts.
func quoted(n *yaml.Node) string {
	switch n.Kind {
	case yaml.ScalarNode:
		v := n.Value
		if len(v) > 60 {
			v = v[:60] + "…"
		}
		return strconv.Quote(v)
	case yaml.AliasNode:
		return "an alias"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a mapping"
}

func text(n *yaml.Node, to *string) error {
	switch {
	case n.Kind != yaml.ScalarNode:
		return fmt.Errorf("it is %s: want one value", quoted(n))
	case n.ShortTag() == "!!null" || n.Value == "":
		return errors.New("it has no value")
	case !utf8.ValidString(n.Value):
		return errors.New("it is no UTF-8")
	}
	*to = n.Value
	return nil
}

func word[T ~string](n *yaml.Node, to *T, want []string) error {
	var w string
	if err := text(n, &w); err != nil {
		return err
	}
	if !slices.Contains(want, w) {
		return fmt.Errorf("%s is none of %s%s", quoted(n), strings.Join(want, ", "), spelling.Hint(w, want, ""))
	}
	*to = T(w)
	return nil
}

func truth(n *yaml.Node, to *bool) error {
	var w string
	err := word(n, &w, []string{"true", "false"})
	*to = w == "true"
	return err
}

func duration(n *yaml.Node, to *time.Duration, least time.Duration) error {
	var w string
	if err := text(n, &w); err != nil {
		return err
	}
	d, err := time.ParseDuration(w)
	if err != nil {
		if _, err := strconv.ParseFloat(w, 64); err == nil {
			return fmt.Errorf("%s has no unit: want a time such as %ss", quoted(n), w)
		}
		return fmt.Errorf("%s is no time: want one such as 300ms, 5s or 1h30m", quoted(n))
	}
	if d < least || d > maxFor {
		return fmt.Errorf("%v: want %v to %v", d, least, maxFor)
	}
	*to = d
	return nil
}

func parseNumber(n *yaml.Node) (float64, error) {
	var w string
	if err := text(n, &w); err != nil {
		return 0, err
	}
	v, err := strconv.ParseFloat(strings.ReplaceAll(w, "_", ""), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%s is no number", quoted(n))
	}
	return v, nil
}

func number(n *yaml.Node, to *float64) error {
	v, err := parseNumber(n)
	if err != nil {
		return err
	}
	if v < 0 || v > maxLevel {
		return fmt.Errorf("%g: want 0 to %g", v, maxLevel)
	}
	*to = v
	return nil
}

func count(n *yaml.Node, to *int, least, most int) error {
	v, err := parseNumber(n)
	if err != nil {
		return err
	}
	if v != math.Trunc(v) || v < float64(least) || v > float64(most) {
		return fmt.Errorf("%s: want a whole number from %d to %d", n.Value, least, most)
	}
	*to = int(v)
	return nil
}

func seed(n *yaml.Node, to *uint64) error {
	var w string
	if err := text(n, &w); err != nil {
		return err
	}
	v, err := strconv.ParseUint(w, 10, 64)
	if err != nil {
		return fmt.Errorf("%s: want a whole number from 0 to 2^64-1", quoted(n))
	}
	*to = v
	return nil
}

// share reads 0.2 or 20%.
func share(n *yaml.Node, to *float64) error {
	var w string
	if err := text(n, &w); err != nil {
		return err
	}
	number, percent := strings.CutSuffix(w, "%")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return fmt.Errorf("%s is no share: want one such as 20%%", quoted(n))
	}
	if percent {
		v /= 100
	}
	if !(v > 0 && v <= 1) {
		return fmt.Errorf("%s: want a share above 0 and up to 100%%", quoted(n))
	}
	*to = v
	return nil
}

func headers(n *yaml.Node, to *[]Header) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("it is %s: want a mapping of names to values", quoted(n))
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		var h Header
		if err := text(n.Content[i], &h.Name); err != nil {
			return err
		}
		if v := n.Content[i+1]; v.Kind != yaml.ScalarNode {
			return fmt.Errorf("%s: it is %s: want one value", h.Name, quoted(v))
		}
		h.Value = n.Content[i+1].Value
		*to = append(*to, h)
	}
	return nil
}

// fill sets what was not given.
func (s *Script) fill() {
	if s.Timeout == 0 {
		s.Timeout = 10 * time.Second
	}
	if f := s.Find; f != nil {
		f.For, f.Hold, f.Rest = fallback(f.For, 5*time.Second), fallback(f.Hold, 30*time.Second), fallback(f.Rest, 2*time.Second)
	}
	for i := range s.Scenarios {
		c := &s.Scenarios[i]
		takes := func(k string) bool { return slices.Contains(kindKeys[c.Kind], k) }
		c.Name = fallback(c.Name, string(c.Kind))
		c.Weight = fallback(c.Weight, 1)
		if !takes("protocol") {
			c.Protocol = ""
		} else {
			c.Protocol = fallback(c.Protocol, Raw)
		}
		if c.Size < 0 || c.Size == 0 && c.line == 0 { // a scenario of flags says nothing of 0
			c.Size = 0
			if takes("size") && c.Kind != HTTPKind {
				c.Size = 64
			}
		}
		if takes("in-flight") {
			c.InFlight = fallback(c.InFlight, 1)
		}
		if takes("model") && c.Model == "" {
			c.Model = ClosedModel
			if s.moves(OfRate) {
				c.Model = OpenModel
			}
		}
		switch c.Kind {
		case HTTPKind:
			c.Method = fallback(c.Method, "GET")
		case PublishKind:
			c.Channel = fallback(c.Channel, "stress")
			c.Channels = fallback(c.Channels, 1)
			c.Publishers = fallback(c.Publishers, 1)
		case StormKind:
			c.Share = fallback(c.Share, 1)
			c.Every = fallback(c.Every, 10*time.Second)
		}
	}
}

// fallback is v, or d when v is its type's zero.
func fallback[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// moves says whether a stage or the search moves the quantity.
func (s *Script) moves(q Quantity) bool {
	return s.Find != nil && s.Find.Of == q || slices.ContainsFunc(s.Stages, func(g Stage) bool { return g.Of == q })
}

// Check says what is wrong with a script as a whole; a target is required.
func (s *Script) Check() error { return s.check(true) }

func (s *Script) check(target bool) error {
	var errs []error
	wrong := func(line int, format string, args ...any) {
		err := fmt.Errorf(format, args...)
		switch {
		case s.file != "" && line > 0:
			err = fmt.Errorf("%s:%d: %w", s.file, line, err)
		case s.file != "":
			err = fmt.Errorf("%s: %w", s.file, err)
		}
		errs = append(errs, err)
	}
	scheme := ""
	if s.Target != "" {
		u, err := url.Parse(s.Target)
		if err != nil || u.Host == "" {
			wrong(s.targetLine, "target: %q is no URL with a host: want one such as ws://127.0.0.1:8000/ws", s.Target)
		} else if scheme = u.Scheme; !slices.Contains([]string{"ws", "wss", "http", "https"}, scheme) {
			wrong(s.targetLine, "target: scheme %q is none of ws, wss, http, https%s", scheme, spelling.Hint(scheme, []string{"ws", "wss", "http", "https"}, ""))
		}
	} else if target {
		wrong(0, "target: there is none: want a URL such as ws://127.0.0.1:8000/ws")
	}
	if len(s.Scenarios) == 0 {
		wrong(0, "scenarios: there is none: want one of %s", strings.Join(kinds, ", "))
	}
	open := false
	for i := range s.Scenarios {
		c := &s.Scenarios[i]
		for j := range i {
			if s.Scenarios[j].Name == c.Name {
				wrong(c.line, "scenario %s: it is the second of that name: give it another", c.Name)
				break
			}
		}
		open = open || c.Model == OpenModel
		switch {
		case c.Kind == HTTPKind && (scheme == "ws" || scheme == "wss"):
			wrong(c.line, "scenario %s: http requests need a target with http:// or https://, not %s://", c.Name, scheme)
		case c.Kind == PublishKind && c.Protocol == Raw:
			wrong(c.line, "scenario %s: %s needs a protocol with commands: want protocol plain or centrifuge", c.Name, c.Kind)
		case c.Kind == RequestKind && c.Protocol == Raw:
			wrong(c.line, "scenario %s: %s needs a protocol with commands: want protocol plain or centrifuge, or kind echo", c.Name, c.Kind)
		case c.Kind == SlowKind && c.Channel != "" && c.Protocol == Raw:
			wrong(c.line, "scenario %s: a channel needs protocol plain or centrifuge", c.Name)
		case c.Path != "" && !strings.HasPrefix(c.Path, "/"):
			wrong(c.line, "scenario %s: path %q: want one that begins with /", c.Name, c.Path)
		case c.Model == OpenModel && (c.Every > 0 || c.Think > 0):
			wrong(c.line, "scenario %s: every and think belong to model closed: in the open model the rate says when", c.Name)
		case c.Model == ClosedModel && c.Spacing != Even:
			wrong(c.line, "scenario %s: spacing belongs to model open", c.Name)
		case c.Every > 0 && c.Think > 0:
			wrong(c.line, "scenario %s: every and think exclude each other", c.Name)
		case c.Model == OpenModel && !s.moves(OfRate):
			wrong(c.line, "scenario %s: model open needs a rate: want a stage with of: rate", c.Name)
		}
	}
	s.checkStages(wrong)
	if s.moves(OfRate) && !open && len(s.Scenarios) > 0 {
		wrong(0, "stages: a stage moves the rate, and no scenario has model open")
	}
	if s.Find != nil {
		if _, err := NewFinder(s.Find.Search); err != nil {
			wrong(s.Find.line, "find: %w", err)
		}
		if len(s.Thresholds) == 0 {
			wrong(s.Find.line, "find: there are no thresholds that say what breaks: want some such as p99<50ms,errors<0.1%%")
		}
	}
	return errors.Join(errs...)
}

func (s *Script) checkStages(wrong func(int, string, ...any)) {
	if len(s.Stages) == 0 && s.Find == nil {
		wrong(0, "stages: there is none: want at least a ramp and a soak")
	}
	pieces := 0.0
	level := map[Quantity]float64{}
	for i, g := range s.Stages {
		switch g.Kind {
		case SoakStage:
			switch {
			case g.For == 0 && i+1 < len(s.Stages):
				wrong(g.line, "stage: a soak without for never ends, and other stages follow it")
			case g.For == 0 && s.Find != nil:
				wrong(g.line, "stage: a soak without for never ends, and find begins when it has")
			}
			continue
		case StepStage:
			if !(g.By > 0) || g.Every <= 0 {
				wrong(g.line, "stage: step by %g every %v: want more than 0", g.By, g.Every)
				continue
			}
			pieces += math.Abs(g.To-level[g.Of]) / g.By
		case SpikeStage:
			if g.For <= 0 {
				wrong(g.line, "stage: a spike for %v: want more than 0", g.For)
			}
		}
		if g.Of == OfConns && (g.To != math.Trunc(g.To) || g.By != math.Trunc(g.By)) {
			wrong(g.line, "stage: %g conns by %g: want whole ones", g.To, g.By)
		}
		if g.Kind != SpikeStage {
			level[g.Of] = g.To
		}
	}
	if pieces > maxPieces {
		wrong(0, "stages: they have %.0f steps: want at most %d", pieces, maxPieces)
	}
	if s.Find != nil && s.Find.Of == OfRate && level[OfConns] == 0 {
		wrong(s.Find.line, "find: there are no conns to put a rate on: want a stage that opens some")
	}
	opens := func(g Stage) bool { return g.Of == OfConns && g.To > 0 }
	if len(s.Stages) > 0 && s.Find == nil && !slices.ContainsFunc(s.Stages, opens) {
		wrong(0, "stages: none of them opens a conn: want a ramp, step or spike to more than 0")
	}
}

// Curves are the conns and the arrivals a second over the run, of equal length. The script must be one that Check has
// nothing against.
func (s *Script) Curves() (conns, rate Curve) {
	var parts [2][]Curve // of conns, of rate
	var level [2]float64
	for _, g := range s.Stages {
		moves, rests := 0, 1
		if g.Of == OfRate {
			moves, rests = 1, 0
		}
		var moved Curve
		switch from := level[moves]; g.Kind {
		case RampStage:
			moved = Ramp(from, g.To, g.For)
		case StepStage:
			moved = Steps(from, g.To, g.By, g.Every)
		case SpikeStage:
			moved = Spike(from, g.To, g.For)
		case SoakStage:
			moved = Constant(from, fallback(g.For, Forever))
		}
		level[moves] = moved.Last()
		parts[moves] = append(parts[moves], moved)
		parts[rests] = append(parts[rests], Constant(level[rests], moved.End()))
	}
	conns, rate = Join(parts[0]...), Join(parts[1]...)
	if s.Duration > 0 {
		conns, rate = conns.Until(s.Duration), rate.Until(s.Duration)
	}
	return conns, rate
}

// Flags is a script as flags give it: those of the founding article, and the kind of scenario.
type Flags struct {
	Target   string
	Scenario Scenario // its zero Kind means http for an HTTP target, else hold
	MaxConns int
	// RampUp is how long the first conns take: up to Step of them, or without Step all. Then every StepEvery another
	// Step come, until there are MaxConns. Without either all come at once. Zero StepEvery means 2 s.
	RampUp, StepEvery time.Duration
	Step              int
	// Duration is the whole run, from its begin. Zero means until it is interrupted.
	Duration   time.Duration
	Timeout    time.Duration // zero means 10 s
	Rate       float64       // exchanges a second once all conns are open; zero means the closed model
	Seed       uint64
	Thresholds Thresholds
	// Find asks for the breaking point of the thresholds, by rate up to Rate where that is given, else by conns up to
	// MaxConns; the steps are a tenth of that, or Step conns. Duration is then how long a level is held to confirm it;
	// zero means 30 s.
	Find bool
}

// Script is the flags as a script that Check has nothing against, or an error with a hint.
func (f Flags) Script() (Script, error) {
	f.StepEvery = fallback(f.StepEvery, 2*time.Second)
	if f.MaxConns < 1 || f.Step < 0 || f.RampUp < 0 || f.StepEvery < 0 || f.Duration < 0 || f.Timeout < 0 || !(f.Rate >= 0 && f.Rate <= maxLevel) {
		return Script{}, bad("", "--max-conns %d, --step %d, --ramp-up %v, --step-every %v, --duration %v, --timeout %v, --rate %g: want at least 1 conn, and nothing negative", f.MaxConns, f.Step, f.RampUp, f.StepEvery, f.Duration, f.Timeout, f.Rate)
	}
	s := Script{Target: f.Target, Timeout: f.Timeout, Seed: f.Seed, Thresholds: f.Thresholds, Scenarios: []Scenario{f.Scenario}}
	if c := &s.Scenarios[0]; c.Kind == "" {
		c.Kind = HoldKind
		if u, err := url.Parse(f.Target); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
			c.Kind = HTTPKind
		}
	}
	all := float64(f.MaxConns)
	if f.Find && f.Rate == 0 {
		step := fallback(float64(f.Step), math.Ceil(all/10))
		s.Find = &Find{Of: OfConns, Search: Search{From: min(step, all), Step: step, To: all, Whole: true}, Hold: f.Duration}
		return s.checked()
	}
	first := all
	if f.Step > 0 {
		first = min(all, float64(f.Step))
	}
	if f.RampUp > 0 || f.Step == 0 {
		s.Stages = append(s.Stages, Stage{Kind: RampStage, Of: OfConns, To: first, For: f.RampUp})
		if first < all {
			s.Stages = append(s.Stages, Stage{Kind: SoakStage, For: f.StepEvery})
		}
	} else {
		first = 0
	}
	if first < all {
		s.Stages = append(s.Stages, Stage{Kind: StepStage, Of: OfConns, To: all, By: float64(f.Step), Every: f.StepEvery})
	}
	if f.Find {
		s.Find = &Find{Of: OfRate, Search: Search{From: f.Rate / 10, Step: f.Rate / 10, To: f.Rate}, Hold: f.Duration}
		return s.checked()
	}
	if f.Rate > 0 {
		s.Stages = append(s.Stages, Stage{Kind: RampStage, Of: OfRate, To: f.Rate})
	}
	s, err := s.checked()
	if err != nil {
		return Script{}, err
	}
	conns, _ := s.Curves()
	if opening, _ := conns.First(all); f.Duration > 0 && f.Duration <= opening {
		return Script{}, bad("give a longer --duration, fewer --max-conns, a larger --step, or a shorter --ramp-up or --step-every",
			"--duration %v: the last of %d conns is due after %v", f.Duration, f.MaxConns, opening)
	}
	s.Duration = f.Duration
	s.Stages = append(s.Stages, Stage{Kind: SoakStage})
	return s, nil
}

// checked is the script with its defaults, if Check has nothing against it.
func (s Script) checked() (Script, error) {
	s.fill()
	if err := s.check(true); err != nil {
		return Script{}, bad("longwire stress --help lists its flags", "%w", err)
	}
	return s, nil
}
