package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// timeWait is how long the kernel keeps a connection in TIME_WAIT, and its port with it.
const timeWait = 60 * time.Second

// askSockets looks at what the kernel does for the program before it has a connection, and after it.
func askSockets(e *Evidence, at axis, p places) (list []Finding) {
	list = append(list, askQueues(e, at, p)...)
	list = append(list, askHalfOpen(e)...)
	return append(list, askDialled(e, p)...)
}

// listenerSeries is one listener at all looks since it was there.
type listenerSeries struct {
	now   ListenerSample
	queue []float64
	lost  []float64 // handshakes whose SYN-ACK was sent again
}

// listenerSeriesOf are the listeners that are there at every look, the one with the longest queue first.
func listenerSeriesOf(e *Evidence) (list []*listenerSeries) {
	now, _ := last(e.Process)
	for _, l := range now.Network.Listeners {
		x := &listenerSeries{now: l}
		for _, s := range e.Process {
			i := slices.IndexFunc(s.Network.Listeners, func(o ListenerSample) bool { return o.Inode == l.Inode })
			if i < 0 {
				break
			}
			x.queue = append(x.queue, float64(s.Network.Listeners[i].Queue))
			x.lost = append(x.lost, float64(s.Network.Listeners[i].Unanswered))
		}
		if len(x.queue) == len(e.Process) {
			list = append(list, x)
		}
	}
	slices.SortStableFunc(list, func(a, b *listenerSeries) int { return cmp.Compare(b.now.Queue, a.now.Queue) })
	return list
}

// askQueues looks for a listener whose connections the program does not accept, or not as fast as they come.
func askQueues(e *Evidence, at axis, p places) []Finding {
	const few = 20 // that may be there at any look of a program that accepts
	for _, l := range listenerSeriesOf(e) {
		backlog := float64(e.Network.Backlogs[l.now.Inode])
		full := 0
		for _, n := range l.queue {
			if backlog > 0 && n > backlog { // the kernel takes one more than it is asked to
				full++
			}
		}
		t, grows := growsAsCount(at, l.queue)
		stands := slices.Min(l.queue) >= few && !t.fell
		f := Finding{Severity: Major, Confidence: max(t.confidence, 0.95), rank: 66}
		switch {
		case full*2 >= len(l.queue):
			f.Severity, f.rank = Critical, 25
			f.Sentence = fmt.Sprintf("the accept queue of %s is full: %d connections wait, its limit is %.0f, and the kernel drops others", l.now.Addr, l.now.Queue, backlog)
		case grows && l.now.Queue >= few:
			f.Sentence = fmt.Sprintf("connections to %s wait to be accepted, more and more: %d now, %.0f at first", l.now.Addr, l.now.Queue, l.queue[0])
		case stands:
			f.Sentence = fmt.Sprintf("connections to %s wait to be accepted: %d now, %.0f or more at every look", l.now.Addr, l.now.Queue, slices.Min(l.queue))
		default:
			continue
		}
		f.Evidence = []string{fmt.Sprintf("in wait at the looks: %.0f; limit of the queue: %s", l.queue, orUnknown(backlog))}
		first, now := e.Process[0].Network, e.Process[len(e.Process)-1].Network
		if n := now.Overflows - min(first.Overflows, now.Overflows); n > 0 {
			f.Evidence = append(f.Evidence, fmt.Sprintf("accept queues of the network namespace were full %d times meanwhile (ListenOverflows)", n))
		}
		if l.now.HalfOpen > 0 {
			f.Evidence = append(f.Evidence, fmt.Sprintf("%d connections are half-open (SYN_RECV), as long as the queue has no room for them", l.now.HalfOpen))
		}
		f.Advice = "accept in a loop that does nothing else and hand each connection on; a longer queue (somaxconn) helps against bursts only"
		line, says, more := e.Source.acceptor(e, p)
		if f.Line, f.Related = line, more; says != "" {
			f.Sentence += "; " + says + ": " + line.String()
		}
		return []Finding{f} // the others wait for the same program
	}
	return nil
}

func orUnknown(n float64) string {
	if n == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.0f", n)
}

// askHalfOpen looks for handshakes that the peers do not end.
func askHalfOpen(e *Evidence) (list []Finding) {
	const many = 50
	for _, l := range listenerSeriesOf(e) {
		half := l.lost[len(l.lost)/2:]
		// One is sent again after a second: of those that are on their way, however many, none was.
		if slices.Min(half) < many {
			continue
		}
		if backlog := float64(e.Network.Backlogs[l.now.Inode]); backlog > 0 && float64(l.now.Queue) > backlog {
			continue // they wait for room in the accept queue, which is a finding
		}
		f := Finding{Severity: Major, Confidence: 0.95, rank: 50}
		f.Sentence = fmt.Sprintf("%d connections to %s are half-open (SYN_RECV): their peers do not answer the server's SYN-ACK", l.now.Unanswered, l.now.Addr)
		f.Evidence = []string{fmt.Sprintf("handshakes whose SYN-ACK was sent again, at the looks: %.0f", l.lost)}
		first, now := e.Process[0].Network, e.Process[len(e.Process)-1].Network
		if n := now.SynCookies - min(first.SynCookies, now.SynCookies); n > 0 {
			f.Evidence = append(f.Evidence, fmt.Sprintf("the kernel answered %d others by cookies meanwhile, without remembering them", n))
		}
		if n := now.SynQueueDrops - min(first.SynQueueDrops, now.SynQueueDrops); n > 0 {
			f.Evidence = append(f.Evidence, fmt.Sprintf("and dropped %d", n))
		}
		f.Advice = "the program can do nothing about it: look for packets that are lost on one way only (firewall, routes, a load balancer that answers elsewhere), or for a flood of SYNs; net.ipv4.tcp_syncookies=1 keeps it from shutting others out"
		list = append(list, f)
	}
	return list
}

