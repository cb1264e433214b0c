package stress

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"time"
)

// Forever is the length of a stage that has no end.
const Forever = time.Duration(math.MaxInt64)

// Curve is a level over the time since a run began: straight pieces one after the other, which may jump where they
// meet. The level is a number of conns, or arrivals a second. The zero Curve has no length and is 0 everywhere. A
// Curve is not changed after it was made: any goroutine may read it.
type Curve struct {
	pieces []piece
	end    time.Duration
}

type piece struct {
	at, length time.Duration
	from, to   float64 // level at its begin and its end
}

// Constant is a level for a time, Forever included.
func Constant(level float64, d time.Duration) Curve { return Ramp(level, level, d) }

// Ramp is a level that rises or falls evenly. With a time of 0 it is a jump, which Join keeps as the level that the
// next curve would start from, so that only Last sees it.
func Ramp(from, to float64, d time.Duration) Curve {
	return Curve{pieces: []piece{{length: max(0, d), from: from, to: to}}, end: max(0, d)}
}

// Steps goes from one level to another by steps of size by, of which the first is taken at once and each further one
// when every has passed. The last step may be smaller; its level lasts for every, too. by is the size, whatever the
// direction; every and by must be above 0, else, and where from is to, it is to for every. It
// takes memory for each step: the caller bounds them.
func Steps(from, to, by float64, every time.Duration) Curve {
	if !(by > 0) || every <= 0 || from == to {
		return Constant(to, every)
	}
	n := int(math.Ceil(math.Abs(to-from)/by - 1e-9))
	pieces := make([]piece, 0, n)
	for i := range n {
		level := from + math.Copysign(by*float64(i+1), to-from)
		if i == n-1 {
			level = to
		}
		pieces = append(pieces, piece{at: time.Duration(i) * every, length: every, from: level, to: level})
	}
	return Curve{pieces: pieces, end: time.Duration(n) * every}
}

// Spike is a jump to a level, which lasts for d, and back.
func Spike(base, peak float64, d time.Duration) Curve {
	return Join(Constant(peak, d), Constant(base, 0))
}

// Join puts curves one after the other. Nothing follows a curve without an end.
func Join(curves ...Curve) Curve {
	var all Curve
	for _, c := range curves {
		if all.end == Forever {
			break
		}
		for _, p := range c.pieces {
			p.at += all.end
			if p.length > Forever-p.at {
				p.length = Forever - p.at
			}
			all.pieces = append(all.pieces, p)
		}
		if c.end > Forever-all.end {
			all.end = Forever
		} else {
			all.end += c.end
		}
	}
	return all
}

// Until is the curve up to a time; where the curve is shorter, its last level lasts until then.
func (c Curve) Until(t time.Duration) Curve {
	t = max(0, t)
	if c.end < t {
		return Join(c, Constant(c.Last(), t-c.end))
	}
	cut := Curve{end: t}
	for _, p := range c.pieces {
		if p.at >= t {
			break
		}
		if left := t - p.at; p.length > left {
			p.to = p.level(left)
			p.length = left
		}
		cut.pieces = append(cut.pieces, p)
	}
	return cut
}

// scaled is the curve with all its levels multiplied.
func (c Curve) scaled(by float64) Curve {
	pieces := make([]piece, len(c.pieces))
	for i, p := range c.pieces {
		p.from *= by
		p.to *= by
		pieces[i] = p
	}
	return Curve{pieces: pieces, end: c.end}
}

// End is how long the curve is; Forever when it has no end.
func (c Curve) End() time.Duration { return c.end }

// Last is the level at the end.
func (c Curve) Last() float64 {
	if len(c.pieces) == 0 {
		return 0
	}
	return c.pieces[len(c.pieces)-1].to
}

// Max is the highest level.
func (c Curve) Max() float64 {
	var m float64
	for _, p := range c.pieces {
		m = max(m, p.from, p.to)
	}
	return m
}

