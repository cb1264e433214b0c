package lab

import (
	"bytes"
	"io"
	"os"
	"testing"
)

// seeds gives a fuzz test what is checked in for it, and fails when that is gone.
func seeds(f *testing.F) {
	f.Helper()
	entries, err := os.ReadDir("testdata/fuzz/" + f.Name())
	if err != nil || len(entries) == 0 {
		f.Fatalf("there are no seeds: %v", err)
	}
}

// FuzzReadReport reads reports: what is taken can be written in every form, and read again.
func FuzzReadReport(f *testing.F) {
	seeds(f)
	var b bytes.Buffer
	if err := sampleReport().WriteJSON(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := ReadReport(bytes.NewReader(in))
		if err != nil {
			return
		}
		if err := r.WriteText(io.Discard); err != nil {
			t.Error(err)
		}
		if err := r.WriteHTML(io.Discard); err != nil {
			t.Error(err)
		}
		var out bytes.Buffer
		if err := r.WriteJSON(&out); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadReport(&out); err != nil {
			t.Errorf("it does not read what it wrote: %v", err)
		}
	})
}

// FuzzReadTrace reads lines of the collector's.
func FuzzReadTrace(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, in string) {
		for _, c := range readTrace(in) {
			if c.number < 0 || c.at < 0 || c.mark < 0 || c.pauses < 0 || c.heap < 0 {
				t.Errorf("%+v", c)
			}
		}
	})
}
