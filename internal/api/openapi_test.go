package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// schema is what the tests read of a schema of the description.
type schema struct {
	Ref        string            `json:"$ref"`
	Type       string            `json:"type"`
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
	Items      *schema           `json:"items"`
	Additional *schema           `json:"additionalProperties"`
}

// media is a body in the description.
type media struct {
	Content map[string]struct {
		Schema  schema          `json:"schema"`
		Example json.RawMessage `json:"example"`
	} `json:"content"`
}

// description is openapi.json.
type description struct {
	OpenAPI string `json:"openapi"`
	Paths   map[string]map[string]struct {
		RequestBody media                      `json:"requestBody"`
		Responses   map[string]json.RawMessage `json:"responses"`
	} `json:"paths"`
	Components struct {
		Schemas   map[string]schema          `json:"schemas"`
		Responses map[string]json.RawMessage `json:"responses"`
	} `json:"components"`
}

func read(t *testing.T) *description {
	t.Helper()
	d := new(description)
	if err := json.Unmarshal(document, d); err != nil {
		t.Fatal(err)
	}
	if d.OpenAPI != "3.1.0" || len(d.Paths) < 15 {
		t.Fatalf("OpenAPI %q with %d paths", d.OpenAPI, len(d.Paths))
	}
	return d
}

// check reports what of v the schema does not have.
func (d *description) check(at string, s schema, v any) error {
	for s.Ref != "" {
		name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/")
		next, known := d.Components.Schemas[name]
		if !ok || !known {
			return fmt.Errorf("%s: no schema %s", at, s.Ref)
		}
		s = next
	}
	kind := map[string]bool{"": true}
	switch v := v.(type) {
	case map[string]any:
		kind["object"] = true
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				return fmt.Errorf("%s has no %s", at, name)
			}
		}
		for name, value := range v {
			p, ok := s.Properties[name]
			switch {
			case !ok && s.Additional != nil:
				p = *s.Additional
			case !ok && s.Type == "":
				continue // any value
			case !ok:
				return fmt.Errorf("%s.%s is not described", at, name)
			}
			if err := d.check(at+"."+name, p, value); err != nil {
				return err
			}
		}
	case []any:
		kind["array"] = true
		for i, value := range v {
			if s.Items != nil {
				if err := d.check(fmt.Sprintf("%s[%d]", at, i), *s.Items, value); err != nil {
					return err
				}
			}
		}
	case string:
		kind["string"] = true
	case bool:
		kind["boolean"] = true
	case json.Number:
		kind["integer"] = true
	}
	if !kind[s.Type] {
		return fmt.Errorf("%s is a %T, described as %s", at, v, s.Type)
	}
	return nil
}

func decode(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return v
}

// TestDescribed checks that each path of the description is served, and each that is served is in the description.
func TestDescribed(t *testing.T) {
	d := read(t)
	want := []string{documentPath, Prefix + batchName}
	for name := range methods {
		want = append(want, Prefix+name)
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(d.Paths)); !slices.Equal(got, want) {
		t.Errorf("the description has %v, the handler %v", got, want)
	}
	h := New(Options{Key: key})
	for path, item := range d.Paths {
		verbs := slices.Collect(maps.Keys(item))
		if len(verbs) != 1 {
			t.Errorf("%s: %v, want one", path, verbs)
		}
		for _, verb := range verbs {
			// Without a key nothing is done: a path that is served answers 401, but for the description.
			want := http.StatusUnauthorized
			if path == documentPath {
				want = http.StatusOK
			}
			if rec := answer(h, httptest.NewRequest(strings.ToUpper(verb), path, nil)); rec.Code != want {
				t.Errorf("%s %s: %d, want %d", verb, path, rec.Code, want)
			}
			for status, r := range item[verb].Responses {
				var ref struct {
					Ref string `json:"$ref"`
				}
				if err := json.Unmarshal(r, &ref); err != nil {
					t.Fatal(err)
				}
				if _, ok := d.Components.Responses[status]; ref.Ref != "" && (!ok || ref.Ref != "#/components/responses/"+status) {
					t.Errorf("%s: response %s: %s", path, status, ref.Ref)
				}
			}
		}
	}
	rec := answer(h, httptest.NewRequest(http.MethodGet, documentPath, nil))
	if !bytes.Equal(rec.Body.Bytes(), document) || rec.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%s: %d bytes of %s, want the file", documentPath, rec.Body.Len(), rec.Header().Get("Content-Type"))
	}
}

