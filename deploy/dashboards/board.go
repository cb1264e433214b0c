package main

import "strings"

// board is a dashboard as it is thought of: sections of panels.
type board struct {
	uid, title, help string
	jobs             string // the series whose labels job and instance there are to choose from
	sections         []section
}

type section struct {
	title  string
	panels []panel
}

// panel is one question and the expressions that answer it. In an expression, @ stands for the labels that the
// dashboard's variables choose.
type panel struct {
	title, help string
	unit        string // Grafana's name of it
	kind        kind
	queries     []query
	warn, bad   float64 // where a number turns yellow and red; 0: never
	wide        bool    // half of the width instead of a third
}

type query struct{ expr, legend string }

type kind uint8

const (
	lines   kind = iota // over time
	stacked             // over time, on top of each other
	number              // the latest
	heat                // a histogram's buckets over time
)

// The units in use.
const (
	count   = "short"
	second  = "s"
	bytes1k = "bytes"
	perSec  = "cps"
	bytesPS = "Bps"
	ratio   = "percentunit"
)

const (
	columns     = 24
	numberWidth = 4
	lineHeight  = 8
)

var prometheus = datasource{Type: "prometheus", UID: "${datasource}"}

// q is one expression, with what its series are called.
func q(expr, legend string) query { return query{expr, legend} }

// model is the board as Grafana reads it.
func (b board) model() dashboard {
	d := dashboard{
		UID: b.uid, Title: b.title, Description: b.help, Tags: []string{"longwire"}, GraphTooltip: 1, SchemaVersion: 36,
		Refresh: "30s", Timezone: "browser", Time: timeRange{"now-1h", "now"},
		Templating: templating{[]variable{
			{Name: "datasource", Label: "Data source", Type: "datasource", Query: "prometheus"},
			{Name: "job", Label: "Job", Type: "query", Query: "label_values(" + b.jobs + ", job)", Datasource: &prometheus, Refresh: 2, Sort: 1, IncludeAll: true, AllValue: ".+", Multi: true,
				Current: &current{"All", "$__all"}},
			{Name: "instance", Label: "Instance", Type: "query", Query: "label_values(" + b.jobs + `{job=~"$job"}, instance)`, Datasource: &prometheus, Refresh: 2, Sort: 1, IncludeAll: true, AllValue: ".+", Multi: true,
				Current: &current{"All", "$__all"}},
		}},
		Links: []dashboardLink{{Title: "Longwire", Type: "dashboards", Tags: []string{"longwire"}, AsDropdown: true, KeepTime: true, IncludeVars: true}},
	}
	d.Annotations.List = []annotation{{Name: "Restarts", Datasource: prometheus, Enable: true, IconColor: "orange", Title: "restart of {{instance}}",
		Expr: `changes(process_start_time_seconds{job=~"$job",instance=~"$instance"}[1m]) > 0`}}
	y := 0
	add := func(g graph) {
		g.ID = len(d.Panels) + 1
		d.Panels = append(d.Panels, g)
	}
	for _, s := range b.sections {
		closed := false
		add(graph{Type: "row", Title: s.title, GridPos: gridPos{H: 1, W: columns, Y: y}, Collapsed: &closed, Panels: &[]graph{}})
		y++
		x, high := 0, 0
		for _, p := range s.panels {
			g := p.graph()
			if x+g.GridPos.W > columns || high != 0 && g.GridPos.H != high {
				x, y = 0, y+high
			}
			g.GridPos.X, g.GridPos.Y, high = x, y, g.GridPos.H
			x += g.GridPos.W
			add(g)
		}
		y += high
	}
	return d
}

// graph is the panel as Grafana reads it, without its place.
func (p panel) graph() graph {
	zero := 0.0
	g := graph{Title: p.title, Description: p.help, Datasource: &prometheus, GridPos: gridPos{H: lineHeight, W: columns / 3},
		FieldConfig: &fieldConfig{Defaults: defaults{Unit: p.unit}, Overrides: []any{}}}
	if p.wide {
		g.GridPos.W = columns / 2
	}
	switch f := &g.FieldConfig.Defaults; p.kind {
	case lines, stacked:
		g.Type, f.Min = "timeseries", &zero
		f.Custom = map[string]any{"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": false}
		if p.kind == stacked {
			f.Custom["stacking"], f.Custom["fillOpacity"] = map[string]any{"mode": "normal", "group": "A"}, 40
		}
		g.Options = map[string]any{
			"legend":  map[string]any{"displayMode": "table", "placement": "bottom", "calcs": []string{"lastNotNull", "max"}, "showLegend": true},
			"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
		}
	case number:
		g.Type, g.GridPos.W, g.GridPos.H = "stat", numberWidth, lineHeight/2
		f.Thresholds = &thresholds{Mode: "absolute", Steps: []step{{Color: "green"}}}
		for _, s := range []struct {
			color string
			from  float64
		}{{"yellow", p.warn}, {"red", p.bad}} {
			if s.from > 0 {
				f.Thresholds.Steps = append(f.Thresholds.Steps, step{s.color, &s.from})
			}
		}
		g.Options = map[string]any{
			"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
			"colorMode":     "value", "graphMode": "area", "textMode": "auto", "justifyMode": "auto",
		}
	case heat:
		g.Type = "heatmap"
		g.Options = map[string]any{
			"calculate": false, "cellGap": 1, "color": map[string]any{"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5},
			"yAxis": map[string]any{"unit": p.unit}, "tooltip": map[string]any{"show": true, "yHistogram": true}, "legend": map[string]any{"show": true},
		}
	}
	for i, one := range p.queries {
		t := target{RefID: string(rune('A' + i)), Datasource: prometheus, LegendFormat: one.legend, Format: "time_series", Range: true,
			Expr: strings.ReplaceAll(one.expr, "@", `job=~"$job",instance=~"$instance"`)}
		if p.kind == heat {
			t.Format = "heatmap"
		}
		g.Targets = append(g.Targets, t)
	}
	return g
}
