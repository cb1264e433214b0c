package stress

import (
	"math"
	"slices"
	"testing"
)

// same says whether two curves are alike, gaps included.
func same(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return x == y || math.IsNaN(x) && math.IsNaN(y) })
}

func TestRate(t *testing.T) {
	samples := func(pairs ...float64) (list []Sample) {
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, Sample{At: pairs[i], Done: int64(pairs[i+1])})
		}
		return list
	}
	done := func(s *Sample) float64 { return float64(s.Done) }
	gaps := func(s *Sample) float64 {
		if s.Done < 0 {
			return missing
		}
		return float64(s.Done)
	}
	for name, c := range map[string]struct {
		got, want []float64
	}{
		"none":                         {rate(nil, done), nil},
		"one":                          {rate(samples(2, 100), done), []float64{50}},
		"steady":                       {rate(samples(1, 10, 2, 30, 4, 90), done), []float64{10, 20, 30}},
		"one at the begin":             {rate(samples(0, 0, 1, 10, 2, 20), done), []float64{missing, 10, 10}},
		"one more at the end":          {rate(samples(1, 10, 2, 20, 3, 30, 3.001, 31), done), []float64{10, 10, 10, missing}},
		"one in between":               {rate(samples(1, 10, 1.001, 12, 2, 20, 3, 30), done), []float64{10, missing, 10, 10}},
		"twice the same time":          {rate(samples(1, 10, 1, 12, 2, 20), done), []float64{10, missing, 10}},
		"a counter that begins anew":   {rate(samples(1, 10, 2, 5, 3, 9), done), []float64{10, missing, 4}},
		"a gap":                        {rate(samples(1, 10, 2, -1, 3, 20, 4, 30), gaps), []float64{10, missing, missing, 10}},
		"not from 0":                   {rateOf(samples(1, 1000, 2, 1010, 3, 1030), done), []float64{missing, 10, 20}},
		"not from 0, one at the begin": {rateOf(samples(0.01, 1000, 1.01, 1010, 2.01, 1030), done), []float64{missing, 10, 20}},
		"not from 0, after a gap":      {rateOf(samples(1, -1, 2, 1000, 3, 1010), gaps), []float64{missing, missing, 10}},
		"not from 0, nothing":          {rateOf(samples(1, -1, 2, -1), gaps), []float64{missing, missing}},
	} {
		for i, v := range c.got {
			c.got[i] = math.Round(v*1e6) / 1e6
		}
		if !same(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
}
