package lab

// printed is the client that the article prints, on a simulated clock: a ping by setInterval, for each ping a timeout that
// counts, and a close at the third. Its pong handler is left out there ("a real one has to clear the timeout"): clears
// puts it in, and has it reset the count.
type printed struct {
	clears bool
}

// The printed constants, in milliseconds.
const (
	printedInterval = 30e3 // HEARTBEAT_INTERVAL
	printedTimeout  = 5e3  // PONG_TIMEOUT
	printedRetries  = 3    // MAX_RETRY
)

// closes is when it closes a line that opened at 0, or never within a day.
func (p printed) closes(l *line) float64 {
	count := 0
	var pongs []float64 // that are under way
	for ping := printedInterval; ping < day; ping += printedInterval {
		pong := l.ask(ping)
		pongs = append(pongs, pong)
		if p.clears && pong <= ping+printedTimeout {
			count, pongs = 0, pongs[:0]
			continue
		}
		// A pong of an earlier ping that comes before the timeout resets the count as well.
		for _, at := range pongs {
			if p.clears && at <= ping+printedTimeout {
				count = 0
			}
		}
		if count++; count >= printedRetries {
			return ping + printedTimeout
		}
	}
	return never
}

// silence is the article's rule for servers: a connection without a ping for limit is closed. The client pings every
// interval. It returns when the first line is closed that lives, or never within a day.
func silence(p *place, interval, limit float64) float64 {
	last, before := 0.0, 0.0
	for ping := interval; ping < day; ping += interval {
		came := max(p.pass(ping), before)
		if came-last > limit {
			return last + limit
		}
		last, before = came, came
	}
	return never
}
