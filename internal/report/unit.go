package report

import (
	"math"
	"strconv"
	"strings"
)

// Unit is what figures are in. The page's script has the same table.
type Unit string

// The units.
const (
	Count          Unit = "count"
	PerSecond      Unit = "/s"
	Micros         Unit = "us" // times, in microseconds
	Seconds        Unit = "s"  // times, in seconds
	Bytes          Unit = "B"
	BytesPerSecond Unit = "B/s"
	Percent        Unit = "%"
)

// Format writes a figure for people, with three or four digits: 1,234 · 12.3 ms · 1.5 GB. What is no number is "–".
func (u Unit) Format(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	switch u {
	case Micros:
		return duration(v)
	case Seconds:
		if a := math.Abs(v); a > 0 && a < 1 {
			return duration(v * 1e6)
		}
		return digits(v) + " s"
	case Bytes:
		return scaled(v, "B")
	case BytesPerSecond:
		return scaled(v, "B/s")
	case Percent:
		return digits(v) + " %"
	case PerSecond:
		return digits(v) + "/s"
	}
	return digits(v)
}

func duration(us float64) string {
	switch a := math.Abs(us); {
	case a < 999.5: // what is more is written as 1,000
		return digits(us) + " µs"
	case a < 999.5e3:
		return digits(us/1e3) + " ms"
	}
	return digits(us/1e6) + " s"
}

func scaled(v float64, unit string) string {
	for _, s := range []struct {
		of   float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(v) >= s.of*0.9995 {
			return digits(v/s.of) + " " + s.name + unit
		}
	}
	return digits(v) + " " + unit
}

// digits writes three significant digits, all of those before the point, and commas between thousands.
func digits(v float64) string {
	a := math.Abs(v)
	if a >= 1e15 {
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
	places := 0
	switch {
	case a == 0 || a >= 100:
	case a >= 10:
		places = 1
	case a >= 1:
		places = 2
	case a >= 0.1:
		places = 3
	default:
		return strconv.FormatFloat(v, 'g', 2, 64)
	}
	s := strconv.FormatFloat(v, 'f', places, 64)
	if places > 0 {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	whole, rest, _ := strings.Cut(s, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		rest = "." + rest
	}
	return sign + whole + rest
}

// percent writes a percentile as it is called.
func percent(p float64) string { return strconv.FormatFloat(p, 'g', -1, 64) + " %" }
