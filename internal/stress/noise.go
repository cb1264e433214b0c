package stress

import "math"

// What the noise is estimated with.
const (
	fewPairs = 8    // pairs of samples: with less the noise is not known
	longStep = 20   // pairs of samples: shorter steps are taken together, since their noise can't be told from what they did
	sigmas   = 3.29 // half the width of an interval that has 99.9 % of a normal distribution
)

// How a figure's samples are summed up.
const (
	byRatio      = iota // Σb/Σa: for what adds up
	byLogs              // the mean of log b/a: for what spans orders of magnitude
	byDifference        // the mean of b-a: for what is mostly 0
)

// estimate is the difference between pairs of samples, with the interval that has the true one with 99.9 %. steps has the
// number of the step that each pair is of.
//
// Each pair is of the same second of the plan, so what the plan does to both runs, such as a ramp, is no difference. Noise
// is how the differences of one step scatter around their straight line: that a difference is larger in one step than in
// another, or grows while a step lasts, is what the runs did, and no noise.
//
// What varies in one second does so in the next, so differences that follow each other are not independent. The error of
// their mean is therefore that of the circular block bootstrap (Politis and Romano 1992): the mean is thought of as put
// together of blocks of consecutive differences drawn at random. For a mean its variance needs no drawing: it is that of the
// means of all blocks, divided by how many blocks there are. Blocks are as long as the correlation between neighbors asks for
// (Carlstein 1986, for an autoregressive process of the first order), and the interval is Student's for the number of blocks.
func estimate(a, b []float64, steps []int, how int) (effect, low, high float64, ok bool) {
	var x, y []float64
	var of []int
	sumA, sumB := 0.0, 0.0
	for i := range a {
		if known(a[i]) == nil || known(b[i]) == nil {
			continue
		}
		x, y, of = append(x, a[i]), append(y, b[i]), append(of, steps[i])
		sumA, sumB = sumA+a[i], sumB+b[i]
	}
	n := len(x)
	if n < fewPairs || how == byRatio && sumA <= 0 {
		return 0, 0, 0, false
	}
	d := make([]float64, n) // each pair's part in the mean
	for i := range d {
		switch how {
		case byRatio:
			d[i] = (y[i] - sumB/sumA*x[i]) / (sumA / float64(n))
		case byLogs:
			d[i] = math.Log(y[i] / x[i])
		case byDifference:
			d[i] = y[i] - x[i]
		}
		effect += d[i] / float64(n)
	}
	if how == byRatio {
		effect = sumB/sumA - 1
	}
	// What is taken out of short stretches takes noise along, so there are at most three.
	taken, stretch := 0, max(longStep, n/3)
	for from := 0; from < n; {
		to := from
		for to < n && (to-from < stretch || of[to] == of[to-1] || n-to < stretch) {
			to++
		}
		taken += flatten(d[from:to])
		from = to
	}
	half := blockError(d) * math.Sqrt(float64(n)/float64(n-taken))
	low, high = effect-half, effect+half
	if how == byLogs {
		effect, low, high = math.Expm1(effect), math.Expm1(low), math.Expm1(high)
	}
	return effect, low, high, true
}

// flatten takes the straight line out of d that fits it best, or the mean where there are too few values for a line. It
// returns how many figures that are.
func flatten(d []float64) int {
	n := float64(len(d))
	var mean, slope, spread float64
	for i := range d {
		mean += d[i] / n
	}
	mid := (n - 1) / 2
	for i := range d {
		slope += (float64(i) - mid) * d[i]
		spread += (float64(i) - mid) * (float64(i) - mid)
	}
	taken := 2
	if len(d) < longStep {
		slope, spread, taken = 0, 1, 1
	}
	for i := range d {
		d[i] -= mean + slope/spread*(float64(i)-mid)
	}
	return taken
}

// blockError is half the width of the interval of the mean of d, whose own is taken out.
func blockError(d []float64) float64 {
	n := len(d)
	var squares, products float64
	for i := range d {
		squares += d[i] * d[i]
		if i > 0 {
			products += d[i] * d[i-1]
		}
	}
	if squares == 0 {
		return 0
	}
	// The estimate of a correlation is too low in short series.
	rho := min(0.95, max(0, products/squares+1/float64(n)+1/math.Sqrt(float64(n))))
	length := math.Ceil(math.Cbrt(float64(n)) * math.Pow(math.Sqrt(6)*rho/(1-rho*rho), 2.0/3))
	size := int(min(max(1, length), float64(n/4)))
	sum, variance := 0.0, 0.0
	for i := range n + size {
		sum += d[i%n]
		if i >= size {
			sum -= d[(i-size)%n]
			variance += (sum / float64(size)) * (sum / float64(size))
		}
	}
	variance /= float64(n)
	blocks := float64(n) / float64(size)
	return student(blocks-1) * math.Sqrt(variance/(blocks-1))
}

// student is the quantile of Student's distribution for sigmas and so many degrees of freedom, by the expansion of Cornish
// and Fisher.
func student(freedom float64) float64 {
	const z = sigmas
	const z3, z5, z7 = z * z * z, z * z * z * z * z, z * z * z * z * z * z * z
	return z + (z3+z)/(4*freedom) + (5*z5+16*z3+3*z)/(96*freedom*freedom) + (3*z7+19*z5+17*z3-15*z)/(384*freedom*freedom*freedom)
}
