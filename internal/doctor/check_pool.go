package doctor

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// PoolSettings are what cannot be seen in a pool's figures. Zero is not known; then the source is searched for it.
type PoolSettings struct {
	Wait      time.Duration // how long a caller waits for a connection before it gives up
	Statement time.Duration // how long one statement may run
}

// poolCheck asks of database pools whether callers get connections, and whether connections come back.
var poolCheck = Check{
	Name: "database pool",
	Skip: func(e *Evidence) string {
		if len(e.Pools) == 0 {
			return "no figures of a pool are served: publish sql.DB.Stats() by expvar (/debug/vars), or with the collector of client_golang (/metrics); give their address with --metrics if it is another"
		}
		return ""
	},
	Ask: askPools,
}

func askPools(e *Evidence) (list []Finding) {
	byName := map[string][]PoolSample{}
	for _, s := range e.Pools {
		byName[s.Name] = append(byName[s.Name], s)
	}
	for _, name := range sortedKeys(byName) {
		if p := byName[name]; len(p) >= 4 {
			list = append(list, askPool(e, name, p)...)
		}
	}
	return list
}

func askPool(e *Evidence, name string, p []PoolSample) []Finding {
	first, now := p[0], p[len(p)-1]
	full, falls, filled := 0, false, -1
	var times []time.Duration
	var inUse []float64
	for i, s := range p {
		times, inUse = append(times, s.At), append(inUse, float64(s.InUse))
		if s.Max > 0 && s.InUse >= s.Max {
			if full++; filled < 0 {
				filled = i
			}
		}
		falls = falls || i > 0 && s.InUse < p[i-1].InUse
	}
	span := now.At - first.At
	waits, waited := now.Waits-first.Waits, now.Waited-first.Waited
	mean := time.Duration(0)
	if waits > 0 {
		mean = waited / time.Duration(waits)
	}
	figures := []string{
		fmt.Sprintf("in use: %s of at most %s, at %d looks in %s; all in use at %d of them", countsText(inUse), mostText(now.Max), len(p), span.Round(time.Second/10), full),
	}
	if waits > 0 {
		figures = append(figures, fmt.Sprintf("%d callers had to wait meanwhile, %s", waits, meanText(mean)))
	}
	if n := now.Canceled - first.Canceled; n > 0 {
		figures = append(figures, fmt.Sprintf("%d callers gave up waiting", n))
	}
	st := e.settings()

	// In use and never back: their number does not fall once, and nobody works with them.
	t, grows := growsAsCount(workAxis(e, times), inUse)
	since := first.At
	if filled >= 0 {
		since = p[filled].At
	}
	working, waiting, seen := e.databaseGoroutines(since)
	idle := now.InUse > 0 && seen && working == 0
	stays := filled >= 0 && full == len(p)-filled && full*2 >= len(p) // once they were all in use, they remained so
	stands := stays && now.Acquired > 0 && now.Acquired == p[filled].Acquired
	if !falls && now.InUse > 0 && (grows && now.InUse-first.InUse >= 3 || stays && (stands || idle)) {
		f := Finding{Severity: Critical, Confidence: max(0.9, t.confidence), rank: 80, Evidence: figures}
		f.Sentence = fmt.Sprintf("connections of the pool %s are taken and not given back: %d in use, and their number has not fallen once", name, now.InUse)
		if seen {
			f.Evidence = append(f.Evidence, fmt.Sprintf("goroutines that work with a database: %d; that wait for a connection: %d", working, waiting))
		}
		f.Advice = "close rows, commit or roll back transactions, release connections, on every path: defer it right after the error is checked"
		places := e.places()
		var found []unreturned
		for _, kind := range []string{"rows", "transaction", "pooled connection"} {
			found = append(found, e.Source.unreleased(resourceOf(kind), e, places)...)
		}
		// A line where goroutines wait for a connection is one that takes them.
		takes := e.poolWaits(places)
		for i := range found {
			if l := found[i].line; takes[lineKey{slashes(l.File), l.Line}] {
				found[i].weight *= 8
			}
		}
		slices.SortStableFunc(found, func(a, b unreturned) int { return cmp.Compare(b.weight, a.weight) })
		if len(found) > 0 {
			f.Line, f.Related = found[0].line, related(found)
			f.Sentence += "; " + f.Line.String()
		}
		return []Finding{f}
	}
	if full*2 < len(p) || waits == 0 && now.Canceled == first.Canceled {
		return nil
	}
	f := Finding{Severity: Major, Confidence: 0.95, rank: 52, Evidence: figures}
	f.Sentence = fmt.Sprintf("the pool %s is exhausted: all of its %d connections are in use at %d of %d looks, and callers wait %s", name, now.Max, full, len(p), meanText(mean))
	f.Advice = "find the statements that hold connections for long (pg_stat_activity), hold none while waiting for something else, or raise the limit of the pool as far as the database allows"
	if l := st.sizeLine; l.known() {
		f.Line = l
	}
	if st.Statement > 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("a statement may run for %s (%s)", st.Statement, st.statementFrom))
	}
	if st.Wait > 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("a caller waits for up to %s (%s)", st.Wait, st.waitFrom))
	}
	conflict := Line{}
	switch {
	case st.Statement > 0 && mean > st.Statement:
		f.Severity, conflict = Critical, st.statementLine
		f.Sentence += fmt.Sprintf(": longer than a statement may run (%s)", st.Statement)
	case st.Statement > 0 && st.Wait > st.Statement:
		conflict = st.waitLine
		f.Sentence += fmt.Sprintf(": callers wait for up to %s for a connection with which they may work for %s", st.Wait, st.Statement)
		f.Advice = fmt.Sprintf("the two settings conflict: let callers wait no longer than a statement may run (%s), so that they fail early instead of piling up; then see what holds the connections", st.Statement)
	case st.Statement > 0 && st.Wait > 0 && st.Statement > st.Wait:
		conflict = st.statementLine
		f.Sentence += fmt.Sprintf(": a statement may hold its connection for %s, and callers give up after %s", st.Statement, st.Wait)
		f.Advice = fmt.Sprintf("the two settings conflict: let a statement run for less (statement_timeout) than callers wait (%s); a driver whose caller gives up closes the connection, which makes it worse", st.Wait)
	case st.Wait > 0 && mean > st.Wait*3/4:
		conflict = st.waitLine
		f.Severity = Critical
		f.Sentence += fmt.Sprintf(": nearly as long as they wait at all (%s)", st.Wait)
	}
	if conflict.known() {
		if f.Line.known() {
			f.Related = append(f.Related, f.Line)
		}
		f.Line = conflict
	}
	for _, l := range []Line{st.waitLine, st.statementLine} {
		if l.known() && !l.same(f.Line) && !slices.ContainsFunc(f.Related, l.same) {
			f.Related = append(f.Related, l)
		}
	}
	return []Finding{f}
}

