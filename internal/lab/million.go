package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/internal/report"
	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/ws"
)

func millionExperiment() Experiment {
	return Experiment{
		Name:   "million",
		Title:  "The article's table, before and after",
		Claims: claimsOf("million"),
		About: "As many connections as the scale says (5,000 at scale 1, a million at 200) are held for a while to a gateway of gorilla/websocket as it was before, to the mended " +
			"one, and to Longwire, all at the same time; every 5 s each client sends 100 bytes and gets them back, or of more than 50,000 clients as many in turn. Gorilla's hold no more than the limit of open files lets " +
			"them. What a million would take is extrapolated linearly and says so.",
		Run: func(ctx context.Context, r *Run) error {
			soak := r.Soak
			if soak == 0 {
				soak = 75 * time.Second
			}
			return runMillion(ctx, r, r.Of(5000), soak/time.Duration(r.shrink), time.Second/time.Duration(r.shrink))
		},
		subjects: map[string]maker{},
	}
}

// The article's own figures.
const (
	articleConns     = 1_000_000
	articleRSSBefore = 9.7e9
	articleRSSAfter  = 2.3e9
	articlePause     = 42 * time.Millisecond
	articlePauseMend = 3100 * time.Microsecond
	articleSurvival  = 0.813
	articleSurvived  = 0.9998
	articleRate      = 1.2 // collections a minute
	articleSwing     = 0.05
)

// soaked is what one gateway was like while its connections stood.
type soaked struct {
	kind        string
	conns       int // that it held
	limited     bool
	before      Sample // no connection yet
	began, last Sample // of the soak
	peak        uint64 // resident memory
	resident    []Point
	alive       int64     // connections at the end
	forced      []float64 // ms of pauses of collections that were asked for at the end, of all gateways in turn
}

// each is the resident memory of a connection, at the peak.
func (s *soaked) each() float64 { return each(s.before.Resident, s.peak, s.conns) }

// million is the peak that as many connections as the article's would have, extrapolated unless as many were held.
func (s *soaked) million() float64 {
	return float64(s.before.Resident) + s.each()*articleConns
}

// pause is the mean of the collector's pauses since the process began, and how many collections there were.
func (s *soaked) pause() (time.Duration, uint32) {
	n := s.last.Collections
	return s.last.Pauses / time.Duration(max(1, n)), n
}

// rate is collections a minute during the soak.
func (s *soaked) rate() float64 {
	m := (s.last.At - s.began.At).Minutes()
	if m <= 0 {
		return 0
	}
	return float64(s.last.Collections-s.began.Collections) / m
}

// swing is the 99th percentile of how far resident memory was from its median during the soak, as a share.
func (s *soaked) swing() float64 {
	var list []float64
	for _, p := range s.resident {
		list = append(list, p.Value)
	}
	middle := quantile(list, 0.5)
	for i, v := range list {
		list[i] = math.Abs(v-middle) / max(1, middle)
	}
	return quantile(list, 0.99)
}

// survival is the share of the connections that stood at the end.
func (s *soaked) survival() float64 { return float64(s.alive) / float64(max(1, s.conns)) }

// reserve is how many descriptors of a process's table are not for connections.
const reserve = 1000

