package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// ParseHeap reads a heap profile as /debug/pprof/heap serves it. b is not retained.
func ParseHeap(b []byte, at time.Duration) (HeapSample, error) {
	p, err := parseProfile(b)
	if err != nil {
		return HeapSample{}, fmt.Errorf("read heap profile: %w", err)
	}
	index := map[string]int{}
	for i, t := range p.SampleType {
		index[t.Type] = i
	}
	objects, ok1 := index["inuse_objects"]
	space, ok2 := index["inuse_space"]
	if !ok1 || !ok2 {
		return HeapSample{}, errors.New("read heap profile: it has no inuse_objects and inuse_space: is it another kind of profile?")
	}
	allocObjects, ok3 := index["alloc_objects"]
	allocSpace, ok4 := index["alloc_space"]
	h := HeapSample{At: at, Rate: p.Period}
	for _, s := range p.Sample {
		site := HeapSite{Frames: framesOf(s), Objects: s.Value[objects], Bytes: s.Value[space]}
		if ok3 && ok4 {
			site.AllocObjects, site.AllocBytes = s.Value[allocObjects], s.Value[allocSpace]
		}
		if len(site.Frames) > 0 {
			h.Sites = append(h.Sites, site)
		}
	}
	return h, nil
}

// ParseCounts reads a goroutine (or goroutineleak) profile in the pprof format. b is not retained.
func ParseCounts(b []byte, at time.Duration) (GoroutineCounts, error) {
	p, err := parseProfile(b)
	if err != nil {
		return GoroutineCounts{}, fmt.Errorf("read goroutine profile: %w", err)
	}
	if len(p.SampleType) != 1 || !strings.HasPrefix(p.SampleType[0].Type, "goroutine") {
		return GoroutineCounts{}, errors.New("read goroutine profile: it counts something else: is it another kind of profile?")
	}
	c := GoroutineCounts{At: at}
	for _, s := range p.Sample {
		c.Stacks = append(c.Stacks, Stack{Frames: framesOf(s), Count: s.Value[0]})
		c.Total += s.Value[0]
	}
	return c, nil
}

// errTruncated is a profile that ends in the middle.
var errTruncated = errors.New("it is cut off or damaged: fetch it again, and raise the limit of a proxy that is in between")

func parseProfile(b []byte) (p *profile.Profile, err error) {
	if len(b) == 0 {
		return nil, errors.New("it is empty")
	}
	if !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) && looksLikeText(b) {
		return nil, errors.New("it is text, not a profile in the pprof format: leave debug= away when you fetch it")
	}
	// What the gzip header promises is not known; a profile of more than this would not be a Go program's.
	if p, err = profile.ParseData(b); err != nil {
		return nil, fmt.Errorf("%w (%w)", errTruncated, err)
	}
	if err := p.CheckValid(); err != nil {
		return nil, fmt.Errorf("%w (%w)", errTruncated, err)
	}
	return p, nil
}

func looksLikeText(b []byte) bool {
	for _, c := range b[:min(len(b), 64)] {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}

// framesOf is a sample's stack, the callee first, with calls that were inlined.
func framesOf(s *profile.Sample) []Frame {
	var frames []Frame
	for _, loc := range s.Location {
		for _, l := range loc.Line {
			f := Frame{Line: int(l.Line)}
			if l.Function != nil {
				f.Function, f.File = untyped(l.Function.Name), l.Function.Filename
			}
			frames = append(frames, f)
		}
	}
	return frames
}

// samples undoes the scaling of a figure: how many samples of an average size stand behind it. The runtime takes an object of
// size s with probability 1-exp(-s/rate), and scales what it took by the inverse.
func samples(objects, bytes, rate int64) float64 {
	if objects <= 0 || bytes <= 0 {
		return 0
	}
	if rate <= 1 {
		return float64(objects)
	}
	size := float64(bytes) / float64(objects)
	return float64(objects) * -math.Expm1(-size/float64(rate))
}
