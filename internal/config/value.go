package config

import (
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// The types of options. Each reads, by UnmarshalText, what String writes; flags, environment and file
// share that text.

// Count is a number of things, 0 or more. Underscores may group its digits.
type Count int

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Count) UnmarshalText(b []byte) error {
	n, err := strconv.ParseInt(strings.ReplaceAll(string(b), "_", ""), 10, 0)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is no count: want a whole number such as 1000000 or 1_000_000", b)
	}
	*c = Count(n)
	return nil
}

func (c Count) String() string { return strconv.Itoa(int(c)) }

// Rate is a number of things a second, 0 or more.
type Rate float64

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Rate) UnmarshalText(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || !(f >= 0) || math.IsInf(f, 0) {
		return fmt.Errorf("%q is no rate: want a number a second such as 20 or 0.5", b)
	}
	*r = Rate(f)
	return nil
}

func (r Rate) String() string { return strconv.FormatFloat(float64(r), 'g', -1, 64) }

// Size is a number of bytes, 0 or more.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(b []byte) error {
	digits, unit := string(b), int64(1)
	for _, u := range sizeUnits {
		if rest, ok := cutSuffixFold(digits, u.name); ok {
			digits, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil && n >= 0 && n < 1<<62/unit {
		*s = Size(n * unit)
		return nil
	}
	f, err := strconv.ParseFloat(digits, 64)
	if n := f * float64(unit); err == nil && f >= 0 && n < 1<<62 && n == math.Trunc(n) {
		*s = Size(n)
		return nil
	}
	return fmt.Errorf("%q is no size: want bytes, or a number with KiB, MiB, GiB, kB, MB or GB such as 512MiB", b)
}

func cutSuffixFold(s, suffix string) (string, bool) {
	if n := len(s) - len(suffix); n >= 0 && strings.EqualFold(s[n:], suffix) {
		return s[:n], true
	}
	return s, false
}

func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		if u := sizeUnits[i]; s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Memory is a Size, or "auto" (0), or "none" (-1).
type Memory int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Memory) UnmarshalText(b []byte) error {
	switch string(b) {
	case "auto":
		*m = 0
		return nil
	case "none":
		*m = -1
		return nil
	}
	var s Size
	if err := s.UnmarshalText(b); err != nil {
		return fmt.Errorf(`%w, or "auto", or "none"`, err)
	}
	if *m = Memory(s); s == 0 {
		*m = -1
	}
	return nil
}

func (m Memory) String() string {
	switch {
	case m == 0:
		return "auto"
	case m < 0:
		return "none"
	}
	return Size(m).String()
}

// Duration is a time span, 0 or more. "off" is 0.
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	if string(b) == "off" {
		*d = 0
		return nil
	}
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		if _, err := strconv.ParseFloat(string(b), 64); err == nil {
			return fmt.Errorf("%q has no unit: want a duration such as 500ms, 25s or 2m", b)
		}
		return fmt.Errorf("%q is no duration: want one such as 500ms, 25s or 2m", b)
	}
	*d = Duration(v)
	return nil
}

func (d Duration) String() string {
	if d == 0 {
		return "off"
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// List is a list of words. Text separates them by commas; reading appends.
type List []string

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *List) UnmarshalText(b []byte) error {
	for w := range strings.SplitSeq(string(b), ",") {
		if w = strings.TrimSpace(w); w == "" {
			return fmt.Errorf("%q has an empty item: want words with commas between", b)
		}
		*l = append(*l, w)
	}
	return nil
}

func (l List) String() string { return strings.Join(l, ",") }

// Secret is a text that is used and never shown: where a value is printed, logged or marshalled there stands redacted
// instead. string(s) is the text itself.
type Secret string

// redacted stands for a secret. It is no secret: what was printed cannot be fed back by mistake.
const redacted = "(redacted)"

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Secret) UnmarshalText(b []byte) error {
	if string(b) == redacted {
		return errors.New("it was redacted when it was printed: want the secret itself")
	}
	*s = Secret(b)
	return nil
}