func runMillion(ctx context.Context, r *Run, conns int, soak, every time.Duration) (err error) {
	most := conns
	if self, err := sys.ReadProcess(os.DirFS("/"), os.Getpid()); err == nil && self.DescriptorLimit > reserve {
		most = min(conns, self.DescriptorLimit-reserve)
	}
	var all []*soaked
	var processes []*Process
	var fleets []*fleet.Fleet
	defer func() {
		for _, f := range fleets {
			err = errors.Join(err, f.Close())
		}
		for _, p := range processes {
			err = errors.Join(err, p.Close())
		}
	}()
	for _, kind := range []string{naiveGateway, mendedGateway, kindLongwire} {
		s := &soaked{kind: kind, conns: conns}
		if kind != kindLongwire && most < conns {
			s.conns, s.limited = most, true
		}
		if err := fits(s.conns); err != nil {
			return err
		}
		r.Log("%s, %d connections", gatewayName(kind), s.conns)
		p, err := startGateway(ctx, r, kind, s.conns)
		if err != nil {
			return err
		}
		processes = append(processes, p)
		if err := warmUp(ctx, p, min(500, s.conns)); err != nil {
			return err
		}
		if s.before, err = p.Sample(ctx, 1); err != nil {
			return err
		}
		f, err := hold(ctx, p, s.conns)
		if err != nil {
			return err
		}
		fleets = append(fleets, f)
		all = append(all, s)
	}
	// The first message grows stacks and fills pools, once: that is no swing.
	for i, f := range fleets {
		for round := range turns(all[i].conns) {
			if err := talk(ctx, f, round, turns(all[i].conns)); err != nil {
				return err
			}
		}
	}
	for i, s := range all {
		if s.began, err = processes[i].Sample(ctx, 0); err != nil {
			return err
		}
		s.last, s.peak = s.began, s.began.Resident
	}
	r.Log("holding for %s", spell(soak))
	err = soakAll(ctx, all, processes, fleets, soak, every)
	for i, s := range all {
		s.alive = fleets[i].Counts().Open
		last, err2 := processes[i].Sample(context.WithoutCancel(ctx), 0)
		if err2 != nil {
			return errors.Join(err, err2)
		}
		s.last, s.peak = last, max(s.peak, last.Resident)
	}
	if err == nil {
		err = forceAll(ctx, all, processes)
	}
	tellMillion(r, all)
	if err != nil {
		return err
	}
	for _, j := range judgeMillion(all) {
		r.Verdict(j.id, j.verdict, j.sentence)
	}
	return nil
}

// fits tells whether the memory of this machine is enough for as many connections, both ends.
func fits(conns int) error {
	const kernel, gorilla, spare = 2 * 4700, 18_000, 300 << 20 // of a connection's two sockets; of it; bytes
	need := uint64(conns)*kernel + uint64(min(conns, 20_000))*gorilla + spare
	if free := sys.MemoryAvailable(os.DirFS("/")); free > 0 && free < need {
		return fmt.Errorf("%d connections need about %s for both ends, and %s are free: a smaller --scale fits", conns, report.Bytes.Format(float64(need)), report.Bytes.Format(float64(free)))
	}
	return nil
}

// messageEvery is how long after a round of messages each client sends the next.
const messageEvery = 5 * time.Second

// soakAll holds all for a while, with some traffic.
func soakAll(ctx context.Context, all []*soaked, processes []*Process, fleets []*fleet.Fleet, soak, every time.Duration) error {
	began := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	sent, round, root := began, 0, os.DirFS("/")
	for time.Since(began) < soak {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if time.Since(sent) >= messageEvery {
			for i, f := range fleets {
				if err := talk(ctx, f, round, turns(all[i].conns)); err != nil {
					return err
				}
			}
			sent, round = time.Now(), round+1
		}
		for i, s := range all {
			// From outside: a question would have it allocate, and collect for that.
			x, err := sys.ReadProcess(root, processes[i].PID())
			if err != nil {
				continue // not on this system
			}
			s.peak = max(s.peak, x.Resident)
			s.resident = append(s.resident, Point{time.Since(began).Seconds(), float64(x.Resident)})
		}
	}
	return nil
}

// rounds is how many collections each gateway is asked for at the end.
const rounds = 15

// forceAll asks the gateways in turn for collections, so that the machine is as busy for one as for another.
func forceAll(ctx context.Context, all []*soaked, processes []*Process) error {
	for range rounds {
		for i, s := range all {
			before, err := processes[i].Sample(ctx, 0)
			if err != nil {
				return err
			}
			after, err := processes[i].Sample(ctx, 1)
			if err != nil {
				return err
			}
			s.forced = append(s.forced, (after.Pauses-before.Pauses).Seconds()*1e3/float64(max(1, after.Collections-before.Collections)))
		}
	}
	return nil
}

// mostMessages is how many clients send at a time: a million at once would keep both ends busy for longer than a heartbeat waits.
const mostMessages = 50_000

// turns is how many rounds it takes for all clients to have sent.
func turns(conns int) int { return max(1, (conns+mostMessages-1)/mostMessages) }

