package metrics_test

import (
	"strings"
	"testing"

	"github.com/longwire/longwire/internal/metrics"
	"github.com/longwire/longwire/internal/otlp"
	"github.com/longwire/longwire/internal/sampling"
)

// TestJournal: each number is where it belongs.
func TestJournal(t *testing.T) {
	tail := sampling.TailStats{Lines: 1, Bytes: 2, Dropped: 3, Expired: 4, Crowded: 5}
	j := metrics.Journal(func() (uint64, uint64) { return 6, 7 })
	s := metrics.Sampling(func() sampling.Stats {
		return sampling.Stats{Untraced: 8, Traced: 9, Below: 10, TailStats: tail}
	})
	o := metrics.OTLP(func() otlp.Stats {
		return otlp.Stats{Sent: 11, Crowded: 12, Refused: 13, Failed: 14, Waiting: 15, Requests: map[string]uint64{"ok": 16, "partial": 17, "retry": 18, "refused": 19, "broken": 20}}
	}, func() sampling.TailStats { return tail })
	page := string(text(t, j, s, o))
	for _, want := range []string{
		"longwire_journal_entries_total 6", "longwire_journal_lost_total 7",
		`longwire_log_lines_total{outcome="written"} 9`, `longwire_log_lines_total{outcome="general"} 8`, `longwire_log_lines_total{outcome="below"} 10`,
		`longwire_log_lines_total{outcome="sampled"} 3`, `longwire_log_lines_total{outcome="expired"} 4`, `longwire_log_lines_total{outcome="crowded"} 5`,
		"longwire_log_held_lines 1", "longwire_log_held_bytes 2",
		`longwire_otlp_spans_total{outcome="sent"} 11`, `longwire_otlp_spans_total{outcome="sampled"} 3`, `longwire_otlp_spans_total{outcome="expired"} 4`,
		`longwire_otlp_spans_total{outcome="crowded"} 5`, `longwire_otlp_spans_total{outcome="full"} 12`, `longwire_otlp_spans_total{outcome="refused"} 13`,
		`longwire_otlp_spans_total{outcome="failed"} 14`, `longwire_otlp_requests_total{outcome="ok"} 16`, `longwire_otlp_requests_total{outcome="partial"} 17`,
		`longwire_otlp_requests_total{outcome="retry"} 18`, `longwire_otlp_requests_total{outcome="refused"} 19`, `longwire_otlp_requests_total{outcome="broken"} 20`,
		"longwire_otlp_waiting_bytes 15",
	} {
		if !strings.Contains(page, want+"\n") {
			t.Errorf("there is no %s in\n%s", want, page)
		}
	}
	for _, c := range []metrics.Collector{j, s, o} {
		lint(t, c)
	}
}
