package profile

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"runtime/metrics"
	"runtime/pprof"
	"time"
)

// Capture describes a capture; its JSON form is the file capture.json in it, and stable.
type Capture struct {
	Name    string            `json:"name,omitempty"` // in lists; the file does not know it
	Time    time.Time         `json:"time"`           // of the look that had the reason
	Version string            `json:"version"`        // of the program
	Reason  Reason            `json:"reason"`
	Files   []File            `json:"files"`             // capture.json itself not among them
	Missing map[string]string `json:"missing,omitempty"` // file → why it could not be had
	// Runtime is the metrics of package runtime/metrics at that time, by name: a number, or a histogram.
	Runtime map[string]any `json:"runtime,omitempty"` // left out in lists
	// Gateway is the gateway's own counts at that time, if there is one.
	Gateway any `json:"gateway,omitempty"` // left out in lists
}

// File is one file of a capture.
type File struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// The files of a capture, in the order in which they are taken: what changes soonest first.
const (
	fileTrace     = "trace.out"
	fileGoroutine = "goroutine.pb.gz"
	fileHeap      = "heap.pb.gz"
	fileCPU       = "cpu.pb.gz"
	fileCapture   = "capture.json"
)

// take takes a capture, which lasts as long as its profile of the processor, or until ctx ends. Its errors are those of the
// directory.
func (w *Watch) take(ctx context.Context, at time.Time, why Reason) (name string, err error) {
	p, err := w.store.begin()
	if err != nil {
		return "", err
	}
	defer p.discard()
	c := Capture{Time: at.UTC(), Version: w.options.Version, Reason: why, Files: []File{}, Missing: make(map[string]string), Runtime: runtimeMetrics()}
	if w.options.Gateway != nil {
		c.Gateway = w.options.Gateway()
	}
	parts := []struct {
		name  string
		write func(io.Writer) error
	}{
		{fileTrace, func(to io.Writer) error { _, err := w.recorder.WriteTo(to); return err }},
		{fileGoroutine, func(to io.Writer) error { return pprof.Lookup("goroutine").WriteTo(to, 0) }},
		{fileHeap, func(to io.Writer) error { return pprof.Lookup("heap").WriteTo(to, 0) }},
		{fileCPU, func(to io.Writer) error { return w.profileCPU(ctx, to) }},
	}
	if w.recorder == nil {
		parts = parts[1:]
	}
	for _, part := range parts {
		before := p.left
		err := p.file(part.name, part.write)
		var broken *storeError
		switch {
		case errors.As(err, &broken):
			return "", err
		case err != nil:
			c.Missing[part.name] = err.Error()
		default:
			c.Files = append(c.Files, File{part.name, before - p.left})
		}
	}
	err = p.file(fileCapture, func(to io.Writer) error {
		e := json.NewEncoder(to)
		e.SetIndent("", "  ")
		return e.Encode(c)
	})
	if err != nil {
		return "", err
	}
	return p.keep(at, why.Trigger)
}

// profileCPU profiles the processor for a while. Somebody else may be doing that already, which is an error.
func (w *Watch) profileCPU(ctx context.Context, to io.Writer) error {
	if err := pprof.StartCPUProfile(to); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	enough := time.NewTimer(w.profileFor)
	defer enough.Stop()
	select {
	case <-enough.C:
	case <-ctx.Done():
	}
	return nil
}

// histogram is one of runtime/metrics: counts of the buckets that have any.
type histogram struct {
	Buckets []bucket `json:"buckets"`
}

// bucket counts values from From to below To; null is infinity.
type bucket struct {
	From  *float64 `json:"from"`
	To    *float64 `json:"to"`
	Count uint64   `json:"count"`
}

// runtimeMetrics are all that the runtime has, in a form that JSON can hold.
func runtimeMetrics() map[string]any {
	all := metrics.All()
	samples := make([]metrics.Sample, len(all))
	for i := range all {
		samples[i].Name = all[i].Name
	}
	metrics.Read(samples)
	values := make(map[string]any, len(samples))
	for _, s := range samples {
		switch s.Value.Kind() {
		case metrics.KindUint64:
			values[s.Name] = s.Value.Uint64()
		case metrics.KindFloat64:
			if v := finite(s.Value.Float64()); v != nil {
				values[s.Name] = *v
			}
		case metrics.KindFloat64Histogram:
			h := s.Value.Float64Histogram()
			x := histogram{Buckets: []bucket{}}
			for i, n := range h.Counts {
				if n > 0 {
					x.Buckets = append(x.Buckets, bucket{finite(h.Buckets[i]), finite(h.Buckets[i+1]), n})
				}
			}
			values[s.Name] = x
		}
	}
	return values
}

// finite is v, or nil where JSON has no number for it.
func finite(v float64) *float64 {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return nil
	}
	return &v
}