// At is the level at a time. After the end it is Last, before the begin 0. Where two pieces meet it is the later's.
func (c Curve) At(t time.Duration) float64 {
	if t < 0 || len(c.pieces) == 0 {
		return 0
	}
	if t >= c.end {
		return c.Last()
	}
	i := sort.Search(len(c.pieces), func(i int) bool { return c.pieces[i].at > t }) - 1
	return c.pieces[i].level(t - c.pieces[i].at)
}

// First is when the level is reached for the first time: when the conn that makes it level many is due. It is false
// for a level that is never reached.
func (c Curve) First(level float64) (time.Duration, bool) {
	for _, p := range c.pieces {
		switch {
		case p.from >= level:
			return p.at, true
		case p.to >= level:
			return p.at + scale(p.length, (level-p.from)/(p.to-p.from)), true
		}
	}
	return 0, false
}

func (p piece) level(t time.Duration) float64 {
	switch {
	case p.from == p.to:
		return p.from
	case p.length == 0: // a jump
		return p.to
	}
	return p.from + (p.to-p.from)*(float64(t)/float64(p.length))
}

// mass is what the piece amounts to after a time, in level × seconds.
func (p piece) mass(t time.Duration) float64 {
	if p.from == p.to {
		return p.from * float64(t) / 1e9
	}
	return (p.from + p.level(t)) / 2 * float64(t) / 1e9
}

// when is the inverse of mass.
func (p piece) when(mass float64) time.Duration {
	if mass <= 0 {
		return 0
	}
	var ns float64
	if p.from == p.to {
		ns = mass * 1e9 / p.from
	} else {
		// from·x + slope/2·x² = mass, in the form that does not cancel for a small slope.
		slope := (p.to - p.from) / (float64(p.length) / 1e9)
		ns = 2 * mass / (p.from + math.Sqrt(max(0, p.from*p.from+2*slope*mass))) * 1e9
	}
	if !(ns < float64(p.length-1)) {
		return p.length - 1 // what is due in this piece stays in it
	}
	return time.Duration(math.Round(ns))
}

func scale(d time.Duration, f float64) time.Duration {
	return min(d, time.Duration(math.Round(float64(d)*f)))
}

// Spacing is how arrivals of a rate lie in time.
type Spacing uint8

// The spacings.
const (
	// Even is one arrival every 1/rate.
	Even Spacing = iota
	// Exponential is arrivals that know nothing of each other, as those of many independent users (a Poisson process).
	Exponential
)

// String is the word for it in a script.
func (s Spacing) String() string {
	if s == Exponential {
		return "exponential"
	}
	return "even"
}

// block is how many arrivals with exponential spacing are drawn together. In each block they lie as a Poisson process
// would have them given that there are so many, so that a run of hours keeps to its rate within a block's worth.
const block = 1024

// Pacer says when arrivals are due in the open model, where they come at a rate whatever becomes of those before. Due
// is a function of the rate, the spacing, the seed and n alone: it does not drift, several senders can share the
// arrivals of a pacer by taking every k-th, and a sender that is late asks for the same times. A Pacer remembers the
// block it drew last, so each goroutine needs its own.
type Pacer struct {
	rate    Curve
	before  []float64 // arrivals before each piece of rate, and in all
	spacing Spacing
	seed    uint64
	drawn   int64     // number of the block in offsets, plus 1
	offsets []float64 // exponential: where in the block each arrival lies, in arrivals
}

// NewPacer is a pacer of arrivals at a rate, in arrivals a second; the seed is for exponential spacing. A negative
// rate counts as 0.
func NewPacer(rate Curve, spacing Spacing, seed uint64) *Pacer {
	p := &Pacer{rate: rate, spacing: spacing, seed: seed, before: make([]float64, len(rate.pieces)+1)}
	p.rate.pieces = slices.Clone(rate.pieces)
	for i, c := range p.rate.pieces {
		c.from, c.to = max(0, c.from), max(0, c.to)
		p.rate.pieces[i] = c
		p.before[i+1] = p.before[i] + c.mass(c.length)
	}
	return p
}

