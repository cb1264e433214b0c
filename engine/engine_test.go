package engine

import (
	"math"
	"testing"
)

func TestRecover(t *testing.T) {
	pubs := func(offsets ...uint64) []*Publication {
		list := make([]*Publication, len(offsets))
		for i, o := range offsets {
			list[i] = &Publication{Offset: o}
		}
		return list
	}
	for _, c := range []struct {
		name  string
		since Position
		pubs  []*Publication
		top   Position
		want  bool
	}{
		{"nothing missed", Position{3, "a"}, nil, Position{3, "a"}, true},
		{"nothing published yet", Position{0, "a"}, nil, Position{0, "a"}, true},
		{"one missed", Position{3, "a"}, pubs(4), Position{4, "a"}, true},
		{"all missed", Position{0, "a"}, pubs(1, 2, 3), Position{3, "a"}, true},
		{"no epoch known", Position{0, ""}, pubs(1), Position{1, "a"}, true},
		{"no epoch known, at the top", Position{1, ""}, nil, Position{1, "a"}, true},
		{"no epoch known, the first is lost", Position{0, ""}, pubs(2), Position{2, "a"}, false},
		{"another epoch", Position{3, "a"}, pubs(4), Position{4, "b"}, false},
		{"another epoch at the same offset", Position{3, "a"}, nil, Position{3, "b"}, false},
		{"another epoch, offset 0", Position{0, "a"}, nil, Position{0, "b"}, false},
		{"an epoch, but no stream", Position{0, "a"}, nil, Position{}, false},
		{"ahead of the stream", Position{5, "a"}, nil, Position{4, "a"}, false},
		{"all lost", Position{3, "a"}, nil, Position{5, "a"}, false},
		{"the oldest lost", Position{3, "a"}, pubs(5), Position{5, "a"}, false},
		{"one between lost", Position{3, "a"}, pubs(4, 6), Position{6, "a"}, false},
		{"the newest lost", Position{3, "a"}, pubs(4, 5), Position{6, "a"}, false},
		{"more than the top", Position{3, "a"}, pubs(4, 5), Position{4, "a"}, false},
		{"one twice", Position{3, "a"}, pubs(4, 4), Position{5, "a"}, false},
		{"newest first", Position{3, "a"}, pubs(5, 4), Position{5, "a"}, false},
		{"the last offset there is", Position{math.MaxUint64, "a"}, nil, Position{math.MaxUint64, "a"}, true},
		{"beyond every stream", Position{math.MaxUint64, "a"}, nil, Position{2, "a"}, false},
	} {
		if got := Recover(c.since, c.pubs, c.top); got != c.want {
			t.Errorf("%s: Recover(%v, %d publications, %v) = %v, want %v", c.name, c.since, len(c.pubs), c.top, got, c.want)
		}
	}
}
