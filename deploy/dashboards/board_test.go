package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGenerated checks that the dashboards which are checked in are those that the code writes, and that another one is told.
func TestGenerated(t *testing.T) {
	if err := run(filepath.Join(root, "deploy/grafana/dashboards"), true); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	if err := run(dir, false); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, true); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "longwire-node.json"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, true); err == nil || !strings.Contains(err.Error(), "longwire-node.json is out of date: make generate") {
		t.Errorf("another dashboard: %v, want it told", err)
	}
}

// TestShape checks what Grafana would not say: that panels stand beside each other, have titles, units and legends, and go by
// the variables.
func TestShape(t *testing.T) {
	uids := make(map[string]bool)
	for name, b := range all() {
		d := b.model()
		if uids[d.UID] || d.UID == "" || d.UID+".json" != name {
			t.Errorf("%s: uid %q: want the file's name, once", name, d.UID)
		}
		uids[d.UID] = true
		ids, titles, taken := make(map[int]bool), make(map[string]bool), make(map[[2]int]string)
		section := ""
		for _, p := range d.Panels {
			where := name + ", " + p.Title
			key := section + "/" + p.Title
			if p.Type == "row" {
				section, key = p.Title, p.Title
			}
			if p.Title == "" || titles[key] {
				t.Errorf("%s: no title, or one that another panel of the section has", where)
			}
			titles[key] = true
			if ids[p.ID] || p.ID == 0 {
				t.Errorf("%s: id %d is another's", where, p.ID)
			}
			ids[p.ID] = true
			if p.GridPos.X+p.GridPos.W > columns {
				t.Errorf("%s: stands out at the right: %+v", where, p.GridPos)
			}
			for x := range p.GridPos.W {
				for y := range p.GridPos.H {
					at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
					if other, ok := taken[at]; ok {
						t.Fatalf("%s covers %s", where, other)
					}
					taken[at] = p.Title
				}
			}
			if p.Type == "row" {
				continue
			}
			if p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
				t.Errorf("%s: no unit, or no expression", where)
			}
			for _, one := range p.Targets {
				if !strings.Contains(one.Expr, `job=~"$job",instance=~"$instance"`) || strings.Contains(one.Expr, "@") {
					t.Errorf("%s: %s does not go by the variables", where, one.Expr)
				}
				if p.Type == "timeseries" && one.LegendFormat == "" {
					t.Errorf("%s: %s has no legend", where, one.Expr)
				}
			}
		}
	}
}
