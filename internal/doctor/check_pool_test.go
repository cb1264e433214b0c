package doctor

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// pools is a pool at a look a second: what is in use, and how many waited for how long, in all.
func pools(most int, inUse []int, waits []int64, mean time.Duration) *Evidence {
	e := &Evidence{}
	for i, n := range inUse {
		p := PoolSample{At: time.Duration(i) * time.Second, Name: "db", Max: most, Open: max(n, 2), InUse: n}
		if waits != nil {
			p.Waits, p.Waited = waits[i], time.Duration(waits[i])*mean
		}
		e.Pools = append(e.Pools, p)
	}
	return e
}

const poolSource = `package main

import (
	"context"
	"database/sql"
	"time"
)

var db *sql.DB

func open() {
	db, _ = sql.Open("pgx", "postgres://localhost/x?statement_timeout=5000")
	db.SetMaxOpenConns(10)
}

func find(parent context.Context) error {
	ctx, cancel := context.WithTimeout(parent, 30*time.Second)
	defer cancel()
	_, err := db.ExecContext(ctx, "update x set y = 1")
	return err
}

func other(parent context.Context) {
	ctx, cancel := context.WithTimeout(parent, time.Hour)
	defer cancel()
	<-ctx.Done()
}
`

func withPoolSource(t *testing.T, e *Evidence) *Evidence {
	t.Helper()
	root := fstest.MapFS{"app/go.mod": {Data: []byte("module app\n")}, "app/main.go": {Data: []byte(poolSource)}}
	for _, p := range []string{"time/time.go", "context/context.go"} {
		name := p[:strings.IndexByte(p, '/')]
		text := "package " + name + "\n"
		if name == "time" {
			text += "type Duration int64\nconst (\n\tNanosecond Duration = 1\n\tMicrosecond = 1000 * Nanosecond\n\tMillisecond = 1000 * Microsecond\n\tSecond = 1000 * Millisecond\n\tMinute = 60 * Second\n\tHour = 60 * Minute\n)\n"
		} else {
			text += "import \"time\"\ntype Context interface { Done() <-chan struct{} }\ntype CancelFunc func()\nfunc WithTimeout(parent Context, d time.Duration) (Context, CancelFunc)\n"
		}
		root["go/src/"+p] = &fstest.MapFile{Data: []byte(text)}
	}
	frames := []Frame{{Function: "main.find", File: "/app/main.go", Line: 19}, {Function: "runtime.main", File: "/go/src/runtime/proc.go", Line: 1}}
	e.Build.Module = "app"
	e.Counts = []GoroutineCounts{{Total: 1, Stacks: []Stack{{Frames: frames, Count: 1}}}}
	e.Source = LoadSource(root, "", e.places(), frames)
	if e.Source == nil {
		t.Fatal("the source was not read")
	}
	return e
}

func TestPools(t *testing.T) {
	full := []int{10, 10, 10, 9, 10, 10, 10, 10}
	waits := []int64{0, 10, 20, 30, 40, 50, 60, 70}
	stuck := func(e *Evidence) *Evidence {
		waiting := Goroutine{ID: 1, State: "select", Frames: []Frame{{Function: "database/sql.(*DB).conn"}, {Function: "database/sql.(*DB).QueryContext"}, {Function: "main.find"}}}
		idle := Goroutine{ID: 2, State: "IO wait", Frames: []Frame{{Function: "net/http.(*conn).serve"}}}
		e.Goroutines = []GoroutineDump{{Goroutines: []Goroutine{waiting, idle}}}
		return e
	}
	works := func(e *Evidence) *Evidence {
		stuck(e)
		e.Goroutines[0].Goroutines = append(e.Goroutines[0].Goroutines, Goroutine{ID: 3, State: "IO wait", Frames: []Frame{{Function: "net.(*conn).Read"}, {Function: "database/sql.(*DB).queryDC"}}})
		return e
	}
	settings := func(wait, statement time.Duration, e *Evidence) *Evidence {
		e.Settings = PoolSettings{Wait: wait, Statement: statement}
		return e
	}
	allFull := []int{10, 10, 10, 10, 10, 10, 10, 10}
	for _, c := range []struct {
		name string
		e    *Evidence
		want string // severity and parts of the sentence, between bars; "" is no finding
		line int
	}{
		{"idle", pools(10, []int{0, 0, 0, 0, 0, 0}, nil, 0), "", 0},
		{"busy", pools(10, []int{3, 5, 2, 8, 10, 4, 1}, nil, 0), "", 0},
		{"at its limit, and nobody waits", pools(10, full, nil, 0), "", 0},
		{"one connection held for long", pools(10, []int{1, 1, 1, 1, 1, 1, 1, 1}, nil, 0), "", 0},
		{"exhausted", works(pools(10, full, waits, 20*time.Millisecond)), "major|exhausted: all of its 10 connections are in use at 7 of 8 looks, and callers wait 20ms", 0},
		{"waits longer than statements", settings(0, 5*time.Second, works(pools(10, full, waits, 7*time.Second))), "critical|longer than a statement may run (5s)", 0},
		{"waits for longer than it may work", settings(30*time.Second, 5*time.Second, works(pools(10, full, waits, time.Second))), "major|callers wait for up to 30s for a connection with which they may work for 5s", 0},
		{"gives up before the holder does", settings(2*time.Second, time.Minute, works(pools(10, full, waits, time.Second))), "major|a statement may hold its connection for 1m0s, and callers give up after 2s", 0},
		{"settings of a pool that is well", settings(30*time.Second, 5*time.Second, pools(10, []int{3, 5, 2, 8, 4, 1}, nil, 0)), "", 0},
		{"settings in the source", withPoolSource(t, pools(10, full, waits, time.Second)), "major|callers wait for up to 30s|5s", 17},
		{"waits in the source, too long", withPoolSource(t, pools(10, full, waits, 6*time.Second)), "critical|longer than a statement may run (5s)", 12},
		{"never given back", stuck(pools(10, allFull, waits, time.Second)), "critical|taken and not given back: 10 in use", 0},
		{"all in use, and somebody works", works(pools(10, allFull, waits, time.Second)), "major|exhausted", 0},
		{"more and more", pools(100, []int{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23}, nil, 0), "critical|taken and not given back: 23 in use", 0},
	} {
		r := Examine(c.e)
		got, line := "", 0
		for _, f := range r.Findings {
			if f.Check == poolCheck.Name {
				got, line = f.Severity.String()+" "+f.Sentence, f.Line.Line
			}
		}
		ok := (got == "") == (c.want == "")
		for _, part := range strings.Split(c.want, "|") {
			ok = ok && strings.Contains(got, part)
		}
		if !ok || line != c.line {
			t.Errorf("%s: %q at line %d, want %q at %d", c.name, got, line, c.want, c.line)
		}
	}
}

func TestStatementTimeout(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"postgres://x/y?statement_timeout=5000": 5 * time.Second, "options='-c statement_timeout=3s'": 3 * time.Second, "SET statement_timeout TO '2min'": 2 * time.Minute,
		"set statement_timeout to '250ms'": 250 * time.Millisecond, "no setting": 0, "statement_timeout": 0, "statement_timeout=99999999999999": 0,
	} {
		if got := parseStatementTimeout(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