// talk has the clients whose turn it is in a round send a message each, and waits until all are answered, or long enough: one that was lost
// meanwhile is counted at the end, and no reason to stop.
func talk(ctx context.Context, f *fleet.Fleet, round, turns int) error {
	before := f.Counts()
	var seen, said atomic.Int64
	if err := f.Each(ctx, func(c fleet.Client) {
		if int(seen.Add(1)+int64(round))%turns == 0 {
			said.Add(1)
			c.Say(ws.OpBinary, make([]byte, 100))
		}
	}); err != nil {
		return err
	}
	patience := answerLimit + time.Duration(said.Load())*time.Millisecond
	for late := time.Now().Add(patience); time.Now().Before(late); {
		if c := f.Counts(); c.Received-before.Received >= min(said.Load(), c.Open) {
			break
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func tellMillion(r *Run, all []*soaked) {
	t := r.Table("Held connections", "gateway", "connections", "resident memory at most", "each", "a million take", "collections", "pause, mean", "of those asked for, median", "collections a minute", "swing of memory, p99", "alive at the end")
	for _, s := range all {
		pause, n := s.pause()
		var mean, forced any
		if n > 0 {
			mean = pause
		}
		if len(s.forced) > 0 {
			forced = Quantity{quantile(s.forced, 0.5) / 1e3, report.Seconds}
		}
		million := report.Bytes.Format(s.million()) + " (extrapolated)"
		if s.conns >= articleConns {
			million = report.Bytes.Format(s.million())
		}
		name := gatewayName(s.kind)
		t.Row(name, s.conns, Size(s.peak), Size(s.each()), million, n, mean, forced, s.rate(), percent(s.swing()), percent(s.survival()))
		r.Series(name, report.Bytes, s.resident).On("Resident memory while connections are held")
		r.Figure("a million connections: "+name, s.million(), report.Bytes)
		if s.limited {
			r.Note("%s holds %d connections instead: the limit of open files.", name, s.conns)
		}
	}
	r.Table("The article's", "", "RSS peak", "pause, mean", "collections a minute", "swing of memory, p99", "alive").
		Row("before", Size(articleRSSBefore), articlePause, nil, nil, percent(articleSurvival)).
		Row("after", Size(articleRSSAfter), articlePauseMend, articleRate, percent(articleSwing), percent(articleSurvived))
	r.Note("They were held for %s.", spell(all[0].last.At-all[0].began.At))
	r.Note("Resident memory is the process's own; the kernel's share for a socket, some 4 KB, comes to it, and is the same for all.")
}

// byConns is how many times as long as without them a pause has to be for the connections to be the reason.
const byConns = 3

// milliseconds is a time for people.
func milliseconds(ms float64) string { return report.Seconds.Format(ms / 1e3) }

// near tells whether a figure is the article's, give or take a quarter.
func near(v, article float64) bool { return math.Abs(v-article) <= article/4 }

// judgeMillion makes the verdicts: of the naive gateway, the mended one and Longwire, in this order.
func judgeMillion(all []*soaked) []opinion {
	var out []opinion
	say := func(id string, v Verdict, format string, args ...any) {
		out = append(out, opinion{id, v, fmt.Sprintf(format, args...)})
	}
	naive, mended, ours := all[0], all[1], all[2]
	bytes := report.Bytes.Format

	rss := fmt.Sprintf("a million connections would take %s with the naive gateway and %s with the mended one (extrapolated from %d), %s with Longwire (from %d): %.1f : 1 between the first two, in the article %.1f : 1",
		bytes(naive.million()), bytes(mended.million()), naive.conns, bytes(ours.million()), ours.conns, naive.million()/max(1, mended.million()), articleRSSBefore/articleRSSAfter)
	switch {
	case near(naive.million(), articleRSSBefore) && near(mended.million(), articleRSSAfter):
		say("rss-peak", Holds, "%s", rss)
	case mended.million() < 0.75*naive.million() && ours.million() <= 1.25*articleRSSAfter:
		say("rss-peak", HoldsInPart, "%s: the mending spares memory, and what it came to takes more than pooled buffers", rss)
	case mended.million() < 0.75*naive.million():
		say("rss-peak", HoldsInPart, "%s: the mending spares memory", rss)
	default:
		say("rss-peak", DoesNotHold, "%s", rss)
	}

	before, n := naive.pause()
	after, m := mended.pause()
	asked := [3]float64{quantile(naive.forced, 0.5), quantile(mended.forced, 0.5), quantile(ours.forced, 0.5)}
	// Were all of a pause proportional to the connections, a million would have this.
	bound := time.Duration(float64(before) * float64(articleConns) / float64(max(1, naive.conns)))
	pauses := fmt.Sprintf("%d collections of the naive gateway paused for %s on average at %d connections, %d of the mended one for %s; of collections that were asked for in turn the median was %s and %s, and %s with Longwire, whose heap is next to empty",
		n, spell(before), naive.conns, m, spell(after), milliseconds(asked[0]), milliseconds(asked[1]), milliseconds(asked[2]))
	switch {
	case n == 0 || m == 0 || len(naive.forced) == 0 || len(ours.forced) == 0:
		say("gc-pause", NotShown, "%s: too few to tell", pauses)
	case asked[0] < byConns*asked[2] && asked[1] < byConns*asked[2]:
		say("gc-pause", DoesNotHold, "%s: how long a pause takes is up to the machine and what else it does, not to the connections", pauses)
	case before >= articlePause*3/4:
		say("gc-pause", Holds, "%s", pauses)
	case bound < articlePause/2:
		say("gc-pause", DoesNotHold, "%s; even if a pause grew with the connections, a million would come to %s and not to 42 ms", pauses, spell(bound))
	default:
		say("gc-pause", NotShown, "%s; that is too little to say what a million does, at most %s if it grew with them", pauses, spell(bound))
	}

	alive := fmt.Sprintf("%.3f %% of the naive gateway's connections stood at the end of %.0f s, %.3f %% of the mended one's, %.3f %% of Longwire's",
		100*naive.survival(), (naive.last.At - naive.began.At).Seconds(), 100*mended.survival(), 100*ours.survival())
	switch {
	case mended.survival() < articleSurvived:
		say("survival", DoesNotHold, "%s", alive)
	case naive.survival() <= 0.9:
		say("survival", Holds, "%s", alive)
	default:
		say("survival", HoldsInPart, "%s: a gateway that leaks loses none until its memory is used up, which it was not here", alive)
	}

	swings := fmt.Sprintf("resident memory swung by %.1f %% (p99, about its median) with the mended gateway, %.1f %% with Longwire, %.1f %% with the naive one", 100*mended.swing(), 100*ours.swing(), 100*naive.swing())
	switch {
	case len(mended.resident) < 30:
		say("memory-swing", NotShown, "%s, in %d samples: too few", swings, len(mended.resident))
	case mended.swing() <= articleSwing:
		say("memory-swing", Holds, "%s", swings)
	case ours.swing() <= articleSwing:
		say("memory-swing", HoldsInPart, "%s", swings)
	default:
		say("memory-swing", DoesNotHold, "%s", swings)
	}

	minutes := (mended.last.At - mended.began.At).Minutes()
	inTurn := ""
	if turns(ours.conns) > 1 {
		inTurn = fmt.Sprintf(" (of Longwire's from %d in turn)", mostMessages)
	}
	rates := fmt.Sprintf("in %.1f minutes, a message of 100 bytes from each client every %s%s, the mended gateway had %.1f collections a minute, Longwire %.1f, the naive one %.1f", minutes, spell(messageEvery), inTurn, mended.rate(), ours.rate(), naive.rate())
	switch {
	case minutes*articleRate < 3:
		say("gc-rate", NotShown, "%s: too short to tell a rate of 1.2 (--soak 5m does)", rates)
	case mended.rate() <= 1.25*articleRate:
		say("gc-rate", Holds, "%s; the rate is that of the traffic, which the article does not tell", rates)
	case ours.rate() <= 1.25*articleRate:
		say("gc-rate", HoldsInPart, "%s; the rate is that of the traffic, which the article does not tell", rates)
	default:
		say("gc-rate", DoesNotHold, "%s", rates)
	}
	return out
}