// askDialled looks for addresses to which the program dials again and again instead of keeping connections, until there is no port left.
func askDialled(e *Evidence, p places) []Finding {
	now, _ := last(e.Process)
	ports := cmp.Or(float64(e.Network.Ports), 28232) // the kernel's own setting, where it is not known
	took := (now.At - e.Process[0].At).Seconds()
	if took <= 0 {
		return nil
	}
	type remote struct {
		addr    netip.AddrPort
		counts  []float64
		held    float64 // in the long run
		seen    bool    // the process had a connection to it that it dialled
		self    bool    // the process listens there
		shared  int     // at so many looks another process had one
		dialled float64 // at least so many meanwhile
	}
	elsewhere := false // the process has connections that it dialled, to whatever address
	for _, s := range e.Process {
		elsewhere = elsewhere || len(s.Network.Dialled) > 0
	}
	var list []remote
	for addr, n := range now.Network.Spent {
		r := remote{addr: addr}
		for _, s := range e.Process {
			r.counts = append(r.counts, float64(s.Network.Spent[addr]))
			r.seen = r.seen || s.Network.Dialled[addr] > 0
			if s.Network.Shared[addr] {
				r.shared++
			}
		}
		r.self = slices.ContainsFunc(now.Network.Listeners, func(l ListenerSample) bool { return l.serves(addr) })
		more := max(0, float64(n)-r.counts[0])
		r.held = max(float64(n), more/took*timeWait.Seconds())
		r.dialled = max(more, float64(n)*min(1, took/timeWait.Seconds()))
		// Many a healthy program dials some times a second. Half of the ports is more than 200 times, without end.
		if n < 50 || r.held < ports/2 || falls(r.counts) || !r.seen && (more < 50 || !r.self && (r.shared > 1 || elsewhere)) {
			continue
		}
		rises := 0
		for i := range r.counts[1:] {
			if r.counts[i+1] > r.counts[i] {
				rises++
			}
		}
		if rises*3 < len(r.counts) {
			continue // a rush, or what is left of one: where dialling goes on, some end and others come
		}
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b remote) int {
		rank := func(r remote) int {
			switch {
			case r.seen:
				return 2
			case r.self:
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(rank(b), rank(a)), cmp.Compare(b.held, a.held), a.addr.Compare(b.addr))
	})
	d := dialsOf(e, p)
	// The kernel does not tell whose they were. Who dials so often is likely to be seen at it, and it allocates. Who is not seen at any dial, and
	// allocates for as many, is it where nobody else is seen; or where it listens itself, since then it is one of the two ends anyway.
	list = slices.DeleteFunc(list, func(r remote) bool {
		if r.seen {
			return d.bytes == 0 && d.rate > 0 && r.dialled*leastDial > 4*float64(d.rate)
		}
		return d.bytes < r.dialled*leastDial/2
	})
	if len(list) == 0 {
		return nil
	}
	r := list[0]
	n := r.counts[len(r.counts)-1]
	f := Finding{Severity: Minor, Confidence: 0.95, rank: 40}
	f.Sentence = fmt.Sprintf("%.0f connections to %s that were closed hold a local port each (TIME_WAIT): the program dials anew about %.0f times a second", n, r.addr, r.held/timeWait.Seconds())
	f.Evidence = []string{fmt.Sprintf("at the looks: %.0f; each stays for a minute, so that %.0f are held in the long run, and %.0f ports are there for an address", r.counts, r.held, ports)}
	if !r.seen {
		f.Evidence = append(f.Evidence, "the process was seen with none of them: that they are its own follows from what dialling allocated meanwhile")
	}
	reuse := e.Network.TimeWaitReuse
	switch {
	case reuse == 1 || reuse == 2 && r.addr.Addr().IsLoopback():
		f.Evidence = append(f.Evidence, fmt.Sprintf("the kernel gives such a port out again after a second (tcp_tw_reuse is %d): they do not run out, but each call waits for a handshake", reuse))
	case n >= ports*0.9:
		f.Severity, f.rank = Critical, 22
		f.Sentence += "; there is hardly one left, and to dial fails (cannot assign requested address)"
	case r.held >= ports:
		f.Severity, f.rank = Major, 58
		f.Sentence += "; the ports run out"
	default:
		f.Severity, f.rank = Major, 57
		f.Sentence += "; that takes more than half of the ports"
	}
	for _, o := range list[1:] {
		if o.seen {
			f.Evidence = append(f.Evidence, fmt.Sprintf("to %s: %.0f now", o.addr, o.counts[len(o.counts)-1]))
		}
	}
	why := ""
	f.Line, f.Related, why, f.Advice = e.Source.redials(e, p, d)
	if why != "" {
		f.Sentence += "; " + why + ": " + f.Line.String()
	}
	return []Finding{f}
}
