package lab

import (
	"strings"
	"testing"
	"time"
)

func TestBody(t *testing.T) {
	t.Parallel()
	x := tiny(t, "body", 10)
	wants(t, x, map[string]Verdict{"body-blocks": HoldsInPart, "body-closed": HoldsInPart, "body-cycle": DoesNotHold})
	// What keeps a connection is seen, and what does not keep it is not.
	for _, row := range x.Tables[0].Rows {
		kept := row[0].Text == "stays in a map" || row[0].Text == "a timer of an hour has it"
		if alive := *row[6].Value; kept && alive != 10 || !kept && alive != 0 {
			t.Errorf("%s: %v connections alive", row[0].Text, alive)
		}
	}
}

func TestJudgeBody(t *testing.T) {
	// plant has the figures that today's Go has, changed by one case.
	plant := func(change func(all map[string]bodyFigures)) map[string]Verdict {
		all := map[string]bodyFigures{}
		for _, c := range bodyCases {
			all[c.name] = bodyFigures{conns: 100, during: bodyState{Upgraded: 100, Types: map[string]int{"http.noBody": 100}, Ends: map[string]int{"end of the body": 100}}}
		}
		declared := all[bodyCases[1].name]
		declared.during = bodyState{Upgraded: 100, Reading: 100, Types: map[string]int{"*http.body": 100}}
		all[bodyCases[1].name] = declared
		if change != nil {
			change(all)
		}
		r := planted("body")
		judgeBody(r, all)
		return verdicts(r)
	}
	change := func(i int, f func(*bodyFigures)) func(map[string]bodyFigures) {
		return func(all map[string]bodyFigures) {
			x := all[bodyCases[i].name]
			f(&x)
			all[bodyCases[i].name] = x
		}
	}
	for _, c := range []struct {
		name   string
		change func(map[string]bodyFigures)
		claim  string
		want   Verdict
	}{
		{"as it is", nil, "body-blocks", HoldsInPart},
		{"no read waits", change(1, func(f *bodyFigures) { f.during.Reading = 0 }), "body-blocks", DoesNotHold},
		{"some reads wait", change(1, func(f *bodyFigures) { f.during.Reading = 89 }), "body-blocks", DoesNotHold},
		{"all wait, and keep", change(0, func(f *bodyFigures) { f.during.Reading, f.after.Conns = 100, 100 }), "body-blocks", Holds},
		{"as it is", nil, "body-closed", HoldsInPart},
		{"not upgraded", change(0, func(f *bodyFigures) { f.during.Upgraded = 99 }), "body-closed", DoesNotHold},
		{"closed", func(all map[string]bodyFigures) {
			for i := range 2 {
				change(i, func(f *bodyFigures) { f.during.Ends = map[string]int{"body closed": 100} })(all)
			}
		}, "body-closed", Holds},
		{"as it is", nil, "body-cycle", DoesNotHold},
		{"the type", change(1, func(f *bodyFigures) { f.during.Types = map[string]int{"*http.bodyEOFSignal": 100} }), "body-cycle", HoldsInPart},
		{"cycles stay", change(5, func(f *bodyFigures) { f.after.Conns = 100 }), "body-cycle", HoldsInPart},
		{"both", func(all map[string]bodyFigures) {
			change(1, func(f *bodyFigures) { f.during.Types = map[string]int{"*http.bodyEOFSignal": 100} })(all)
			change(5, func(f *bodyFigures) { f.after.Conns = 90 })(all)
		}, "body-cycle", Holds},
	} {
		if got := plant(c.change)[c.claim]; got != c.want {
			t.Errorf("%s, %s: %v, want %v", c.claim, c.name, got, c.want)
		}
	}
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	x := tiny(t, "lifecycle", 10)
	wants(t, x, map[string]Verdict{"http-idle-timeout": HoldsInPart, "upgrade-takes-over": Holds, "close-calls-onclose": DoesNotHold, "underlying-tcp": HoldsInPart})
	limit := x.Tables[2].Rows[limitTrigger]
	for i, kind := range lifecycleKinds {
		if limit[1+i].Value == nil {
			t.Errorf("%s: a connection without a request stands beyond its limit", kind)
		}
	}
	for _, row := range x.Tables[0].Rows {
		goroutines, descriptors := *row[2].Value, *row[3].Value
		gone := row[1].Text == "peer gone"
		if want := row[0].Text != kindLongwire && !gone; want != (goroutines >= 1) {
			t.Errorf("%s, %s: %v goroutines each", row[0].Text, row[1].Text, goroutines)
		}
		if gone != (descriptors < 1) {
			t.Errorf("%s, %s: %v descriptors each", row[0].Text, row[1].Text, descriptors)
		}
	}
	// Handlers hold buffers from the accept until the peer is gone, Longwire's connections none; a limit is a deadline.
	at := map[string][]Cell{}
	for _, row := range x.Tables[1].Rows {
		at[row[0].Text+", "+row[1].Text] = row
		buffers, bytes := *row[2].Value, *row[3].Value
		none := row[0].Text == kindLongwire || row[1].Text == "peer gone" // else one to read into and one to write from; pools keep a few
		if none != (buffers < 1) || !none && (buffers < 2 || bytes < 2*leastBuffer) {
			t.Errorf("%s, %s: %v buffers of %v bytes each", row[0].Text, row[1].Text, buffers, bytes)
		}
	}
	for key, want := range map[string]float64{"net/http, accepted": 1, "net/http, idle for a second": 1, "net/http, peer gone": 0, "gorilla, accepted": 1, "gorilla, idle for a second": 1} {
		if row := at[key]; row == nil || row[4].Value == nil || *row[4].Value != want {
			t.Errorf("%s: %+v, want %v deadlines of reads", key, row, want)
		}
	}
	if row := at["longwire, accepted"]; row == nil || row[4].Value != nil {
		t.Errorf("longwire's deadlines: %+v, want none told", row)
	}
}

