package profile

import (
	"strings"
	"testing"
	"time"
)

func TestTrigger(t *testing.T) {
	const mb = 1 << 20
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	type step struct {
		at   time.Duration
		look Look // without its time
		want string
	}
	rss := func(at time.Duration, n uint64, want string) step { return step{at, Look{RSS: n * mb}, want} }
	for _, c := range []struct {
		name  string
		t     trigger
		steps []step
	}{
		{"a jump", trigger{jump: 0.2}, []step{rss(0, 1000, ""), rss(time.Second, 1199, ""), rss(2*time.Second, 1200, triggerRSS)}},
		{"a share of little memory", trigger{jump: 0.2}, []step{rss(0, 50, ""), rss(time.Second, 113, ""), rss(2*time.Second, 114, triggerRSS)}},
		{"slowly", trigger{jump: 0.2}, []step{rss(0, 1000, ""), rss(40*time.Second, 1100, ""), rss(80*time.Second, 1210, ""), rss(120*time.Second, 1300, "")}},
		{"from the lowest point, not from the first", trigger{jump: 0.2}, []step{rss(0, 2000, ""), rss(10*time.Second, 1000, ""), rss(20*time.Second, 1250, triggerRSS)}},
		{"exactly a minute", trigger{jump: 0.2}, []step{rss(0, 1000, ""), rss(time.Minute, 1200, triggerRSS)}},
		{"more than a minute", trigger{jump: 0.2}, []step{rss(0, 1000, ""), rss(time.Minute+1, 1200, "")}},
		{"off", trigger{pause: time.Second}, []step{rss(0, 1000, ""), rss(time.Second, 9000, "")}},
		{"a clock that is set back", trigger{jump: 0.2}, []step{rss(time.Hour, 1000, ""), rss(0, 2000, ""), rss(time.Second, 2500, triggerRSS)}},
		{"a system that does not tell", trigger{jump: 0.2}, []step{rss(0, 0, ""), rss(time.Second, 1000, ""), rss(2*time.Second, 0, "")}},
		{"a pause", trigger{pause: 10 * time.Millisecond}, []step{
			{0, Look{GCPause: 10*time.Millisecond - 1}, ""}, {time.Second, Look{GCPause: 10 * time.Millisecond}, triggerPause}}},
		{"a loop", trigger{pause: 10 * time.Millisecond}, []step{
			{0, Look{Iteration: 10*time.Millisecond - 1}, ""}, {time.Second, Look{Iteration: 10 * time.Millisecond}, triggerLoop}}},
		{"pauses off", trigger{jump: 0.2}, []step{{0, Look{GCPause: time.Hour, Iteration: time.Hour}, ""}}},
		{"both", trigger{jump: 0.2, pause: time.Second}, []step{rss(0, 1000, ""), {time.Second, Look{RSS: 3000 * mb, GCPause: time.Second}, triggerPause}, rss(2*time.Second, 3000, triggerRSS)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, s := range c.steps {
				s.look.Time = start.Add(s.at)
				why, due := c.t.judge(s.look)
				if why.Trigger != s.want || due != (s.want != "") {
					t.Fatalf("step %d: %+v, %v; want %q", i, why, due, s.want)
				}
				if due && (why.Found < why.Limit || !strings.Contains(why.Text, " ")) {
					t.Errorf("step %d: %+v", i, why)
				}
			}
		})
	}
	// What was captured is no reason any more.
	tr := trigger{jump: 0.2}
	tr.judge(Look{Time: start, RSS: 1000 * mb})
	if _, due := tr.judge(Look{Time: start.Add(time.Second), RSS: 1500 * mb}); !due {
		t.Error("no jump")
	}
	tr.forget()
	if why, due := tr.judge(Look{Time: start.Add(2 * time.Second), RSS: 1500 * mb}); due {
		t.Errorf("the same jump again: %+v", why)
	}
}

func TestGrown(t *testing.T) {
	for _, c := range []struct {
		before, now []uint64
		want        int
	}{
		{nil, nil, -1},
		{[]uint64{1, 2}, []uint64{1, 2}, -1},
		{[]uint64{1, 2, 0}, []uint64{5, 3, 0}, 1},
		{nil, []uint64{0, 1, 0}, 1},
		{[]uint64{1}, []uint64{1, 0}, -1},
	} {
		if got := grown(c.before, c.now); got != c.want {
			t.Errorf("grown(%v, %v) = %d, want %d", c.before, c.now, got, c.want)
		}
	}
}
