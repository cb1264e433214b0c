package stress

import (
	"bytes"
	"encoding/json"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func jsonOf(t *testing.T, r *Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What is written comes back the same, whatever the run was like.
func TestReadReport(t *testing.T) {
	for name, r := range edges() {
		j := jsonOf(t, r)
		if r.Format == "" {
			continue
		}
		back, err := ReadReport(bytes.NewReader(j))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again := jsonOf(t, back); !bytes.Equal(again, j) {
			t.Errorf("%s: what was read is written in another way", name)
		}
		if name == "plausible" && !reflect.DeepEqual(back, r) {
			t.Errorf("%s: what was read is not what was written", name)
		}
	}
}

// A figure that is no number spoils no report, and the report itself stays as it was.
func TestWriteJSONWithoutNumbers(t *testing.T) {
	r := edges()["not numbers"]
	back, err := ReadReport(bytes.NewReader(jsonOf(t, r)))
	if err != nil {
		t.Fatal(err)
	}
	if back.Conns.Rate != 0 || back.Samples[3].Latency.P99 != 0 || back.Checks[0].Value != nil || back.Samples[4].Server.Heap != nil || back.Samples[5].Server.Heap == nil {
		t.Errorf("what is no number came back as %v, %v, %v", back.Conns.Rate, back.Samples[3].Latency.P99, back.Checks[0].Value)
	}
	if r.Checks[0].Value == nil || r.Samples[3].Latency.P99 == 0 || !reflect.DeepEqual(r.Steps, edges()["not numbers"].Steps) {
		t.Error("WriteJSON changed the report")
	}
}

func TestReadReportRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                                      "it is empty: want the JSON report of a run of longwire stress",
		" \n":                                   "it is empty",
		"{":                                     "it ends too early",
		"hello":                                 "it is no JSON",
		"[]":                                    "JSON without a format",
		"{}":                                    `JSON without a format: want the JSON report of a run of longwire stress, whose format is "longwire-stress/1"`,
		`{"format":3}`:                          "JSON without a format",
		`{"format":"other/1"}`:                  `its format is "other/1": want`,
		`{"format":"` + ComparisonFormat + `"}`: `its format is "longwire-stress-comparison/1"`,
		`{"format":"longwire-stress/1","elapsed_s":"long"}`:              "elapsed_s",
		`{"format":"longwire-stress/1","seed":-1}`:                       "seed",
		`{"format":"longwire-stress/1"} {}`:                              "something follows it",
		`{"format":"longwire-stress/1","samples":[{"t_s":2},{"t_s":1}]}`: "sample 1 is of 1 s, the one before it of 2 s",
		`{"format":"longwire-stress/1","elapsed_s":1e999}`:               "elapsed_s",
	} {
		if r, err := ReadReport(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "read report: ") {
			t.Errorf("ReadReport(%q) = %v, %v; want %q", in, r, err, want)
		}
	}
	// What a later version adds is no error.
	if r, err := ReadReport(strings.NewReader(`{"format":"longwire-stress/1","news":[1],"target":"x"}`)); err != nil || r.Target != "x" {
		t.Errorf("a report with something new: %v, %v", r, err)
	}
	long := `{"format":"longwire-stress/1","name":"` + strings.Repeat("a", 100) + `"}`
	if _, err := readReport(strings.NewReader(long), int64(len(long))); err != nil {
		t.Errorf("a report as long as it may be: %v", err)
	}
	if _, err := readReport(strings.NewReader(long), int64(len(long))-1); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a report that is longer: %v", err)
	}
}

// FuzzReadReport: what is read can be written in every form and compared, or is refused with an error that says so.
func FuzzReadReport(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzReadReport/*")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("%d seeds, %v", len(seeds), err)
	}
	other := plausible.report()
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ReadReport(bytes.NewReader(b))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "read report: ") {
				t.Errorf("error %v", err)
			}
			return
		}
		for name, write := range map[string]func(io.Writer) error{"text": r.WriteText, "JSON": r.WriteJSON, "HTML": r.WriteHTML,
			"comparison": Compare(r, other).WriteHTML, "comparison in JSON": Compare(other, r).WriteJSON, "comparison in text": Compare(r, r).WriteText} {
			var out bytes.Buffer
			if err := write(&out); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if strings.Contains(name, "JSON") && !json.Valid(out.Bytes()) {
				t.Errorf("%s is not valid", name)
			}
			if name == "text" && bytes.Count(out.Bytes(), []byte("\n")) >= 40 {
				t.Errorf("text of %d lines", bytes.Count(out.Bytes(), []byte("\n")))
			}
		}
	})
}