// meanText is the mean time of waits, of those that have ended.
func meanText(d time.Duration) string {
	if d == 0 {
		return "without an end so far"
	}
	return d.Round(time.Millisecond).String() + " on average"
}

func mostText(n int) string {
	if n == 0 {
		return "any number"
	}
	return strconv.Itoa(n)
}

// countsText is a series of counts, shortened where they do not change.
func countsText(v []float64) string {
	var t []string
	for i, x := range v {
		if i == 0 || i == len(v)-1 || x != v[i-1] {
			t = append(t, strconv.FormatFloat(x, 'f', -1, 64))
		}
	}
	if len(t) > 12 {
		t = append(append(t[:6:6], "…"), t[len(t)-5:]...)
	}
	return strings.Join(t, ", ")
}

// databaseGoroutines counts the goroutines that have a database at work, the most of any dump since some moment, and those that wait for a
// connection of a pool in the last. seen is false where there is no dump.
func (e *Evidence) databaseGoroutines(since time.Duration) (working, waiting int, seen bool) {
	for i, d := range e.Goroutines {
		if d.At < since && i < len(e.Goroutines)-1 {
			continue
		}
		seen, waiting = true, 0
		busy := 0
		for _, g := range d.Goroutines {
			switch {
			case slices.ContainsFunc(g.Frames, func(f Frame) bool { return isPoolWait(f.Function) }):
				waiting++
			case slices.ContainsFunc(g.Frames, func(f Frame) bool { return isPoolKeeper(f.Function) }):
			case slices.ContainsFunc(g.Frames, func(f Frame) bool { return isDatabaseWork(f.Function) }):
				busy++
			}
		}
		working = max(working, busy)
	}
	return working, waiting, seen
}