// MarshalText implements encoding.TextMarshaler, for encoding/json and log/slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString is for %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// PEM is a public key: the text that begins with -----BEGIN, or the path of a file that holds such a text, or empty.
type PEM string

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *PEM) UnmarshalText(b []byte) error { *p = PEM(b); return nil }

func (p PEM) String() string { return string(p) }

// Bytes is the key in PEM, which read brings where p is a path. It is nil where p is empty.
func (p PEM) Bytes(read func(string) ([]byte, error)) ([]byte, error) {
	if p == "" {
		return nil, nil
	}
	b := []byte(p)
	if !p.inline() {
		var err error
		if b, err = read(string(p)); err != nil {
			return nil, fmt.Errorf("read public key: %w", err)
		}
	}
	if err := checkPEM(b); err != nil {
		if !p.inline() {
			return nil, fmt.Errorf("read public key: %s: %w", string(p), err)
		}
		return nil, fmt.Errorf("read public key: %w", err)
	}
	return b, nil
}

func (p PEM) inline() bool { return strings.HasPrefix(string(p), "-----BEGIN") }

// check checks what can be checked without a file.
func (p PEM) check() error {
	if !p.inline() {
		return nil
	}
	return checkPEM([]byte(p))
}

func checkPEM(b []byte) error {
	block, _ := pem.Decode(b)
	switch {
	case block == nil:
		return errors.New("it holds no PEM: want a block from -----BEGIN to -----END")
	case strings.Contains(block.Type, "PRIVATE"):
		return fmt.Errorf("it holds a block %s: want the public key, a gateway needs no other", block.Type)
	}
	return nil
}

// Tables chooses the descriptor tables: auto, shared or private.
type Tables string

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Tables) UnmarshalText(b []byte) error {
	return oneOf((*string)(t), b, "auto", "shared", "private")
}

func (t Tables) String() string { return string(t) }

// LogFormat is text or json.
type LogFormat string

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *LogFormat) UnmarshalText(b []byte) error { return oneOf((*string)(f), b, "text", "json") }

func (f LogFormat) String() string { return string(f) }

// LogSampling is full, dynamic or kernel-only.
type LogSampling string

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *LogSampling) UnmarshalText(b []byte) error {
	return oneOf((*string)(l), b, "full", "dynamic", "kernel-only")
}

func (l LogSampling) String() string { return string(l) }

// Share is a part of a whole, from 0 to 1. Text has it as a number, or in percent.
type Share float64

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Share) UnmarshalText(b []byte) error {
	digits, percent := strings.CutSuffix(string(b), "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if percent {
		f /= 100
	}
	if err != nil || !(f >= 0 && f <= 1) {
		return fmt.Errorf("%q is no share: want one from 0 to 1, or in percent, such as 0.01 or 1%%", b)
	}
	*s = Share(f)
	return nil
}

// String has few digits: 0.07 is 7%, and not 7.000000000000001%.
func (s Share) String() string {
	return strconv.FormatFloat(math.Round(float64(s)*1e9)/1e7, 'g', -1, 64) + "%"
}

func oneOf(s *string, b []byte, words ...string) error {
	for _, w := range words {
		if string(b) == w {
			*s = w
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", b, strings.Join(words, ", "))
}

// LogLevel is debug, info, warn or error.
type LogLevel slog.Level

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *LogLevel) UnmarshalText(b []byte) error {
	var s string
	if err := oneOf(&s, b, "debug", "info", "warn", "error"); err != nil {
		return err
	}
	return (*slog.Level)(l).UnmarshalText(b)
}

func (l LogLevel) String() string { return strings.ToLower(slog.Level(l).String()) }

// parseSwitch reads true or false.
func parseSwitch(b string) (bool, error) {
	switch b {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", b)
}
