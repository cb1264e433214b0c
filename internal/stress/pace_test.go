package stress

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"
)

func TestCurve(t *testing.T) {
	const s = time.Second
	article := Join(Ramp(0, 200, 5*s), Constant(200, 2*s), Steps(200, 2000, 200, 2*s), Constant(2000, 35*s))
	for _, c := range []struct {
		name  string
		curve Curve
		at    time.Duration
		want  float64
	}{
		{"empty", Curve{}, 0, 0},
		{"before", Constant(7, s), -1, 0},
		{"constant", Constant(7, s), s / 2, 7},
		{"after", Ramp(7, 9, s), s, 9},
		{"ramp", Ramp(100, 200, 10*s), 5 * s, 150},
		{"ramp down", Ramp(200, 100, 10*s), 9 * s, 110},
		{"no time", Ramp(0, 50, 0), 0, 50},
		{"no time, joined", Join(Ramp(0, 50, 0), Constant(50, s)), 0, 50},
		{"step, at once", Steps(0, 1000, 200, 2*s), 0, 200},
		{"step, before the second", Steps(0, 1000, 200, 2*s), 2*s - 1, 200},
		{"step, second", Steps(0, 1000, 200, 2*s), 2 * s, 400},
		{"step, last", Steps(0, 1000, 200, 2*s), 8 * s, 1000},
		{"step, smaller last", Steps(0, 250, 200, s), s, 250},
		{"step down", Steps(1000, 0, 300, s), s, 400},
		{"step down, last", Steps(1000, 0, 300, s), 3 * s, 0},
		{"step to itself", Steps(5, 5, 1, s), 0, 5},
		{"spike", Spike(10, 90, s), s - 1, 90},
		{"spike, over", Spike(10, 90, s), s, 10},
		{"spike, joined", Join(Constant(10, s), Spike(10, 90, s), Constant(10, s)), 2 * s, 10},
		{"article, ramp", article, 2500 * time.Millisecond, 100},
		{"article, first step", article, 7 * s, 400},
		{"article, last step", article, 23 * s, 2000},
		{"article, before it", article, 23*s - 1, 1800},
		{"forever", Join(Constant(3, Forever), Constant(9, s)), 1e6 * time.Hour, 3},
		{"forever, after something", Join(Constant(3, s), Constant(9, Forever)), 1e6 * time.Hour, 9},
		{"until", Ramp(0, 100, 10*s).Until(5 * s), 7 * s, 50},
		{"until, longer", Ramp(0, 100, 10*s).Until(20 * s), 15 * s, 100},
	} {
		if got := c.curve.At(c.at); got != c.want {
			t.Errorf("%s: At(%v) = %v, want %v", c.name, c.at, got, c.want)
		}
	}
	for _, c := range []struct {
		name string
		got  time.Duration
		want time.Duration
	}{
		{"article", article.End(), 60 * s},
		{"steps", Steps(0, 1000, 200, 2*s).End(), 10 * s},
		{"forever", Join(Constant(1, Forever), Constant(1, s)).End(), Forever},
		{"forever, after something", Join(Constant(1, s), Constant(1, Forever)).End(), Forever},
		{"until", article.Until(s).End(), s},
		{"until, longer", article.Until(90 * s).End(), 90 * s},
	} {
		if c.got != c.want {
			t.Errorf("%s: End() = %v, want %v", c.name, c.got, c.want)
		}
	}
	for _, c := range []struct {
		conns float64
		want  time.Duration
		ok    bool
	}{
		{1, 25 * time.Millisecond, true},
		{200, 5 * s, true},
		{201, 7 * s, true},
		{400, 7 * s, true},
		{2000, 23 * s, true},
		{2001, 0, false},
	} {
		if got, ok := article.First(c.conns); got != c.want || ok != c.ok {
			t.Errorf("First(%v) = %v, %v; want %v, %v", c.conns, got, ok, c.want, c.ok)
		}
	}
}

