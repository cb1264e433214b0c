package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/longwire/longwire/internal/stress"
)

// steady is a run of so many exchanges a second, give or take a few.
func steady(rate int64, plan string) *stress.Report {
	r := &stress.Report{Format: stress.Format, Target: "ws://127.0.0.1:8000/", Begun: time.Unix(1_800_000_000, 0), Elapsed: 40, Plan: []string{plan},
		Scenarios: []stress.Outcome{{Name: "echo", Kind: stress.EchoKind, Rate: float64(rate)}}}
	var done int64
	for i := range int64(40) {
		done += rate + i*7%5
		r.Samples = append(r.Samples, stress.Sample{At: float64(i + 1), Stage: "soak", Wanted: 10, Open: 10, Done: done})
	}
	return r
}

// compareMain is Main with the one command.
func compareMain(t *testing.T, p Process) int {
	t.Helper()
	var g struct {
		Compare stressCompareCmd `cmd:""`
	}
	k, err := kong.New(&g)
	if err != nil {
		t.Fatal(err)
	}
	kctx, err := k.Parse(p.Args)
	if err != nil {
		return p.fail(usage(err, parseHint(err)))
	}
	if err := kctx.Run(&call{Process: p, ctx: t.Context(), kong: kctx}); err != nil {
		return p.fail(err)
	}
	return exitFine
}

func TestStressCompare(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, r *stress.Report) string {
		t.Helper()
		var b bytes.Buffer
		if err := r.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	fast, slow, other := file("fast.json", steady(1000, "echo")), file("slow.json", steady(800, "echo")), file("other.json", steady(800, "hold"))
	nothing := filepath.Join(dir, "nothing.json")
	if err := os.WriteFile(nothing, []byte(`{"connected":3}`), 0o600); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(dir, "page.html")
	for name, c := range map[string]struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		"itself":      {[]string{fast, fast}, exitFine, "no difference beyond the noise", ""},
		"slower":      {[]string{fast, slow}, exitFine, "WORSE", ""},
		"fails":       {[]string{fast, slow, "--fail-if-worse"}, exitThreshold, "WORSE", "1 figures of "},
		"faster":      {[]string{slow, fast, "--fail-if-worse"}, exitFine, "better", ""},
		"page":        {[]string{fast, slow, "--html", page}, exitFine, "WORSE", ""},
		"no page":     {[]string{fast, slow, "--html", dir}, exitFailed, "WORSE", "is a directory"},
		"other plan":  {[]string{fast, other}, exitFailed, "NOT COMPARABLE", "line 1 of the plan"},
		"not there":   {[]string{fast, filepath.Join(dir, "none.json")}, exitUsage, "", "no such file"},
		"no report":   {[]string{fast, nothing}, exitUsage, "", "nothing.json: read report: it is JSON without a format"},
		"stdin":       {[]string{"-", slow}, exitFine, "WORSE", ""},
		"stdin twice": {[]string{"-", "-"}, exitUsage, "", "both reports"},
	} {
		var stdout, stderr bytes.Buffer
		in, err := os.Open(fast)
		if err != nil {
			t.Fatal(err)
		}
		code := compareMain(t, Process{Args: append([]string{"compare"}, c.args...), Stdin: in, Stdout: &stdout, Stderr: &stderr})
		_ = in.Close()
		if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) || (c.stderr == "") != (stderr.Len() == 0) {
			t.Errorf("%s: exit code %d\nstdout:\n%s\nstderr:\n%s", name, code, &stdout, &stderr)
		}
	}
	if b, err := os.ReadFile(page); err != nil || !bytes.HasPrefix(b, []byte("<!DOCTYPE html>")) {
		t.Errorf("page: %v, %.40s", err, b)
	}
	var stdout bytes.Buffer
	var c stress.Comparison
	code := compareMain(t, Process{Args: []string{"compare", fast, slow, "--json"}, Stdout: &stdout})
	if err := json.Unmarshal(stdout.Bytes(), &c); code != exitFine || err != nil || c.Format != stress.ComparisonFormat || c.Worse != 1 {
		t.Errorf("--json: exit code %d, %v, %+v", code, err, c)
	}
}
