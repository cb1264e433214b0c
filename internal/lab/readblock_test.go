package lab

import (
	"testing"
	"time"
)

// readsFor are figures for the verdicts: of 10 conns of each fate at each server, how many are left.
func readsFor(left map[string][fates]int) *readFigures {
	f := &readFigures{plan: readPlan{peers: 10, limit: 5 * time.Second}, vanish: true, elapsed: 165 * time.Second, of: map[string]*[fates]reads{},
		dialled: dials, dialErr: "timeout", dialIs: dials, dialTook: time.Second, dialLimit: time.Second}
	for _, id := range []string{"bare", "default", "keepalive", "context", "closes", "deadline", "heartbeat", "longwire"} {
		var of [fates]reads
		for k := range fates {
			of[k] = reads{conns: 10, how: map[string]int{}}
			for range 10 - left[id][k] {
				of[k].lives = append(of[k].lives, 5)
				of[k].how["i/o timeout"]++
			}
		}
		f.of[id] = &of
		f.ids, f.ways = append(f.ids, id), append(f.ways, id)
	}
	return f
}

// TestReadblockVerdicts plants figures on both sides of each limit.
func TestReadblockVerdicts(t *testing.T) {
	stay, go3 := [fates]int{10, 10, 10}, [fates]int{}
	today := func() map[string][fates]int { // as it is expected to be
		return map[string][fates]int{"bare": stay, "default": {0, 10, 10}, "context": stay, "closes": go3, "deadline": go3, "heartbeat": {0, 0, 10}, "longwire": {0, 0, 10}}
	}
	with := func(id string, left [fates]int) *readFigures {
		m := today()
		m[id] = left
		return readsFor(m)
	}
	slow := with("closes", go3)
	slow.of["closes"][frozen].lives[0] = 60
	odd := with("deadline", go3)
	odd.of["deadline"][frozen].how = map[string]int{"closed by the server": 10}
	leaky, other, undialled := readsFor(today()), readsFor(today()), readsFor(today())
	leaky.dialLeaked, other.dialIs, undialled.vanish = 1, dials-1, false
	for i, c := range []struct {
		id   string
		f    *readFigures
		want Verdict
	}{
		{"read-blocks", readsFor(today()), HoldsInPart},
		{"read-blocks", with("default", stay), Holds},
		{"read-blocks", with("bare", go3), DoesNotHold},
		{"leak-92", readsFor(today()), HoldsInPart},
		{"leak-92", with("bare", [fates]int{0, 8, 0}), DoesNotHold},
		{"context-5s", readsFor(today()), HoldsInPart},
		{"context-5s", with("context", go3), Holds},
		{"context-5s", slow, DoesNotHold},
		{"context-wraps", readsFor(today()), DoesNotHold},
		{"context-wraps", with("context", go3), Holds},
		{"read-ignores-context", readsFor(today()), Holds},
		{"read-ignores-context", with("context", go3), DoesNotHold},
		{"context-closes", readsFor(today()), HoldsInPart},
		{"context-closes", with("closes", [fates]int{0, 0, 10}), Holds},
		{"context-closes", with("closes", [fates]int{0, 1, 0}), DoesNotHold},
		{"deadline-forces", readsFor(today()), Holds},
		{"deadline-forces", odd, HoldsInPart},
		{"deadline-forces", with("deadline", [fates]int{0, 1, 0}), DoesNotHold},
		{"dial-context", readsFor(today()), Holds},
		{"dial-context", other, HoldsInPart},
		{"dial-context", leaky, DoesNotHold},
		{"dial-context", undialled, NotShown},
	} {
		if got := verdictOf(t, c.f.judge(), c.id); got != c.want {
			t.Errorf("%d %s: %v, want %v", i, c.id, got, c.want)
		}
	}
}

// certain is what becomes of reads, whatever the machine is like: whether those of peers of a fate stay.
var certain = []struct {
	id    string
	k     fate
	stays bool
}{
	{"bare", vanished, true}, {"bare", frozen, true}, {"bare", silent, true},
	{"default", frozen, true}, {"default", silent, true},
	{"keepalive", vanished, false}, {"keepalive", frozen, true},
	{"context", frozen, true},
	{"closes", frozen, false}, {"closes", vanished, false}, {"closes", silent, false},
	{"deadline", frozen, false}, {"deadline", vanished, false},
	{"heartbeat", frozen, false}, {"heartbeat", vanished, false}, {"heartbeat", silent, true},
	{"longwire", frozen, false}, {"longwire", vanished, false}, {"longwire", silent, true},
}

// TestReadblock has peers vanish in a network namespace where there are the rights to make one.
func TestReadblock(t *testing.T) {
	t.Parallel()
	a := openAbyss()
	can := a.supported()
	a.close()
	p := readPlan{peers: 3, limit: 2 * time.Second, window: time.Minute, probe: time.Second}
	p.enough = func(left func(string, fate) int) bool {
		for _, c := range certain {
			if !c.stays && (can || c.k != vanished) && left(c.id, c.k) > 0 {
				return false
			}
		}
		return true
	}
	f, err := readFromTheGone(t.Context(), t.Logf, p)
	if err != nil {
		t.Fatal(err)
	}
	f.tell(planted("readblock"))
	if n := len(f.judge()); n != len(claimsOf("readblock")) {
		t.Errorf("%d verdicts on %d claims", n, len(claimsOf("readblock")))
	}
	for _, c := range certain {
		if c.k == vanished && !f.vanish {
			continue
		}
		x := &f.of[c.id][c.k]
		if want := map[bool]int{true: p.peers, false: 0}[c.stays]; x.conns != p.peers || x.left() != want {
			t.Errorf("%s, %v: %d of %d reads are left, want %d of %d (%v)", c.id, c.k, x.left(), x.conns, want, p.peers, x.how)
		}
	}
	if f.vanish && f.dialled != dials {
		t.Errorf("a dial into nowhere: %s", f.dialErr)
	}
}

// TestAbyssWithoutRights has a connection and a dial go nowhere by socket filters alone.
func TestAbyssWithoutRights(t *testing.T) {
	a := new(abyss)
	if !a.supported() {
		t.Skip("sockets cannot be made to drop what comes on this system")
	}
	f := &readFigures{plan: readPlan{limit: time.Second}}
	if err := f.dialNowhere(t.Context(), a, 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if f.dialled != dials || f.dialErr == "" {
		t.Errorf("a dial into nowhere: %q after %v", f.dialErr, f.dialTook)
	}
}
