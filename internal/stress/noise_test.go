package stress

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Noise is called a difference about as rarely as promised, however it is correlated, and a difference is found.
func TestEstimate(t *testing.T) {
	const runs = 1000
	rng := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct {
		n    int
		step int // samples of a step
		rho  float64
		most float64 // part of the runs in which noise may be called a difference
	}{{8, 8, 0, 0.01}, {20, 20, 0, 0.005}, {60, 60, 0, 0.004}, {60, 60, 0.5, 0.02}, {60, 60, 0.8, 0.04}, {600, 600, 0.8, 0.006},
		{60, 2, 0, 0.004}, {60, 2, 0.5, 0.04}, {60, 10, 0, 0.004}, {60, 10, 0.5, 0.04}, {60, 20, 0, 0.004}, {60, 20, 0.5, 0.04}, {600, 20, 0.5, 0.02}} {
		false0, found := 0, 0
		steps := make([]int, c.n)
		for i := range steps {
			steps[i] = i / c.step
		}
		for range runs {
			a, b, far := make([]float64, c.n), make([]float64, c.n), make([]float64, c.n)
			x, y := rng.NormFloat64(), rng.NormFloat64()
			for i := range c.n {
				fresh := math.Sqrt(1 - c.rho*c.rho)
				x, y = c.rho*x+fresh*rng.NormFloat64(), c.rho*y+fresh*rng.NormFloat64()
				ramp := 1000 * float64(i+1)
				a[i], b[i] = ramp*(1+0.03*x), ramp*(1+0.03*y)
				far[i] = 1.5 * b[i]
			}
			for _, how := range []int{byRatio, byLogs} {
				if _, low, high, ok := estimate(a, b, steps, how); !ok || low > 0 || high < 0 {
					false0++
				}
				if _, low, _, ok := estimate(a, far, steps, how); ok && low > 0 {
					found++
				}
			}
		}
		part := float64(false0) / (2 * runs)
		t.Logf("%d samples in steps of %d, correlation %g: noise is called a difference in %.2f %%, a difference of 50 %% found in %.1f %%", c.n, c.step, c.rho, 100*part, 50*float64(found)/runs)
		if part > c.most {
			t.Errorf("%d samples in steps of %d, correlation %g: noise is called a difference in %.2f %%, want at most %.2f %%", c.n, c.step, c.rho, 100*part, 100*c.most)
		}
		if c.n >= 20 && float64(found) < 0.99*2*runs {
			t.Errorf("%d samples, correlation %g: a difference of 50 %% is found in %d of %d", c.n, c.rho, found, 2*runs)
		}
	}
	if _, _, _, ok := estimate(make([]float64, 7), make([]float64, 7), make([]int, 7), byDifference); ok {
		t.Error("seven samples are enough")
	}
	if _, _, _, ok := estimate(make([]float64, 70), make([]float64, 70), make([]int, 70), byRatio); ok {
		t.Error("a ratio of nothing is known")
	}
	if e, low, high, ok := estimate(make([]float64, 70), make([]float64, 70), make([]int, 70), byDifference); !ok || e != 0 || low != 0 || high != 0 {
		t.Errorf("nothing against nothing = %g, %g to %g, %v", e, low, high, ok)
	}
}