func TestJudgeLifecycle(t *testing.T) {
	const stands = time.Duration(-1)
	today := lifecycleFigures{idleSet: brief, idleDefault: stands, upgraded: stands, conns: 10, hijacked: 10, byPeer: 10, types: map[string]string{"ws": "*net.TCPConn", "wss": "*tls.Conn"}}
	for _, c := range []struct {
		name   string
		change func(f *lifecycleFigures)
		claim  string
		want   Verdict
	}{
		{"as it is", func(*lifecycleFigures) {}, "http-idle-timeout", HoldsInPart},
		{"by default too", func(f *lifecycleFigures) { f.idleDefault = time.Second }, "http-idle-timeout", Holds},
		{"not even where set", func(f *lifecycleFigures) { f.idleSet = stands }, "http-idle-timeout", DoesNotHold},
		{"as it is", func(*lifecycleFigures) {}, "upgrade-takes-over", Holds},
		{"timeouts stay", func(f *lifecycleFigures) { f.upgraded = brief }, "upgrade-takes-over", HoldsInPart},
		{"one is not given away", func(f *lifecycleFigures) { f.hijacked = 9 }, "upgrade-takes-over", DoesNotHold},
		{"as it is", func(*lifecycleFigures) {}, "close-calls-onclose", DoesNotHold},
		{"some", func(f *lifecycleFigures) { f.byUs = 1 }, "close-calls-onclose", HoldsInPart},
		{"all", func(f *lifecycleFigures) { f.byUs, f.onClose = 10, true }, "close-calls-onclose", Holds},
		{"as it is", func(*lifecycleFigures) {}, "underlying-tcp", HoldsInPart},
		{"with TLS too", func(f *lifecycleFigures) {
			f.types = map[string]string{"ws": "*net.TCPConn", "wss": "*net.TCPConn"}
		}, "underlying-tcp", Holds},
		{"never", func(f *lifecycleFigures) { f.types = map[string]string{"ws": "*x.Conn", "wss": "*tls.Conn"} }, "underlying-tcp", DoesNotHold},
	} {
		f := today
		c.change(&f)
		r := planted("lifecycle")
		judgeLifecycle(r, f)
		if got := verdicts(r)[c.claim]; got != c.want {
			t.Errorf("%s, %s: %v, want %v", c.claim, c.name, got, c.want)
		}
	}
}

func TestBuffers(t *testing.T) {
	t.Parallel()
	x := tiny(t, "buffers", 20)
	if x.Verdicts[0].Verdict == NotShown { // which it is depends on the race detector, under which a pool drops some at random
		t.Error("nothing was measured")
	}
	if len(x.Series) != len(buffersKinds) || len(x.Series[0].Points) < 2 {
		t.Errorf("curves: %+v", x.Series)
	}
	if rows := x.Tables[0].Rows; len(rows) != 2*len(buffersKinds) || *rows[0][2].Value < 1 || *rows[4][2].Value >= 1 {
		t.Errorf("rows %+v: want a goroutine for each connection of gorilla, and none for Longwire's", rows)
	}
}

