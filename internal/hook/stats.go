package hook

// Stats are a Backend's numbers. Each is right, but they are not of one moment.
type Stats struct {
	// Calls has every method with an endpoint, and for each every outcome, always in the same order.
	Calls    []CallStats
	Breaker  State
	InFlight int // calls that have a place
	Waiting  int // calls that wait for one
}

// CallStats counts the calls of one method that had one outcome.
type CallStats struct {
	// Method is connect, refresh, subscribe, sub_refresh, publish or rpc.
	Method string
	// Outcome is ok, error or disconnect for what the backend replied; timeout, connection, status or reply where it
	// failed; busy, open, canceled or refused where it was not to blame.
	Outcome string
	Count   uint64 // since New
}

// Stats is a snapshot.
func (b *Backend) Stats() Stats {
	s := Stats{Breaker: b.breaker.current(), InFlight: len(b.places), Waiting: int(b.waiting.Load())}
	for m := range methods {
		if b.endpoints[m] == nil {
			continue
		}
		for o := range outcomes {
			s.Calls = append(s.Calls, CallStats{Method: m.String(), Outcome: o.String(), Count: b.calls[m][o].Load()})
		}
	}
	return s
}

// count counts one call.
func (b *Backend) count(m method, o outcome) { b.calls[m][o].Add(1) }
