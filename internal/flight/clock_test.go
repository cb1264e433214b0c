package flight

import (
	"fmt"
	"testing"
	"time"
)

// A user whose conn ended came back, in that order, whatever the machine's clock was set to in between; and each event has the time
// that the clock showed then, in the next process too.
func TestClockIsSet(t *testing.T) {
	for _, d := range []time.Duration{-time.Hour, time.Hour, -2 * time.Second, 500 * time.Hour} {
		t.Run(d.String(), func(t *testing.T) {
			dir := t.TempDir()
			open := func() *Recorder { return recorder(t, Options{Dir: dir, Tracks: 3, MapFile: heapFile(t)}) }
			r, now := open(), time.Now()
			// The recorder's two clocks are not read at the same nanosecond.
			is := func(got time.Time, after time.Duration) bool {
				return got.Sub(now.Add(after).Round(0)).Abs() < 500*time.Millisecond
			}
			r.Track(0).Opened(now, 1, home, 0, 0)
			r.Track(0).Connected(now, 1, "ann")
			r.Track(0).Ended(now.Add(time.Second), 1, &Ended{Cause: 4, Pinged: -1})
			r.Track(1).Opened(set(t, now.Add(42*time.Second), d), 2, away, 0, 0)
			r.Track(0).Slow(now.Add(41*time.Second), 3, 1) // told late, and not before the clock is right
			r.Track(1).Connected(set(t, now.Add(42*time.Second), d), 2, "ann")
			r.Kernel(2, now.Add(43*time.Second), 1, &Kernel{}) // reckoned from what the clock showed before
			r.Track(0).Slow(now.Add(60*time.Second), 3, 1)     // it was set back
			check := func(r *Recorder, before bool) {
				t.Helper()
				list := r.Find(Query{User: "ann"})
				if len(list) != 2 || list[0].Conn != 1 || list[1].Conn != 2 || list[0].Before != before {
					t.Fatalf("%+v", list)
				}
				first, second := list[0], list[1]
				if b := first.Back; b == nil || *b != (Back{After: 41 * time.Second, Conn: 2, Moved: true}) {
					t.Errorf("came back: %+v", b)
				}
				for _, e := range []struct {
					at   time.Time
					want time.Duration
				}{{first.Events[0].Time, 0}, {first.Ended().Time, time.Second}, {second.Events[0].Time, 42*time.Second + d}, {second.Events[1].Time, 42*time.Second + d}, {r.From(), 0}} {
					if !is(e.at, e.want) {
						t.Errorf("shown at %v, want %v", e.at, now.Add(e.want))
					}
				}
				if s := r.Find(Query{Conn: 3, Before: before}); len(s) != 1 || !is(s[0].Events[1].Time, 60*time.Second) {
					t.Errorf("after the clock was set back: %+v", s)
				}
			}
			check(r, false)
			for ago, want := range map[time.Duration]string{time.Minute: "[1 2]", 10 * time.Second: "[]", 20 * time.Second: "[1 2]"} {
				var conns []uint64
				for _, s := range r.Find(Query{User: "ann", Since: now.Add(60 * time.Second).Add(-ago)}) {
					conns = append(conns, s.Conn)
				}
				if fmt.Sprint(conns) != want {
					t.Errorf("of the last %v: %v, want %s", ago, conns, want)
				}
			}
			if n := len(r.clock.timeline()); n != 2 {
				t.Errorf("%d steps, want one when it was set and one when it was set back", n)
			}
			flush(t, r, dir)
			check(open(), true)
		})
	}
}

// A clock that is set again and again is still right from the last times on.
func TestClockIsSetOften(t *testing.T) {
	r, now := recorder(t, Options{}), time.Now()
	for i := range 5 * mostSteps {
		r.Track(0).Slow(set(t, now.Add(time.Duration(i)*time.Second), time.Duration(i%7)*time.Hour), uint64(i+1), i)
	}
	for i := 4 * mostSteps; i < 5*mostSteps; i++ {
		want := now.Add(time.Duration(i)*time.Second + time.Duration(i%7)*time.Hour).Round(0)
		if s := r.Find(Query{Conn: uint64(i + 1)}); len(s) != 1 || s[0].Events[0].Time.Sub(want).Abs() > 500*time.Millisecond {
			t.Errorf("event %d: %+v, want %v", i, s, want)
		}
	}
	if n := len(r.clock.timeline()); n != mostSteps {
		t.Errorf("%d steps, want %d", n, mostSteps)
	}
}

// A clock that nobody set has no steps, and after the end none is noted.
func TestClockEdges(t *testing.T) {
	var c clock
	now := time.Now()
	c.begin(now, make([]byte, mostSteps*stepSize))
	if got := c.note(now); got != now.UnixNano() || len(c.timeline()) != 0 {
		t.Errorf("stamp %d, %d steps", got, len(c.timeline()))
	}
	c.end()
	if got := c.note(set(t, now, time.Hour)); got != now.UnixNano() || len(c.timeline()) != 0 {
		t.Errorf("stamp %d, %d steps", got, len(c.timeline()))
	}
}
