package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/longwire/longwire/internal/report"
	"github.com/longwire/longwire/internal/stress"
)

// stressView shows a run under way: some lines that are written over on a terminal, a line every five seconds elsewhere.
type stressView struct {
	w        io.Writer
	quiet    bool
	terminal bool
	drawn    int // lines on the terminal
	last     stress.Sample
	printed  float64 // when the last line was
	target   string
}

func newStressView(w io.Writer, quiet bool, s stress.Script) *stressView {
	v := &stressView{w: w, quiet: quiet, target: s.Target, printed: -1}
	if f, ok := w.(*os.File); ok {
		if fi, err := f.Stat(); err == nil {
			v.terminal = fi.Mode()&os.ModeCharDevice != 0
		}
	}
	return v
}

// show takes a sample.
func (v *stressView) show(x stress.Sample) {
	before := v.last
	v.last = x
	switch {
	case v.quiet:
	case v.terminal:
		v.draw(v.lines(before, x))
	case x.Stage != before.Stage || x.At-v.printed >= 5 || v.printed < 0:
		v.printed = x.At
		fmt.Fprintln(v.w, v.line(before, x))
	}
}

// end leaves the cursor below what is drawn.
func (v *stressView) end() {
	if v.drawn > 0 {
		fmt.Fprintln(v.w)
	}
	v.drawn = 0
}

// line is a sample in one line.
func (v *stressView) line(before, x stress.Sample) string {
	b := fmt.Sprintf("%6.1f s  %-5s  conns %d of %d", x.At, x.Stage, x.Open, x.Wanted)
	if x.Pending > 0 {
		b += fmt.Sprintf(", %d opening", x.Pending)
	}
	if d := x.At - before.At; d > 0 && x.Sent > 0 {
		b += fmt.Sprintf("  %.0f/s", float64(x.Done-before.Done)/d)
	}
	if l := x.Latency; l != nil {
		b += fmt.Sprintf("  p50 %s  p99 %s  max %s", report.Micros.Format(l.P50), report.Micros.Format(l.P99), report.Micros.Format(l.Max))
	} else if c := x.Connect; c != nil {
		b += fmt.Sprintf("  connect p50 %s  p99 %s", report.Micros.Format(c.P50), report.Micros.Format(c.P99))
	}
	if e := stress.ErrorsText(x.Errors); e != "" {
		b += "  errors: " + e
	}
	return b
}

// lines is a sample in some lines for a terminal.
func (v *stressView) lines(before, x stress.Sample) []string {
	d := x.At - before.At
	perSecond := func(now, then int64) float64 {
		if d <= 0 {
			return 0
		}
		return float64(now-then) / d
	}
	all := []string{
		fmt.Sprintf("%s  %.0f s  %s", v.target, x.At, x.Stage),
		fmt.Sprintf("  conns     %d of %d, %d opening, %.0f/s opened  %d failed  %d lost", x.Open, x.Wanted, x.Pending, perSecond(x.Opened, before.Opened), x.Failed, x.Lost),
	}
	if x.Connect != nil {
		all = append(all, fmt.Sprintf("  connect   p50 %s  p99 %s  max %s", report.Micros.Format(x.Connect.P50), report.Micros.Format(x.Connect.P99), report.Micros.Format(x.Connect.Max)))
	}
	if x.Sent > 0 {
		rate := fmt.Sprintf("  exchanges %.0f/s", perSecond(x.Done, before.Done))
		if x.Rate > 0 {
			rate += fmt.Sprintf(" of %.0f/s due", x.Rate)
		}
		if x.Delivered > 0 {
			rate += fmt.Sprintf("  %.0f/s delivered", perSecond(x.Delivered, before.Delivered))
		}
		all = append(all, rate)
	}
	if l := x.Latency; l != nil {
		all = append(all, fmt.Sprintf("  latency   p50 %s  p90 %s  p99 %s  p99.9 %s  max %s", report.Micros.Format(l.P50), report.Micros.Format(l.P90), report.Micros.Format(l.P99), report.Micros.Format(l.P999), report.Micros.Format(l.Max)))
	}
	if k := x.Kernel; k != nil && k.SynRetrans+k.ListenOverflows+k.Timeouts+k.MemoryPressures > 0 {
		all = append(all, fmt.Sprintf("  kernel    SYN retransmits %d  accept queue overflows %d  timeouts %d  TIME_WAIT %d", k.SynRetrans, k.ListenOverflows, k.Timeouts, k.TimeWait))
	}
	if t := x.Server; t != nil && t.Resident > 0 {
		all = append(all, fmt.Sprintf("  server    %d MB resident, %.0f %% CPU", t.Resident>>20, 100*serverCPU(before, x)))
	}
	if e := stress.ErrorsText(x.Errors); e != "" {
		all = append(all, "  errors    "+e)
	}
	return all
}

func serverCPU(before, x stress.Sample) float64 {
	if before.Server == nil || x.At <= before.At {
		return 0
	}
	return max(0, x.Server.CPU-before.Server.CPU) / (x.At - before.At)
}

// draw writes lines over those before.
func (v *stressView) draw(lines []string) {
	var b strings.Builder
	if v.drawn > 0 {
		fmt.Fprintf(&b, "\r\033[%dA", v.drawn)
	}
	for _, l := range lines {
		b.WriteString(l + "\033[K\n")
	}
	b.WriteString("\033[J")
	v.drawn = len(lines)
	_, _ = io.WriteString(v.w, b.String())
}