// TestFieldsDescribed compares what requests are read into with what is said of them.
func TestFieldsDescribed(t *testing.T) {
	d := read(t)
	requests := map[string]any{batchName: batchRequest{}}
	for name, m := range methods {
		requests[name] = m.request
	}
	for name, r := range requests {
		var fields []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(r)) {
			if tag := f.Tag.Get("json"); tag != "" {
				fields = append(fields, tag)
			}
		}
		slices.Sort(fields)
		s, ok := d.Components.Schemas[name+".request"]
		if got := slices.Sorted(maps.Keys(s.Properties)); !ok || !slices.Equal(got, fields) {
			t.Errorf("%s: described are %v, read %v", name, got, fields)
		}
	}
	// A batch takes all of them.
	command := d.Components.Schemas["batch.request"].Properties["commands"].Items
	if got, want := slices.Sorted(maps.Keys(command.Properties)), slices.Sorted(maps.Keys(methods)); !slices.Equal(got, want) {
		t.Errorf("a command of a batch is one of %v, want %v", got, want)
	}
}

// TestExamples has a gateway answer each example of the description. It is as the description has it: user 42 is
// connected and subscribed to news, where one publication is.
func TestExamples(t *testing.T) {
	d := read(t)
	for path, item := range d.Paths {
		name, verb := strings.TrimPrefix(path, Prefix), item["post"]
		if path == documentPath {
			continue
		}
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Options{Key: key})
			w.connect(`{"sub":"42","info":{"name":"Ada"}}`, "news")
			w.want("publish", `{"channel":"news","data":{"text":"good morning"},"tags":{"lang":"en"}}`, `{"result":{"offset":1,"epoch":"X"}}`)
			var response media
			if err := json.Unmarshal(verb.Responses["200"], &response); err != nil {
				t.Fatal(err)
			}
			in, out := verb.RequestBody.Content["application/json"], response.Content["application/json"]
			for _, c := range []struct {
				of      string
				schema  schema
				example []byte
			}{{"request", in.Schema, in.Example}, {"response", out.Schema, out.Example}} {
				if err := d.check(c.of, c.schema, decode(t, c.example)); err != nil {
					t.Error(err)
				}
			}
			status, got := w.post(name, string(in.Example))
			var want bytes.Buffer
			if err := json.Compact(&want, out.Example); err != nil {
				t.Fatal(err)
			}
			if status != http.StatusOK || masked(got) != masked(want.String()) {
				t.Errorf("%s\n got %d %s\nwant 200 %s", in.Example, status, masked(got), masked(want.String()))
			}
			if err := d.check("answer", out.Schema, decode(t, []byte(got))); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPage does what docs/api.md says, in its order, and compares the answers.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, Options{Insecure: true})
	c := w.dial("/ws?subscribe=news")
	if got := c.next(); !strings.Contains(got, `"subscribed"`) {
		t.Fatalf("subscribe: %s", got)
	}
	if got := c.next(); !strings.Contains(got, `"join"`) {
		t.Fatalf("subscribe: %s", got)
	}
	example := regexp.MustCompile("```sh\ncurl http://localhost:8000/api/(\\w+) -d '([^']*)'\n```\n```json\n(.*)\n```\n")
	seen := make(map[string]bool)
	for _, m := range example.FindAllStringSubmatch(string(page), -1) {
		seen[m[1]] = true
		if !strings.Contains(string(page), "\n## "+m[1]+"\n") {
			t.Errorf("%s has no heading", m[1])
		}
		w.want(m[1], m[2], m[3])
	}
	if strings.Count(string(page), "curl ") != len(seen) {
		t.Errorf("%d of %d examples were found", len(seen), strings.Count(string(page), "curl "))
	}
	for name := range methods {
		if !seen[name] {
			t.Errorf("%s has no example", name)
		}
	}
}
