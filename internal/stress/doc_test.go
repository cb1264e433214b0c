package stress

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// typeWord is how docs/stress-report.md writes the type of a member.
func typeWord(f reflect.StructField) string {
	_, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	t, null := f.Type, ""
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
		if options == "" {
			null = " or null"
		}
	}
	var w string
	link := func(t reflect.Type) string { return "[" + t.Name() + "](#" + strings.ToLower(t.Name()) + ")" }
	switch {
	case t == reflect.TypeFor[time.Time]():
		w = "time"
	case t.Kind() == reflect.Struct:
		w = link(t)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		w = "list of " + link(t.Elem())
	case t.Kind() == reflect.Slice:
		w = "list of text"
	case t.Kind() == reflect.Map:
		w = "counts by kind"
	case t.Kind() == reflect.String:
		w = "text"
	case t.Kind() == reflect.Bool:
		w = "true or false"
	default:
		w = "number"
	}
	if options == "omitempty" {
		return w + null + ", optional"
	}
	return w + null
}

// structs are the types of what is under t, itself included.
func structs(t reflect.Type, into map[string]reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		structs(t.Elem(), into)
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() || into[t.Name()] != nil {
			return
		}
		into[t.Name()] = t
		for i := range t.NumField() {
			if t.Field(i).IsExported() {
				structs(t.Field(i).Type, into)
			}
		}
	}
}

// TestReportPage holds docs/stress-report.md against the types: every member, in order, with its type, and no other.
func TestReportPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/stress-report.md")
	if err != nil {
		t.Fatal(err)
	}
	types := make(map[string]reflect.Type)
	structs(reflect.TypeFor[Report](), types)
	structs(reflect.TypeFor[Comparison](), types)
	seen := make(map[string]bool)
	for _, s := range regexp.MustCompile(`(?m)^##+ `).Split(string(b), -1)[1:] {
		title, body, _ := strings.Cut(s, "\n")
		of := types[title]
		if of == nil {
			continue
		}
		seen[title] = true
		rows := regexp.MustCompile("(?m)^\\| `([a-z_0-9]+)` \\| (.*?) \\| (.+) \\|$").FindAllStringSubmatch(body, -1)
		for i := range of.NumField() {
			f := of.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() {
				continue
			}
			if len(rows) == 0 || rows[0][1] != name || rows[0][2] != typeWord(f) {
				t.Errorf("%s: want a row for `%s`, %s; it has %q", title, name, typeWord(f), rows)
				break
			}
			rows = rows[1:]
		}
		if len(rows) > 0 {
			t.Errorf("%s: rows %q are of no member", title, rows)
		}
	}
	for name := range types {
		if !seen[name] {
			t.Errorf("%s has no section", name)
		}
	}
	if len(types) < 20 {
		t.Errorf("%d types, want more", len(types))
	}

	_, example, _ := strings.Cut(string(b), "```json\n")
	example, _, _ = strings.Cut(example, "```")
	r, err := ReadReport(strings.NewReader(example))
	if err != nil || len(r.Samples) == 0 || len(r.Scenarios) == 0 {
		t.Fatalf("the example is no report: %v", err)
	}
	d := json.NewDecoder(strings.NewReader(example))
	d.DisallowUnknownFields()
	if err := d.Decode(new(Report)); err != nil {
		t.Errorf("the example: %v", err)
	}
}