func TestJudgeBuffers(t *testing.T) {
	for _, c := range []struct {
		plain, pooled, objects, fewer float64
		want                          Verdict
	}{
		{1000, 500, 2, 1, Holds}, {1000, 501, 2, 1, HoldsInPart}, {1000, 500, 2, 1.1, HoldsInPart}, {1000, 501, 2, 1.1, DoesNotHold}, {1000, 2000, 2, 3, DoesNotHold}, {0, 0, 0, 0, NotShown},
	} {
		r := planted("buffers")
		judgeBuffers(r, map[string]buffersFigures{kindGorilla: {bytes: c.plain, objects: c.objects}, kindPooled: {bytes: c.pooled, objects: c.fewer}})
		if got := verdicts(r)["pool-buffers"]; got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestFinalizer(t *testing.T) {
	t.Parallel()
	x := tiny(t, "finalizer", 10)
	wants(t, x, map[string]Verdict{"finalizer-retains": HoldsInPart, "finalizer-captures": DoesNotHold, "finalizer-goroutines": Holds})
	const n = 50
	for i, c := range finalizerCases {
		row := x.Tables[0].Rows[i]
		during, goroutines, after := int(*row[2].Value), int(*row[3].Value), int(*row[5].Value)
		wantDuring, wantAfter, wantGoroutines := 0, 0, 0
		switch c.way {
		case finalizerUses:
			wantDuring, wantGoroutines = n, n
		case finalizerBlocks:
			wantDuring, wantGoroutines = n, 1
		case finalizerCycle, cleanupHolds: // for ever
			wantDuring, wantAfter = n, n
		case finalizerArticle, cleanupStarts:
			wantGoroutines = n
		}
		if during != wantDuring || after != wantAfter || goroutines != wantGoroutines {
			t.Errorf("%s: %d objects alive, %d after, %d goroutines: want %d, %d and %d", c.name, during, after, goroutines, wantDuring, wantAfter, wantGoroutines)
		}
	}
}

func TestJudgeFinalizer(t *testing.T) {
	for _, c := range []struct {
		article, uses, goroutines   int // of 100
		retains, captures, gathered Verdict
	}{
		{0, 100, 100, HoldsInPart, DoesNotHold, Holds},
		{9, 90, 90, HoldsInPart, DoesNotHold, Holds},
		{10, 89, 89, DoesNotHold, HoldsInPart, HoldsInPart},
		{89, 0, 1, DoesNotHold, HoldsInPart, HoldsInPart},
		{90, 100, 0, Holds, Holds, DoesNotHold},
	} {
		r := planted("finalizer")
		judgeFinalizer(r, map[string]finalizerFigures{
			finalizerArticle: {count: 100, during: finalizerState{Alive: c.article, Goroutines: c.goroutines}},
			finalizerUses:    {count: 100, during: finalizerState{Alive: c.uses}},
		})
		if got := verdicts(r); got["finalizer-retains"] != c.retains || got["finalizer-captures"] != c.captures || got["finalizer-goroutines"] != c.gathered {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestPool(t *testing.T) {
	t.Parallel()
	x := tiny(t, "pool", 10)
	wants(t, x, map[string]Verdict{"pool-residue": Holds, "pool-dangling": DoesNotHold, "pool-new": HoldsInPart, "pool-slices": HoldsInPart})
	for i, c := range poolCases {
		row := x.Tables[0].Rows[i]
		if wrong := *row[2].Value + *row[3].Value + *row[4].Value; (wrong > 0) != (c.way == poolResidue || c.way == poolEarly || c.way == poolAppend) {
			t.Errorf("%s: %v answers are wrong", c.name, wrong)
		}
	}
}

func TestJudgePool(t *testing.T) {
	type figures struct {
		residue, reset, slice, cut, datas, torn, news int
	}
	today := figures{residue: 50, slice: 90, datas: 50, news: 10}
	for _, c := range []struct {
		name   string
		change func(f *figures)
		claim  string
		want   Verdict
	}{
		{"as it is", func(*figures) {}, "pool-residue", Holds},
		{"a reset does not help", func(f *figures) { f.reset = 1 }, "pool-residue", HoldsInPart},
		{"nothing is left", func(f *figures) { f.residue = 0 }, "pool-residue", DoesNotHold},
		{"as it is", func(*figures) {}, "pool-dangling", DoesNotHold},
		{"data is gone", func(f *figures) { f.torn = 1 }, "pool-dangling", Holds},
		{"no stale pointer was seen", func(f *figures) { f.datas = 0 }, "pool-dangling", NotShown},
		{"as it is", func(*figures) {}, "pool-new", HoldsInPart},
		{"once", func(f *figures) { f.news = 1 }, "pool-new", Holds},
		{"always", func(f *figures) { f.news = 100 }, "pool-new", DoesNotHold},
		{"as it is", func(*figures) {}, "pool-slices", HoldsInPart},
		{"and strings are safe", func(f *figures) { f.residue = 0 }, "pool-slices", Holds},
		{"a reset does not help", func(f *figures) { f.residue, f.cut = 0, 1 }, "pool-slices", HoldsInPart},
		{"slices are safe", func(f *figures) { f.slice = 0 }, "pool-slices", DoesNotHold},
	} {
		f := today
		c.change(&f)
		r := planted("pool")
		judgePool(r, map[string]poolFigures{
			poolResidue: {requests: 100, names: f.residue, datas: f.datas}, poolReset: {requests: 100, names: f.reset},
			poolAppend: {requests: 100, names: f.slice}, poolTruncated: {requests: 100, broken: f.cut},
		}, []poolProbe{{0, 1000, 1000, 0}, {1, 1000, 1000, f.torn}}, poolCount{100, f.news})
		if got := verdicts(r)[c.claim]; got != c.want {
			t.Errorf("%s, %s: %v, want %v", c.claim, c.name, got, c.want)
		}
	}
}

func TestGOGC(t *testing.T) {
	t.Parallel()
	x := tiny(t, "gogc", 32)
	if got, want := len(x.Tables[0].Rows), len(gogcLayouts)*len(gogcSettings); got != want {
		t.Errorf("%d rows, want %d", got, want)
	}
	for _, row := range x.Tables[0].Rows {
		if row[1].Text == gogcSettings[gogcDefault].name && row[2].Value != nil && *row[2].Value == 0 && row[0].Text != layoutPointers && row[0].Text != layoutValues {
			t.Errorf("%s: no collection in %s", row[0].Text, x.Tables[0].Title)
		}
	}
	for _, s := range x.Series {
		if s.Name == layoutNothing && len(s.Points) == 0 {
			t.Error("no line of the collector's was read")
		}
	}
}

func TestJudgeGOGC(t *testing.T) {
	for _, c := range []struct {
		pointers, values time.Duration
		share            float64
		want             Verdict
	}{
		{100, 10, 0.9, Holds}, {20, 10, 0.5, Holds}, {19, 10, 0.9, HoldsInPart}, {20, 10, 0.4, HoldsInPart}, {19, 10, 0.4, DoesNotHold}, {20, 0, 0.9, NotShown},
	} {
		r := planted("gogc")
		judgeGOGC(r, map[string]gogcFigures{layoutPointers: {collections: 3, each: c.pointers, share: c.share}, layoutValues: {collections: 3, each: c.values}})
		if got := verdicts(r)["pointer-density"]; got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	r := planted("gogc")
	judgeGOGC(r, map[string]gogcFigures{layoutPointers: {each: 3}, layoutValues: {collections: 3, each: 1}})
	if got := verdicts(r)["pointer-density"]; got != NotShown {
		t.Errorf("without a collection: %v", got)
	}
	// Where pauses grow with pointers, the sentence says so.
	for mean, want := range map[time.Duration]string{100: "cost pauses as well", 10: "and not pauses"} {
		r := planted("gogc")
		judgeGOGC(r, map[string]gogcFigures{layoutPointers: {collections: 3, each: 100, mean: mean, share: 1}, layoutValues: {collections: 3, each: 1, mean: 10}})
		if s := r.out.Verdicts[0].Sentence; !strings.Contains(s, want) {
			t.Errorf("%q is missing: %s", want, s)
		}
	}
}

func TestReadTrace(t *testing.T) {
	got := readTrace("noise\ngc 3 @0.021s 1%: 0.010+0.12+0.020 ms clock, 0.080+0.012/0.1/0.2+0.096 ms cpu, 4->5->2 MB, 5 MB goal, 0 MB stacks, 0 MB globals, 8 P\n" +
		"gc 4 @1.5s 1%: 1+2+3 ms clock, 0.0+0.0/0.0/0.0+0.0 ms cpu, 8->8->2 MB, 9 MB goal, 8 P (forced)\ngc 5 @x")
	if len(got) != 2 || got[0] != (traced{3, 0.021, 0.03, 0.12, 4 << 20}) || got[1] != (traced{4, 1.5, 4, 2, 8 << 20}) {
		t.Errorf("%+v", got)
	}
}
