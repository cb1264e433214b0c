package stress

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func textOf(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWriteText(t *testing.T) {
	runs := edges()
	for name, want := range map[string][]string{
		"plausible": {"target       ws://127.0.0.1:8000/echo\n", "conns        2,000 at a time of 2,000", "corrected  p50 ", "errors       none\n", "steps        10, all held\n", "thresholds   held", "generator    ", "server       "},
		"broken": {"errors       4,0", "BROKEN, the first at 21 s, step 1,600 · 16,000/s: p99 is 61.2ms, not under 50ms\n", "thresholds   BROKEN  errors<0.1%", "breaking     1,400 conns held, 1,440 conns did not (p99 is 61.2ms",
			"first cause  the accept queue is too short for the arrivals (high confidence): the queue was full", "SYNs dropped  160/s", "to lift it   a larger backlog", "2 storms, recovered in at most 2.3 s, 1 NOT recovered"},
		"blind": {"run          60 s from 2026-03-14 15:09:26 +0000, INTERRUPTED before its time\n", "the accept queue could not be seen"},
		"hold":  {"hold         ", "1,000,000 at a time of 1,000,000"},
		"empty": {"errors       none\n", "0 at a time of 0"},
	} {
		text := textOf(t, runs[name])
		if name == "hold" {
			r := runs[name]
			r.Scenarios[0] = Outcome{Name: "hold", Kind: HoldKind, Conns: r.Conns}
			text = textOf(t, r)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: there is no %q in\n%s", name, w, text)
			}
		}
	}
}

// A report that has more than enough of everything fits a terminal, and nothing in it moves the cursor.
func TestWriteTextFits(t *testing.T) {
	y := plausible
	y.breaks, y.find, y.storms, y.name = true, true, true, hostile
	r := y.report()
	for i := range 50 {
		r.Plan, r.Notes = append(r.Plan, fmt.Sprint("plan ", i)), append(r.Notes, fmt.Sprint("note ", i))
		r.Checks = append(r.Checks, r.Checks[0])
		r.Scenarios = append(r.Scenarios, r.Scenarios[0])
		r.Avalanche.Chain = append(r.Avalanche.Chain, r.Avalanche.Chain[0])
		r.Errors[fmt.Sprint("kind", i)] = int64(i)
	}
	text := textOf(t, r)
	if n := strings.Count(text, "\n"); n >= 40 || n < 30 {
		t.Errorf("%d lines, want less than 40 and nearly as many:\n%s", n, text)
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x202e || r == 0x2028 || r == 0x7f }); i >= 0 || !utf8.ValidString(text) {
		t.Errorf("the text has %q, valid %v", text[max(0, i):i+1], utf8.ValidString(text))
	}
	for _, w := range []string{"and 49 more", "more scenarios", "more kinds", "BROKEN"} {
		if !strings.Contains(text, w) {
			t.Errorf("there is no %q in\n%s", w, text)
		}
	}
}
