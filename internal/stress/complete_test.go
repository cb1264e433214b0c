package stress

import (
	"testing"
	"time"
)

// TestCPUPerConn: what conns cost counts until the last of them stood, not only until the first ones of a ramp did.
func TestCPUPerConn(t *testing.T) {
	s, err := Flags{Target: "ws://" + gateway(t, nil) + "/ws", MaxConns: 400, RampUp: 2 * time.Second, Duration: 3 * time.Second, Timeout: 20 * time.Second}.Script()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), s, Options{Every: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for i := range r.Samples[1:] {
		if r.Samples[i+1].Opened > r.Samples[i].Opened {
			last = i + 1
		}
	}
	want := r.Samples[last].CPU * 1e6 / float64(r.Conns.Opened)
	if got := r.Generator.CPUPerConn; last == 0 || got != want {
		t.Errorf("%v µs of CPU a conn, want %v: that of sample %d of %d", got, want, last, len(r.Samples))
	}
}
