package stress

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func durationOf(ns float64) time.Duration { return time.Duration(ns) }

// measured is a summary in which all took the same time.
func measured(ns float64, attempts, errors int64) *Summary {
	s := &Summary{Corrected: new(Distribution), Attempts: attempts, Errors: errors, Done: attempts - errors, Elapsed: 10 * time.Second}
	s.Corrected.Record(durationOf(ns))
	return s
}

func TestParseThresholds(t *testing.T) {
	for _, c := range []struct{ in, want, err string }{
		{in: "p99<50ms", want: "p99<50ms"},
		{in: " p99.9 <= 1.5s , errors<0.1%,rate>1000 ", want: "p99.9<=1.5s,errors<0.1%,rate>1000"},
		{in: "service-p50<1ms,connect-max<3s,mean<20us,max<1m", want: "service-p50<1ms,connect-max<3s,mean<20µs,max<1m0s"},
		{in: "errors<5,lost<=0,conns>=99.5%,conns>=2000,rate>=0.5/s", want: "errors<5,lost<=0,conns>=99.5%,conns>=2000,rate>=0.5"},
		{in: "rate>1e6", want: "rate>1000000"},

		{in: "", err: "no threshold: want one such as p99<50ms"},
		{in: "p99<50ms,", err: `threshold "": it is empty`},
		{in: "p99", err: "it compares nothing"},
		{in: "p99<", err: "there is no value after <"},
		{in: "p99<50", err: `"50" has no unit: want a time such as 50ms`},
		{in: "p99<fast", err: `"fast" is no time`},
		{in: "p99<-5ms", err: "-5ms is negative"},
		{in: "p99=<50ms", err: `"=<" is no comparison, did you mean "<="?`},
		{in: "p99≤50ms", err: `"≤" is no comparison, did you mean "<="?`},
		{in: "p99==50ms", err: `"==" is no comparison: want < <= > or >=`},
		{in: "p101<50ms", err: `"p101" is no figure`},
		{in: "p<50ms", err: `"p" is no figure`},
		{in: "p9.9.9<50ms", err: `"p9.9.9" is no figure`},
		{in: "p+5<50ms", err: `"p+5" is no figure`},
		{in: "error<0.1%", err: `"error" is no figure, did you mean "errors"?`},
		{in: "conect-p99<1s", err: `"conect-p99" is no figure, did you mean "connect-p99"?`},
		{in: "latency<1s", err: `"latency" is no figure: want pNN`},
		{in: "errors<0.1", err: "0.1 is no whole count, did you mean 0.1%?"},
		{in: "errors<101%", err: "101% is more than all"},
		{in: "errors<-1", err: "-1 is negative"},
		{in: "errors<NaN", err: `"NaN" is no number`},
		{in: "rate>5%", err: "a rate is no share"},
		{in: "rate>many", err: `"many" is no number`},
		{in: "p99<x,error<1", err: `threshold "error<1"`},
		{in: "p99<x,error<1", err: `threshold "p99<x"`},
	} {
		got, err := ParseThresholds(c.in)
		if c.err == "" && (err != nil || got.String() != c.want) {
			t.Errorf("%q: %v, %v; want %s", c.in, got, err, c.want)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || got != nil) {
			t.Errorf("%q: error %v, want %q in it", c.in, err, c.err)
		}
	}
}

func TestEvaluate(t *testing.T) {
	s := Summary{
		Corrected: new(Distribution), Service: new(Distribution), Connect: new(Distribution),
		Attempts: 1000, Errors: 1, Done: 5000, Elapsed: 10 * time.Second, Conns: 198, Wanted: 200, Lost: 2,
	}
	for i := range time.Duration(100) {
		s.Corrected.Record((i + 1) * time.Millisecond)
		s.Service.Record(time.Millisecond)
	}
	for _, c := range []struct {
		check string
		held  bool
		text  string
	}{
		{"p99<100ms", true, "p99 is 99.02ms, under 100ms"},
		{"p99<50ms", false, "p99 is 99.02ms, not under 50ms"},
		{"max<100ms", false, "max is 100ms, not under 100ms"},
		{"max<=100ms", true, "max is 100ms, at most 100ms"},
		{"max<=99ms", false, "max is 100ms, over 99ms"},
		{"mean>50ms", true, "mean is 50.5ms, over 50ms"},
		{"mean>=51ms", false, "mean is 50.5ms, under 51ms"},
		{"service-p99<2ms", true, "service-p99 is 1ms, under 2ms"},
		{"connect-p99<2s", false, "connect-p99 is not known: there are no samples"},
		{"errors<0.1%", false, "errors is 0.1%, not under 0.1%"},
		{"errors<=0.1%", true, "errors is 0.1%, at most 0.1%"},
		{"errors<1", false, "errors is 1, not under 1"},
		{"rate>500", false, "rate is 500, not over 500"},
		{"rate>=500", true, "rate is 500, at least 500"},
		{"conns>=99%", true, "conns is 99%, at least 99%"},
		{"conns>=200", false, "conns is 198, under 200"},
		{"lost<1%", false, "lost is 1%, not under 1%"},
	} {
		all, err := ParseThresholds(c.check)
		if err != nil {
			t.Fatal(err)
		}
		got, held := all.Evaluate(&s)
		if held != c.held || got[0].Held != held || got[0].Text != c.text {
			t.Errorf("%s: %v %q, want %v %q", c.check, held, got[0].Text, c.held, c.text)
		}
	}
	all, _ := ParseThresholds("p99<1s,errors<0.01%,rate>1")
	checks, held := all.Evaluate(&s)
	if held || len(checks) != 3 || !checks[0].Held || checks[1].Held || !checks[2].Held {
		t.Errorf("three thresholds of which one breaks: %v %+v", held, checks)
	}
	if v := checks[0].Value; v == nil || *v < 99_000 || *v > 99_100 {
		t.Errorf("p99 in µs: %v, want 99000", v)
	}
	all, _ = ParseThresholds("p99<1s,errors<1%,errors<1,lost<1%,conns>=1%,rate>1")
	checks, _ = all.Evaluate(&Summary{})
	for i, c := range checks {
		if c.Held != (i == 2) || (c.Value == nil) != (i != 2) {
			t.Errorf("nothing was measured: %+v", c)
		}
	}
	if _, held := Thresholds(nil).Evaluate(&s); !held {
		t.Error("no thresholds do not hold")
	}
}

func FuzzThresholds(f *testing.F) {
	seeds(f)
	f.Add("p99<50ms,errors<0.1%,rate>1000")
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 4096 {
			return
		}
		a, err := ParseThresholds(in)
		if err != nil {
			if len(err.Error()) == 0 || a != nil {
				t.Errorf("%q: %v, %q", in, a, err)
			}
			return
		}
		b, err := ParseThresholds(a.String())
		if err != nil || fmt.Sprint(a) != fmt.Sprint(b) || len(a) != len(b) {
			t.Errorf("%q: %v, and from its text %v, %v", in, a, b, err)
		}
		if checks, held := a.Evaluate(measured(1e6, 100, 1)); len(checks) != len(a) || held && !checks[0].Held {
			t.Errorf("%q: %d checks of %d", in, len(checks), len(a))
		}
	})
}

// seeds fails when the checked-in corpus of the target is gone, which the fuzzer would not mention.
func seeds(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "fuzz", f.Name(), "*"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds for %s: %v", f.Name(), err)
	}
	for _, name := range files {
		if b, err := os.ReadFile(name); err != nil || len(b) == 0 {
			f.Fatalf("seed %s: %d bytes, %v", name, len(b), err)
		}
	}
}
