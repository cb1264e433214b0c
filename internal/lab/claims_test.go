package lab

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestStatements checks that each is whole, and that experiments and statements know each other.
func TestStatements(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Statements() {
		if seen[s.ID] || s.ID == "" || s.Quote == "" || s.Says == "" || heading(s.Section) == s.Section {
			t.Errorf("statement %+v is not whole, in a section that has no name, or there twice", s)
		}
		seen[s.ID] = true
		if s.Experiment == "" {
			if s.Ruling == "" || s.Reason == "" || (s.Ruling == NotShown) != (s.Source == "") {
				t.Errorf("%s: without an experiment it takes a ruling, a reason, and a source unless nothing is shown", s.ID)
			}
			continue
		}
		e, err := Find(s.Experiment)
		if err != nil {
			t.Errorf("%s: %v", s.ID, err)
		} else if !slices.Contains(e.Claims, s.Claim) {
			t.Errorf("experiment %s does not know %s", e.Name, s.ID)
		}
	}
	for _, e := range Experiments() {
		for _, c := range e.Claims {
			if !seen[c.ID] {
				t.Errorf("experiment %s tries %s, which is no statement", e.Name, c.ID)
			}
		}
	}
}

// readClaims reads docs/claims.json.
func readClaims(t *testing.T) *Report {
	t.Helper()
	f, err := os.Open("../../docs/claims.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := ReadReport(f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestClaimsPage makes docs/claims.md anew of docs/claims.json: the page has to be what comes of it, and a verdict for each.
func TestClaimsPage(t *testing.T) {
	r := readClaims(t)
	var got strings.Builder
	if err := r.WriteClaims(&got); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../../docs/claims.md")
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Error("docs/claims.md is not what docs/claims.json makes: longwire lab claims docs/claims.json > docs/claims.md")
	}
	for _, s := range Statements() {
		if n := strings.Count(string(want), "\n| "+cell(s.ID)+" |"); n != 1 {
			t.Errorf("%s has %d rows in docs/claims.md", s.ID, n)
		}
	}
	for _, e := range r.Experiments {
		if e.Interrupted || e.Error != "" || len(e.Series) > 0 {
			t.Errorf("experiment %s was not carried out to the end, or its curves are in docs/claims.json", e.Name)
		}
	}
}

// TestCell checks that text stays in its cell.
func TestCell(t *testing.T) {
	for in, want := range map[string]string{"": "–", "a|b": `a\|b`, "*T": `\*T`, "a\nb": "a b", "a<b": "a&lt;b", "tcp_mem": `tcp\_mem`} {
		if got := cell(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// TestClaimsMissing: a report that lacks a verdict makes no page.
func TestClaimsMissing(t *testing.T) {
	r := readClaims(t)
	for i, e := range r.Experiments {
		if e.Name == "heartbeat" {
			r.Experiments = slices.Delete(r.Experiments, i, i+1)
			break
		}
	}
	if err := r.WriteClaims(new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "lab run heartbeat") {
		t.Errorf("without heartbeat: %v", err)
	}
}

// TestMerge: the last of two results counts, and a brief report has no curves.
func TestMerge(t *testing.T) {
	a, b := sampleReport(), sampleReport()
	b.Experiments[0].Seed = 7
	c := sampleReport()
	c.Experiments[0].Name = "other"
	m, err := Merge(a, b, c)
	if err != nil || len(m.Experiments) != 2 || m.Experiments[0].Seed != 7 || m.Experiments[1].Name != "other" {
		t.Errorf("%+v, %v", m, err)
	}
	m.Experiments[0].Began = m.Experiments[1].Began.Add(1)
	if got := repeated(m); !slices.Equal(got, []string{"body"}) {
		t.Errorf("repeated were %v", got)
	}
	if n := len(m.Brief().Experiments[0].Series); n != 0 {
		t.Errorf("a brief report has %d curves", n)
	}
	if len(m.Experiments[0].Series) == 0 {
		t.Error("the report itself lost its curves")
	}
	if _, err := Merge(); err == nil {
		t.Error("nothing is merged")
	}
}