// Even spacing is compared with exact arithmetic, after ten hours too.
func TestPacerDoesNotDrift(t *testing.T) {
	for _, rate := range []int64{1, 3, 7, 1000, 33_333, 99_991} {
		p := NewPacer(Constant(float64(rate), 11*time.Hour), Even, 0)
		for _, n := range []int64{0, 1, 2, 1000, rate*36_000 - 1, rate * 36_000, rate*36_000 + 1} {
			exact := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(n), big.NewInt(1e9)), big.NewInt(rate))
			want, _ := exact.Float64()
			got, ok := p.Due(n)
			if d := math.Abs(float64(got) - want); !ok || d > 1 {
				t.Errorf("rate %d: Due(%d) = %d ns, %v; want %.1f", rate, n, got, ok, want)
			}
		}
		if got, want := p.Count(10*time.Hour), rate*36_000+1; got != want {
			t.Errorf("rate %d: Count(10h) = %d, want %d", rate, got, want)
		}
		if got, want := p.Count(Forever), rate*39_600; got != want {
			t.Errorf("rate %d: Count at the end = %d, want %d", rate, got, want)
		}
		if due, ok := p.Due(rate * 39_600); ok {
			t.Errorf("rate %d: an arrival is due at %v, after the end", rate, due)
		}
	}
	// A ramp that ends after 10 hours: arrivals are the square of the time.
	p := NewPacer(Ramp(0, 1000, 10*time.Hour), Even, 0)
	for _, at := range []time.Duration{time.Minute, time.Hour, 9 * time.Hour} {
		x := at.Seconds()
		if got, want := p.Count(at), int64(x*x*1000/36_000/2)+1; got != want {
			t.Errorf("ramp: Count(%v) = %d, want %d", at, got, want)
		}
	}
	// Steps, 18,000 of them.
	p = NewPacer(Steps(0, 18_000, 1, 2*time.Second), Even, 0)
	if got, want := p.Count(Forever), int64(2*18_000*18_001/2); got != want {
		t.Errorf("steps: %d arrivals, want %d", got, want)
	}
}

// A rate of 0 has no arrivals; what is due where it ends is due when the next begins.
func TestPacerPause(t *testing.T) {
	const s = time.Second
	p := NewPacer(Join(Constant(0, s), Constant(2, s), Constant(0, 3*s), Constant(2, s), Constant(0, s)), Even, 0)
	for n, want := range []time.Duration{s, s + s/2, 5 * s, 5*s + s/2} {
		if got, ok := p.Due(int64(n)); got != want || !ok {
			t.Errorf("Due(%d) = %v, %v; want %v", n, got, ok, want)
		}
	}
	if due, ok := p.Due(4); ok {
		t.Errorf("Due(4) = %v, want none", due)
	}
	if due, ok := p.Due(-1); ok {
		t.Errorf("Due(-1) = %v, want none", due)
	}
	for at, want := range map[time.Duration]int64{-1: 0, 0: 0, s - 1: 0, s: 1, 2 * s: 2, 5*s - 1: 2, 5 * s: 3, 7 * s: 4} {
		if got := p.Count(at); got != want {
			t.Errorf("Count(%v) = %d, want %d", at, got, want)
		}
	}
	for _, c := range []Curve{{}, Constant(0, Forever), Constant(-5, s)} {
		p := NewPacer(c, Exponential, 1)
		if due, ok := p.Due(0); ok || p.Count(Forever) != 0 {
			t.Errorf("%v: Due(0) = %v, want none", c, due)
		}
	}
}

// Count and Due are each other's inverse, and dues never go back, whatever the curve.
func TestPacerCount(t *testing.T) {
	const seed = 4
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range 60 {
		var c Curve
		for range 1 + r.IntN(6) {
			a, b, d := r.Float64()*900, r.Float64()*900, time.Duration(r.Int64N(int64(3*time.Second)))
			c = Join(c, []Curve{Constant(a, d), Ramp(a, b, d), Ramp(0, b, d), Steps(a, b, 100, d/8+1), Spike(a, b, d), Constant(0, d)}[r.IntN(6)])
		}
		p := NewPacer(c, Spacing(i%2), seed)
		last := time.Duration(-1)
		n := int64(0)
		for ; n < 100_000; n++ {
			due, ok := p.Due(n)
			if !ok {
				break
			}
			if due < last || due >= c.End() {
				t.Fatalf("curve %d of seed %d: Due(%d) = %v after %v, end %v", i, seed, n, due, last, c.End())
			}
			if due > last && last >= 0 {
				if got := p.Count(due - 1); got != n {
					t.Fatalf("curve %d of seed %d: Count(%v) = %d, want %d", i, seed, due-1, got, n)
				}
			}
			last = due
		}
		if got := p.Count(c.End()); got != n {
			t.Errorf("curve %d of seed %d: Count at the end = %d, want %d", i, seed, got, n)
		}
	}
}