// poolWaits are the lines of the program's own at which goroutines wait for a connection of a pool.
func (e *Evidence) poolWaits(p places) map[lineKey]bool {
	lines := map[lineKey]bool{}
	for _, d := range e.Goroutines {
		for _, g := range d.Goroutines {
			i := p.firstOwn(g.Frames)
			if i >= 0 && slices.ContainsFunc(g.Frames[:i], func(f Frame) bool { return isPoolWait(f.Function) }) {
				lines[lineKey{slashes(g.Frames[i].File), g.Frames[i].Line}] = true
			}
		}
	}
	return lines
}

func isPoolWait(function string) bool {
	return function == "database/sql.(*DB).conn" || strings.HasPrefix(function, "github.com/jackc/puddle/") && strings.Contains(function, ".Acquire") || strings.HasPrefix(function, "github.com/jackc/puddle/") && strings.Contains(function, ").acquire")
}

// isPoolKeeper says whether a goroutine is one that a pool or open rows have for themselves.
func isPoolKeeper(function string) bool {
	for _, s := range []string{"connectionOpener", "connectionCleaner", "awaitDone", "backgroundHealthCheck", "triggerHealthCheck"} {
		if strings.HasSuffix(declared(function), s) {
			return true
		}
	}
	return false
}

func isDatabaseWork(function string) bool {
	switch p := packageOf(function); {
	case p == "database/sql":
		return true
	case strings.HasPrefix(p, "github.com/jackc/pgx/") && !strings.Contains(function, "pgxpool.New"):
		return true
	}
	return false
}

// poolSettings are PoolSettings with where they come from.
type poolSettings struct {
	PoolSettings
	sizeLine, waitLine, statementLine Line
	waitFrom, statementFrom           string
}

// settings are what was given, and what the source says otherwise: of several, the longest wait and the longest statement.
func (e *Evidence) settings() poolSettings {
	st := poolSettings{PoolSettings: e.Settings, waitFrom: "as given", statementFrom: "as given"}
	s := e.Source
	if s == nil {
		return st
	}
	for _, name := range sortedKeys(s.files) {
		ast.Inspect(s.files[name], func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.CallExpr:
				pkg, fn := s.callName(x)
				switch {
				case fn == "SetMaxOpenConns" && !st.sizeLine.known():
					st.sizeLine = s.line(x, "the limit of the pool")
				case pkg == "context" && (fn == "WithTimeout" || fn == "WithTimeoutCause") && e.Settings.Wait == 0:
					if d := s.duration(x.Args[min(1, len(x.Args)-1)]); d > st.Wait && s.waitsForPool(x) {
						st.Wait, st.waitLine = d, s.line(x, "how long callers wait")
						st.waitFrom = "context.WithTimeout"
					}
				}
			case *ast.AssignStmt:
				for i, l := range x.Lhs {
					if sel, ok := l.(*ast.SelectorExpr); ok && sel.Sel.Name == "MaxConns" && i < len(x.Rhs) && !st.sizeLine.known() {
						st.sizeLine = s.line(x, "the limit of the pool")
					}
				}
			case *ast.BasicLit:
				if x.Kind != token.STRING || e.Settings.Statement != 0 {
					return true
				}
				if d := s.statementTimeout(x); d > st.Statement {
					st.Statement, st.statementLine = d, s.line(x, "how long a statement may run")
					st.statementFrom = "statement_timeout"
				}
			}
			return true
		})
	}
	return st
}

