package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// report is what a run found.
type report struct {
	Machine string `json:"machine"`
	CPUs    int    `json:"cpus"`
	Go      string `json:"go"`
	Commit  string `json:"commit"`
	Date    string `json:"date"`
	Publish string `json:"publish"` // api or client
	Rows    []row  `json:"rows"`
	Failed  []row  `json:"failed"`
}

// row is one figure.
type row struct {
	Part    string               `json:"part"`
	Figure  string               `json:"figure"`
	Goal    string               `json:"goal"`
	Value   string               `json:"value"`
	Reached *bool                `json:"reached,omitempty"` // nil: there is nothing to reach
	Remark  string               `json:"remark"`
	Numbers map[string][]float64 `json:"numbers,omitempty"` // of the rounds
}

func reached(ok bool) *bool { return &ok }

func newReport() report {
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	r := report{Machine: "Linux " + strings.TrimSpace(string(release)), CPUs: runtime.NumCPU(), Go: runtime.Version(),
		Commit: "unknown", Date: time.Now().UTC().Format("2006-01-02"), Failed: []row{}}
	if out, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		r.Commit = strings.TrimSpace(string(out))
	}
	return r
}

func (r *report) add(x row) {
	say("%s: %s: %s (%s)", x.Part, x.Figure, x.Value, x.Remark)
	r.Rows = append(r.Rows, x)
}

// failed notes a part whose check failed: none of its figures counts.
func (r *report) failed(part string, err error) {
	kept := r.Rows[:0]
	for _, x := range r.Rows {
		if x.Part != part {
			kept = append(kept, x)
		}
	}
	r.Rows = kept
	r.Failed = append(r.Failed, row{Part: part, Figure: part, Value: "FAILED", Remark: err.Error()})
}

// write prints the report, and writes it where the options say. It returns an error if a part has failed.
func (r *report) write(o *options) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Push, measured\n\n")
	fmt.Fprintf(&b, "%s, %d CPUs, %s, commit %s, %s.\n", r.Machine, r.CPUs, r.Go, r.Commit, r.Date)
	fmt.Fprintf(&b, "Clients speak Centrifuge JSON and run on the same CPUs as the server; a figure stands only if each of them got exactly\n")
	fmt.Fprintf(&b, "the publications that it had to. µs are processor time of the server process (user and system); bytes are its resident\n")
	fmt.Fprintf(&b, "memory beyond that before the first client, for each. %sCommand: `make bench-push`.\n\n",
		map[string]string{"api": "The HTTP API publishes. ", "client": "A client of the protocol publishes. "}[r.Publish])
	fmt.Fprintf(&b, "| figure | goal | measured | | remarks |\n|---|---|---|---|---|\n")
	for _, x := range append(r.Rows, r.Failed...) {
		verdict := ""
		switch {
		case x.Value == "FAILED":
		case x.Reached != nil && *x.Reached:
			verdict = "reached"
		case x.Reached != nil:
			verdict = "**missed**"
		}
		line := strings.NewReplacer("\n", " ", "|", "\\|")
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", x.Figure, x.Goal, x.Value, verdict, line.Replace(x.Remark))
	}
	j, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(&b, "\n```json\n%s\n```\n", j)
	fmt.Print(b.String())
	if o.out != "" {
		err = errors.Join(err, os.WriteFile(o.out, []byte(b.String()), 0o644))
	}
	if o.json != "" {
		err = errors.Join(err, os.WriteFile(o.json, append(j, '\n'), 0o644))
	}
	for _, x := range r.Failed {
		err = errors.Join(err, fmt.Errorf("%s: FAILED", x.Part))
	}
	return err
}
