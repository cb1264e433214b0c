// Dashboards writes the Grafana dashboards of deploy/grafana: make generate runs it. They are code so that a name, a
// selector or a unit is said once, and so that a test can ask Prometheus every expression.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	out := flag.String("out", "deploy/grafana/dashboards", "directory to write to")
	check := flag.Bool("check", false, "compare with what is there instead, and fail if it differs")
	flag.Parse()
	if err := run(*out, *check); err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

// all are the dashboards, by name of file.
func all() map[string]board {
	return map[string]board{
		"longwire-node.json": node(), "longwire-sessions.json": sessions(), "longwire-causes.json": causes(),
		"longwire-runtime.json": goRuntime(), "longwire-kernel.json": kernel(), "longwire-stress.json": load(),
	}
}

// run writes every dashboard into dir, or with check compares.
func run(dir string, check bool) error {
	for name, b := range all() {
		text, err := encode(b.model())
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		path := filepath.Join(dir, name)
		if check {
			there, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("compare: %w", err)
			}
			if !bytes.Equal(there, text) {
				return fmt.Errorf("%s is out of date: make generate", path)
			}
			continue
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}

// encode is JSON as a person would read it in a difference.
func encode(m dashboard) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(m)
	return b.Bytes(), err
}