// duration is the value of a constant of type time.Duration, 0 where it is none.
func (s *Source) duration(x ast.Expr) time.Duration {
	tv, ok := s.info.Types[x]
	if !ok || tv.Value == nil || tv.Value.Kind() != constant.Int {
		return 0
	}
	n, exact := constant.Int64Val(tv.Value)
	if !exact || n < 0 {
		return 0
	}
	return time.Duration(n)
}

// asksPool are the methods of pools that take a connection, with a context.
var asksPool = []string{"QueryContext", "QueryRowContext", "ExecContext", "PrepareContext", "BeginTx", "Conn", "Acquire", "AcquireFunc", "Query", "QueryRow", "Exec", "Begin", "PingContext"}

// waitsForPool says whether the context that a call makes is given to a method that takes a connection of a pool.
func (s *Source) waitsForPool(c *ast.CallExpr) bool {
	a, ok := s.parents[c].(*ast.AssignStmt)
	if !ok || len(a.Lhs) == 0 {
		return false
	}
	id, ok := a.Lhs[0].(*ast.Ident)
	if !ok {
		return false
	}
	o := s.object(id)
	if o == nil {
		return false
	}
	return slices.ContainsFunc(s.uses[o], func(use *ast.Ident) bool {
		call, ok := s.parents[use].(*ast.CallExpr)
		if !ok || len(call.Args) == 0 || call.Args[0] != ast.Expr(use) {
			return false
		}
		pkg, fn := s.callName(call)
		if pkg != "" {
			return false
		}
		_, method := ast.Unparen(call.Fun).(*ast.SelectorExpr)
		return method && slices.Contains(asksPool, fn)
	})
}

var statementPattern = regexp.MustCompile(`(?i)statement_timeout["']?\s*(?:=|to|%3D|:)?\s*["']?(\d+)\s*(ms|s|min|h)?`)

// statementTimeout reads PostgreSQL's setting out of a string of the source: in an address, a statement, or as the key of a value beside it.
func (s *Source) statementTimeout(lit *ast.BasicLit) time.Duration {
	text, err := strconv.Unquote(lit.Value)
	if err != nil || !strings.Contains(text, "statement_timeout") {
		return 0
	}
	if text == "statement_timeout" {
		var value ast.Expr
		switch p := s.parents[lit].(type) {
		case *ast.KeyValueExpr:
			value = p.Value
		case *ast.IndexExpr:
			if a, ok := s.parents[p].(*ast.AssignStmt); ok && len(a.Rhs) == 1 {
				value = a.Rhs[0]
			}
		case *ast.CallExpr: // q.Set("statement_timeout", "5000")
			if i := slices.Index(p.Args, ast.Expr(lit)); i >= 0 && i+1 < len(p.Args) {
				value = p.Args[i+1]
			}
		}
		if tv, ok := s.info.Types[value]; ok && value != nil && tv.Value != nil && tv.Value.Kind() == constant.String {
			text += "=" + constant.StringVal(tv.Value)
		}
	}
	return parseStatementTimeout(text)
}

// parseStatementTimeout reads the setting as PostgreSQL does: milliseconds where no unit is given. It is 0 where there is none.
func parseStatementTimeout(text string) time.Duration {
	m := statementPattern.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseInt(m[1], 10, 40)
	if err != nil {
		return 0
	}
	unit := map[string]time.Duration{"": time.Millisecond, "ms": time.Millisecond, "s": time.Second, "min": time.Minute, "h": time.Hour}[strings.ToLower(m[2])]
	return time.Duration(n) * unit
}
