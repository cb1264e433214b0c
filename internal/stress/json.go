package stress

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
)

// maxReport bounds what ReadReport reads. A day of samples is a third of it.
const maxReport = 512 << 20

// WriteJSON writes the report in its stable form, docs/stress-report.md. A figure that is no number becomes 0, or null
// where it may be: a report that cannot be written would be worse.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(cleaned(reflect.ValueOf(r)).Interface())
}

// cleaned is a copy of v, down to the bottom, in which every number is finite: NaN and infinities are 0, pointers to them
// nil. Lists that are nil and no matter of omission stay nil.
func cleaned(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return reflect.Zero(v.Type())
		}
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		if e := v.Elem(); e.Kind() == reflect.Float64 && (math.IsNaN(e.Float()) || math.IsInf(e.Float(), 0)) {
			return reflect.Zero(v.Type())
		}
		p := reflect.New(v.Type().Elem())
		p.Elem().Set(cleaned(v.Elem()))
		return p
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		s := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			s.Index(i).Set(cleaned(v.Index(i)))
		}
		return s
	case reflect.Struct:
		s := reflect.New(v.Type()).Elem()
		s.Set(v) // and with it what is not exported, as in time.Time
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				s.Field(i).Set(cleaned(v.Field(i)))
			}
		}
		return s
	}
	return v
}

// ReadReport reads what WriteJSON wrote, of this version or a later one of the same format. It reads no more than 512 MiB.
// Its errors say what kind of file it wants.
func ReadReport(r io.Reader) (*Report, error) { return readReport(r, maxReport) }

func readReport(r io.Reader, most int64) (*Report, error) {
	const want = "want the JSON report of a run of longwire stress"
	l := &io.LimitedReader{R: r, N: most + 1}
	d := json.NewDecoder(l)
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		var syntax *json.SyntaxError
		switch {
		case l.N <= 0: // it was cut there
			return nil, fmt.Errorf("read report: it is longer than %d bytes: %s", most, want)
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("read report: it is empty: %s", want)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, fmt.Errorf("read report: it ends too early, was the run killed while it wrote?: %s", want)
		case errors.As(err, &syntax):
			return nil, fmt.Errorf("read report: it is no JSON (%w at byte %d): %s", err, syntax.Offset, want)
		}
		return nil, fmt.Errorf("read report: %w", err)
	}
	if l.N <= 0 {
		return nil, fmt.Errorf("read report: it is longer than %d bytes: %s", most, want)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read report: something follows it: %s, and one only", want)
	}
	var head struct {
		Format *string `json:"format"`
	}
	switch err := json.Unmarshal(raw, &head); {
	case err != nil || head.Format == nil:
		return nil, fmt.Errorf("read report: it is JSON without a format: %s, whose format is %q", want, Format)
	case *head.Format != Format:
		return nil, fmt.Errorf("read report: its format is %q: %s, whose format is %q", *head.Format, want, Format)
	}
	rep := new(Report)
	if err := json.Unmarshal(raw, rep); err != nil {
		return nil, fmt.Errorf("read report: %w: %s", err, want)
	}
	for i := range rep.Samples {
		if i > 0 && rep.Samples[i].At < rep.Samples[i-1].At {
			return nil, fmt.Errorf("read report: sample %d is of %g s, the one before it of %g s: was the file edited?", i, rep.Samples[i].At, rep.Samples[i-1].At)
		}
	}
	return rep, nil
}