// Due is when arrival n is due, n from 0; false when the rate's curve has ended before. Arrival 0 of even spacing is
// due as soon as the rate is above 0. It allocates nothing after its first call.
func (p *Pacer) Due(n int64) (time.Duration, bool) {
	if n < 0 {
		return 0, false
	}
	at := float64(n)
	if p.spacing == Exponential {
		b := n / block
		p.draw(b)
		at = float64(b*block) + p.offsets[n%block]
	}
	total := p.before[len(p.before)-1]
	if at >= total {
		return 0, false
	}
	i := sort.SearchFloat64s(p.before, math.Nextafter(at, math.Inf(1))) - 1 // the piece in which before passes at
	return p.rate.pieces[i].at + p.rate.pieces[i].when(at-p.before[i]), true
}

// Count is how many arrivals are due by a time, those due at that very time included: the smallest n of which Due is
// later.
func (p *Pacer) Count(t time.Duration) int64 {
	if t < 0 {
		return 0
	}
	// All arrivals up to a block away from their even place.
	guess := p.mass(t)
	low, high := int64(0), int64(guess)+2
	if p.spacing == Exponential {
		low, high = int64(guess)/block*block, (int64(guess)/block+1)*block
	} else {
		low = max(0, int64(guess)-2)
	}
	return low + int64(sort.Search(int(high-low), func(i int) bool {
		due, ok := p.Due(low + int64(i))
		return !ok || due > t
	}))
}

// mass is how many arrivals of even spacing are due before a time.
func (p *Pacer) mass(t time.Duration) float64 {
	if t >= p.rate.end {
		return p.before[len(p.before)-1]
	}
	i := sort.Search(len(p.rate.pieces), func(i int) bool { return p.rate.pieces[i].at > t }) - 1
	if i < 0 {
		return 0
	}
	return p.before[i] + p.rate.pieces[i].mass(t-p.rate.pieces[i].at)
}

func (p *Pacer) draw(b int64) {
	if p.drawn == b+1 {
		return
	}
	if p.offsets == nil {
		p.offsets = make([]float64, block)
	}
	// The places of block arrivals in an interval, in order, are the partial sums of block+1 exponential gaps.
	var r rand.PCG
	r.Seed(p.seed, uint64(b))
	sum := 0.0
	for i := range p.offsets {
		sum += gap(&r)
		p.offsets[i] = sum
	}
	f := block / (sum + gap(&r))
	for i := range p.offsets {
		p.offsets[i] *= f
	}
	p.drawn = b + 1
}

// gap is exponentially distributed with a mean of 1.
func gap(r *rand.PCG) float64 {
	return -math.Log(float64(r.Uint64()>>11+1) / (1 << 53))
}

// Closed is the closed model: each user has one exchange under way, and begins the next one after it. Without Every a
// stalled server slows the users down, and there is nothing to charge it for: corrected and service times are equal.
type Closed struct {
	// Every is the time from one due time of a user to the next. An exchange that takes longer delays what the user
	// does next but not when it was due. Zero means that the next exchange is due Think after the end of the last one.
	Every, Think time.Duration
}

// First is when user i of n has its first exchange due: with Every they are spread over it.
func (c Closed) First(i, n int) time.Duration {
	if c.Every <= 0 || n <= 0 {
		return 0
	}
	return scale(c.Every, float64(i%n)/float64(n))
}

// Next is when the exchange is due that follows one that was due at due and ended at done.
func (c Closed) Next(due, done time.Duration) time.Duration {
	if c.Every > 0 {
		return due + c.Every
	}
	return done + c.Think
}

// String says it for error texts and logs.
func (c Curve) String() string {
	return fmt.Sprintf("%d pieces, up to %g, for %v", len(c.pieces), c.Max(), c.end)
}