func TestPacerExponential(t *testing.T) {
	const rate, seed, n = 1000, 7, 200_000
	p := NewPacer(Constant(rate, Forever), Exponential, seed)
	var sum, squares float64
	long := 0
	last, _ := p.Due(0)
	for i := int64(1); i < n; i++ {
		due, _ := p.Due(i)
		x := (due - last).Seconds() * rate // in mean gaps
		if x < 0 {
			t.Fatalf("Due(%d) = %v, before %v", i, due, last)
		}
		sum, squares = sum+x, squares+x*x
		if x > 3 {
			long++
		}
		last = due
	}
	mean := sum / n
	if cv := math.Sqrt(squares/n-mean*mean) / mean; math.Abs(mean-1) > 0.01 || math.Abs(cv-1) > 0.02 {
		t.Errorf("seed %d: gaps have mean %.3f and coefficient of variation %.3f, want 1 and 1", seed, mean, cv)
	}
	if got, want := float64(long)/n, math.Exp(-3); math.Abs(got-want) > 0.05*want {
		t.Errorf("seed %d: %.4f of the gaps are longer than three means, want %.4f", seed, got, want)
	}

	// It keeps to the rate, however long it runs.
	for _, i := range []int64{1e6, 1e9, 1e12} {
		due, ok := p.Due(i)
		if off := due.Seconds()*rate - float64(i); !ok || math.Abs(off) > block {
			t.Errorf("Due(%d) = %v, %.0f arrivals off", i, due, off)
		}
	}

	// Each sender has a pacer of its own, and asks in its own order.
	other := NewPacer(Constant(rate, Forever), Exponential, seed)
	for _, i := range []int64{5000, 3, 1024, 1023, 0} {
		a, _ := p.Due(i)
		if b, _ := other.Due(i); a != b {
			t.Errorf("Due(%d) = %v and %v with the same seed", i, a, b)
		}
	}
	a, _ := p.Due(10)
	if b, _ := NewPacer(Constant(rate, Forever), Exponential, seed+1).Due(10); a == b {
		t.Errorf("Due(10) = %v with two seeds", a)
	}
}

func TestPacerAllocs(t *testing.T) {
	for _, s := range []Spacing{Even, Exponential} {
		p := NewPacer(Join(Ramp(0, 5000, time.Minute), Steps(5000, 50_000, 1000, time.Second)), s, 1)
		n := int64(0)
		p.Due(n)
		if got := testing.AllocsPerRun(3000, func() { p.Due(n); n++ }); got != 0 {
			t.Errorf("%v: Due allocates %v times", s, got)
		}
	}
}

func TestClosed(t *testing.T) {
	const ms = time.Millisecond
	think := Closed{Think: 5 * ms}
	if got := think.Next(10*ms, 40*ms); got != 45*ms {
		t.Errorf("think 5ms: next after 40ms is due at %v, want 45ms", got)
	}
	every := Closed{Every: 10 * ms}
	if got := every.Next(10*ms, 40*ms); got != 20*ms {
		t.Errorf("every 10ms: next after one that was due at 10ms is due at %v, want 20ms", got)
	}
	if got := every.First(3, 10); got != 3*ms {
		t.Errorf("every 10ms: user 3 of 10 begins at %v, want 3ms", got)
	}
	if got := think.First(3, 10); got != 0 {
		t.Errorf("think: user 3 begins at %v, want 0", got)
	}
}

func BenchmarkPacer(b *testing.B) {
	for _, s := range []Spacing{Even, Exponential} {
		b.Run(s.String(), func(b *testing.B) {
			p := NewPacer(Constant(100_000, Forever), s, 1)
			n := int64(0)
			for b.Loop() {
				p.Due(n)
				n++
			}
		})
	}
}
