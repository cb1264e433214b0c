package report

import "math"

// drawn is how many points of a curve the page holds at the most. A screen is narrower than that.
const drawn = 5000

// extremes are the least, the greatest and the last of the values, and where the greatest is; at is -1 without values.
func extremes(x, y []float64) (least, most, last float64, at int) {
	at = -1
	for i := range min(len(x), len(y)) {
		v := y[i]
		if !finite(v) || !finite(x[i]) {
			continue
		}
		if at < 0 || v < least {
			least = v
		}
		if at < 0 || v > most {
			most, at = v, i
		}
		last = v
	}
	return least, most, last, at
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// columns are the arrays of a page's data, each stored once.
type columns struct {
	list  []column
	index map[key]int
	thin  map[key][]float64 // X of more than drawn points → the one it was thinned to
}

// key tells a slice from others by where it is.
type key struct {
	first *float64
	n     int
}

func keyOf(s []float64) key {
	if len(s) == 0 {
		return key{}
	}
	return key{&s[0], len(s)}
}

// add stores an array and says which one it is.
func (c *columns) add(s []float64) int {
	k := keyOf(s)
	if i, ok := c.index[k]; ok {
		return i
	}
	if c.index == nil {
		c.index = make(map[key]int)
	}
	c.list = append(c.list, column(s))
	c.index[k] = len(c.list) - 1
	return len(c.list) - 1
}

// points stores a curve, thinned if it has to be.
func (c *columns) points(x, y []float64) (xi, yi int) {
	n := min(len(x), len(y))
	x, y = x[:n], y[:n]
	if n > drawn {
		k := keyOf(x)
		if c.thin == nil {
			c.thin = make(map[key][]float64)
		}
		if c.thin[k] == nil {
			c.thin[k] = thinTimes(x)
		}
		x, y = c.thin[k], thinValues(y)
	}
	return c.add(x), c.add(y)
}

// thinTimes and thinValues cut a curve into as many stretches as there is room for two points each, and keep the least and
// the greatest value of each in the order in which they came. So all curves of one X keep one X, and no spike is lost; a
// point moves in time by less than its stretch.
func thinTimes(x []float64) []float64 {
	out := make([]float64, 0, drawn)
	for i := range drawn / 2 {
		from, to := stretch(i, len(x))
		out = append(out, x[from], x[from+(to-from)/2])
	}
	return out
}

func thinValues(y []float64) []float64 {
	out := make([]float64, 0, drawn)
	for i := range drawn / 2 {
		from, to := stretch(i, len(y))
		least, most := -1, -1
		for j := from; j < to; j++ {
			if !finite(y[j]) {
				continue
			}
			if least < 0 || y[j] < y[least] {
				least = j
			}
			if most < 0 || y[j] > y[most] {
				most = j
			}
		}
		switch {
		case least < 0:
			out = append(out, math.NaN(), math.NaN())
		case least <= most:
			out = append(out, y[least], y[most])
		default:
			out = append(out, y[most], y[least])
		}
	}
	return out
}

func stretch(i, n int) (from, to int) { return i * n / (drawn / 2), (i + 1) * n / (drawn / 2) }
