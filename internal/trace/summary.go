package trace

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// Tally counts ends by verdict. It is for one goroutine: that of Run, in Options.Handle.
type Tally struct {
	ends        [verdicts]uint64
	retransmits uint64
}

// Add counts an event if it is an end.
func (t *Tally) Add(e *Event) {
	if e.Kind == KindEnded {
		t.ends[e.Life.Verdict()]++
		t.retransmits += uint64(e.Life.Retransmits)
	}
}

// Summary is what happened to the connections of a port in a span of time.
type Summary struct {
	Level       Level          `json:"level"`
	Port        uint16         `json:"port"`
	Seconds     float64        `json:"seconds"`
	States      map[string]int `json:"states"`      // how many connections are in each at the end, listeners left out
	Transitions []Transition   `json:"transitions"` // the most frequent first; at level diag as far as they were looked at
	Endings     []Ending       `json:"endings"`     // the most frequent first
	Retransmits uint64         `json:"retransmits"` // segments that were sent anew, of connections that ended
	Events      uint64         `json:"events"`
	Lost        uint64         `json:"lost"` // events for which there was no room
}

// Transition is how often connections went from one state to another.
type Transition struct {
	From      string  `json:"from"`
	To        string  `json:"to"`
	Count     uint64  `json:"count"`
	PerSecond float64 `json:"per_second"`
}

// Ending is how many connections ended for one cause.
type Ending struct {
	Verdict   Verdict `json:"verdict"`
	Count     uint64  `json:"count"`
	PerSecond float64 `json:"per_second"`
}

// Summary sums up what was seen in a time that ends now, of a tracer with Options.Port. Run has returned.
func (t *Tracer) Summary(seen *Tally, took time.Duration) (Summary, error) {
	s := Summary{Level: t.level, Port: t.port, Seconds: took.Seconds(), States: make(map[string]int), Transitions: []Transition{}, Endings: []Ending{}, Retransmits: seen.retransmits}
	stats, err := t.Stats()
	if err != nil {
		return s, err
	}
	s.Events, s.Lost = stats.Events, stats.Lost
	if t.diag == nil {
		return s, errors.New("trace: the kernel does not list its sockets, or the tracer is not one of a port")
	}
	states, err := t.diag.States(t.port, 0)
	if err != nil {
		return s, fmt.Errorf("trace: %w", err)
	}
	for state, n := range states {
		if n > 0 && sys.SocketState(state) != sys.SocketListening {
			s.States[sys.SocketState(state).String()] = n
		}
	}
	for from, row := range stats.Transitions {
		for to, n := range row {
			if n > 0 {
				s.Transitions = append(s.Transitions, Transition{sys.SocketState(from).String(), sys.SocketState(to).String(), n, float64(n) / took.Seconds()})
			}
		}
	}
	slices.SortStableFunc(s.Transitions, func(a, b Transition) int { return cmp.Compare(b.Count, a.Count) })
	for v, n := range seen.ends {
		if n > 0 {
			s.Endings = append(s.Endings, Ending{Verdict(v), n, float64(n) / took.Seconds()})
		}
	}
	slices.SortStableFunc(s.Endings, func(a, b Ending) int { return cmp.Compare(b.Count, a.Count) })
	return s, nil
}

// WriteText writes it for people.
func (s Summary) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "port %d, %.1f s, level %s: %d events, %d lost\n", s.Port, s.Seconds, s.Level, s.Events, s.Lost)
	fmt.Fprintf(w, "\nstates now\n")
	if len(s.States) == 0 {
		fmt.Fprintln(w, "  none")
	}
	for state := range sys.SocketClosing + 1 {
		if n, ok := s.States[state.String()]; ok {
			fmt.Fprintf(w, "  %s\t%d\n", state, n)
		}
	}
	fmt.Fprintf(w, "\ntransitions\tcount\tper second\n")
	if len(s.Transitions) == 0 {
		fmt.Fprintln(w, "  none")
	}
	for _, t := range s.Transitions {
		fmt.Fprintf(w, "  %s → %s\t%d\t%.1f\n", t.From, t.To, t.Count, t.PerSecond)
	}
	fmt.Fprintf(w, "\nendings\tcount\tper second\n")
	if len(s.Endings) == 0 {
		fmt.Fprintln(w, "  none")
	}
	for _, e := range s.Endings {
		fmt.Fprintf(w, "  %s\t%d\t%.1f\n", e.Verdict, e.Count, e.PerSecond)
	}
	fmt.Fprintf(w, "\nsegments sent anew, of those that ended\t%d\n", s.Retransmits)
	return w.Flush()
}
