package checker

import (
	"fmt"
	"strings"

	"github.com/longwire/longwire/engine"
)

// Kind is what is wrong.
type Kind uint8

// The kinds.
const (
	Gap           Kind = iota // a publication is missing, and nobody was told
	Duplicate                 // a publication came twice within a subscription
	Reorder                   // a publication came that is older than what the subscription had
	WrongData                 // the data is not what was published there
	Unpublished               // a position or publication that there never was
	FalseRecovery             // recovered, it said, and was not
	Stray                     // a publication without a subscription
	Incomplete                // the end never came
	Late                      // a publisher was answered before it had its own publication
	Ended                     // a connection ended for no good reason
	Broken                    // the server does not keep to the protocol
	Needless                  // a subscription was interrupted, or not recovered, for no reason

	kinds
)

// String is the kind in a word or two.
func (k Kind) String() string {
	return [kinds]string{"gap", "duplicate", "reorder", "wrong data", "unpublished", "false recovery", "stray", "incomplete",
		"late", "ended", "broken", "needless"}[k]
}

// Violation is one thing that must not happen.
type Violation struct {
	Kind    Kind
	Client  int
	Channel string // empty: it is no channel's
	Detail  string
}

// Error says it in words.
func (v *Violation) Error() string {
	return fmt.Sprintf("%v: client %d, channel %q: %s", v.Kind, v.Client, v.Channel, v.Detail)
}

// Track is what one client has seen of one channel, and the judge of it. It is fed with what the client receives, in
// order; its methods return what is wrong with that, nil where nothing is. It goes on after a violation from where
// it stands then. It belongs to one goroutine.
type Track struct {
	Ledger  *Ledger
	Client  int
	Channel string
	// Lossless says that nothing is lost between the engine and the node, so that a subscription without a position
	// has no gap either.
	Lossless bool
	// Kept is how many publications of the channel surely are in its history, if there are that many: a recovery of so
	// many cannot fail but with the epoch. Zero: nobody knows.
	Kept uint64

	live       bool
	positioned bool
	known      bool   // there is a position to recover from
	epoch      string // of the stream, where it is positioned
	start      uint64 // where the span began, or went on after a cut
	last       uint64 // offset that was seen last
	missing    map[uint64]bool
	place      int // in the ledger, of what was seen last in this span; -1: nothing was
	from       int // in the ledger, of what was seen first in this span; -1: nothing was
	trace      [24]step
	steps      int
}

// step is one thing that happened, for whoever has to find out why.
type step struct {
	what   string
	epoch  string
	offset uint64
	place  int
}

func (t *Track) note(what, epoch string, offset uint64, place int) {
	t.trace[t.steps%len(t.trace)] = step{what, epoch, offset, place}
	t.steps++
}

func (t *Track) violation(k Kind, format string, args ...any) *Violation {
	var b strings.Builder
	fmt.Fprintf(&b, format, args...)
	b.WriteString("; before:")
	for i := max(0, t.steps-len(t.trace)); i < t.steps; i++ {
		s := &t.trace[i%len(t.trace)]
		fmt.Fprintf(&b, " %s %s/%d@%d", s.what, s.epoch, s.offset, s.place)
	}
	return &Violation{Kind: k, Client: t.Client, Channel: t.Channel, Detail: b.String()}
}

// Since is where a recovery is to begin; false: no position is known.
func (t *Track) Since() (engine.Position, bool) {
	return engine.Position{Epoch: t.epoch, Offset: t.last}, t.known
}

// Live reports whether there is a subscription.
func (t *Track) Live() bool { return t.live }

// Subscription is what a client is told of a new subscription.
type Subscription struct {
	Asked      bool // the client asked for recovery, from what Since returned
	Recovered  bool
	Positioned bool
	Epoch      string // where it is positioned
	Offset     uint64 // where it is positioned: what comes next has the offset after it
}

// Subscribed begins a span. The publications that come with it follow by Publication.
func (t *Track) Subscribed(s Subscription) *Violation {
	what := "subscribed"
	if s.Recovered {
		what = "recovered"
	} else if s.Asked {
		what = "unrecovered"
	}
	before := engine.Position{Epoch: t.epoch, Offset: t.last}
	known := t.known
	t.live, t.positioned, t.place, t.from, t.missing = true, s.Positioned, -1, -1, nil
	t.note(what, s.Epoch, s.Offset, 0)
	if !s.Positioned {
		t.known = false
		if s.Recovered {
			return t.violation(FalseRecovery, "recovered a subscription that has no position")
		}
		return nil
	}
	t.known, t.epoch, t.start, t.last = true, s.Epoch, s.Offset, s.Offset
	if s.Recovered {
		switch {
		case !s.Asked || !known:
			return t.violation(FalseRecovery, "recovered, which nobody asked for")
		case before.Epoch != "" && s.Epoch != before.Epoch:
			return t.violation(FalseRecovery, "recovered in epoch %s from a position in %s", s.Epoch, before.Epoch)
		case s.Offset != before.Offset:
			return t.violation(FalseRecovery, "recovered from %d, and %d was seen last", s.Offset, before.Offset)
		}
	}
	if s.Asked && !s.Recovered && known && s.Epoch == before.Epoch && s.Offset >= before.Offset && s.Offset-before.Offset <= t.Kept {
		return t.violation(Needless, "not recovered from %d, and the end is %d", before.Offset, s.Offset)
	}
	if _, ok := t.Ledger.at(t.Channel, s.Epoch, s.Offset); !ok && s.Offset != 0 {
		return t.violation(Unpublished, "subscribed at %d of epoch %s, which there never was", s.Offset, s.Epoch)
	}
	return nil
}

// Publication is one that was received, its data whole. epoch is empty where the message does not tell it.
func (t *Track) Publication(offset uint64, epoch string, data []byte) *Violation {
	place, its, same, ok := t.Ledger.find(t.Channel, data)
	defer func() { t.note("got", epoch, offset, place) }()
	switch {
	case !t.live:
		return t.violation(Stray, "publication %d without a subscription", offset)
	case !ok:
		return t.violation(Unpublished, "publication %d is %.60q, which nobody published", offset, data)
	case !same:
		return t.violation(WrongData, "publication %d is %.60q (%d bytes), not what was published with that number", offset, data, len(data))
	}
	var v *Violation
	switch {
	case t.positioned:
		v = t.next(offset, epoch, place)
	case offset != its:
		v = t.violation(WrongData, "publication %d was published with offset %d", offset, its)
	default:
		v = t.following(offset, place)
	}
	if t.from < 0 {
		t.from = place
	}
	t.place = max(t.place, place)
	return v
}

// next judges a publication of a positioned subscription.
func (t *Track) next(offset uint64, epoch string, place int) *Violation {
	if epoch != "" && epoch != t.epoch {
		return t.violation(Gap, "publication %d of epoch %s in a subscription of %s", offset, epoch, t.epoch)
	}
	switch {
	case offset == t.last+1:
		t.last = offset
	case offset > t.last+1:
		if t.missing == nil {
			t.missing = make(map[uint64]bool)
		}
		for o := t.last + 1; o < offset && len(t.missing) < 1000; o++ {
			t.missing[o] = true
		}
		last := t.last
		t.last = offset
		return t.violation(Gap, "publication %d after %d", offset, last)
	case offset > t.start && !t.missing[offset]:
		return t.violation(Duplicate, "publication %d again, after %d", offset, t.last)
	default:
		delete(t.missing, offset)
		return t.violation(Reorder, "publication %d after %d in a subscription that began at %d", offset, t.last, t.start)
	}
	want, ok := t.Ledger.at(t.Channel, t.epoch, offset)
	switch {
	case !ok:
		return t.violation(Unpublished, "publication %d of epoch %s, which there never was", offset, t.epoch)
	case want != place:
		return t.violation(WrongData, "publication %d of epoch %s has the data of another: the one at %d, not at %d", offset, t.epoch, place, want)
	}
	return nil
}

// following judges a publication of a subscription without a position: by its place among all.
func (t *Track) following(offset uint64, place int) *Violation {
	at := uint64(place)
	switch {
	case t.place < 0, place == t.place+1:
	case place > t.place:
		if !t.Lossless {
			return nil
		}
		if t.missing == nil {
			t.missing = make(map[uint64]bool)
		}
		for p := t.place + 1; p < place && len(t.missing) < 1000; p++ {
			t.missing[uint64(p)] = true
		}
		return t.violation(Gap, "publication %d is at place %d, the last was at %d", offset, place, t.place)
	case place == t.place, t.Lossless && place >= t.from && !t.missing[at]:
		return t.violation(Duplicate, "publication %d at place %d again, after %d", offset, place, t.place)
	default:
		delete(t.missing, at)
		return t.violation(Reorder, "publication %d at place %d after %d", offset, place, t.place)
	}
	return nil
}

// Ended ends the span: by a cut, by the client or because the server told so. What was seen stays what can be recovered
// from.
func (t *Track) Ended(why string) {
	if t.live {
		t.note(why, t.epoch, t.last, t.place)
	}
	t.live = false
}

// Has reports whether the live subscription has seen the publication at that place or one after it.
func (t *Track) Has(place int) bool { return t.place >= place }

// Complete judges the end: nothing is published any more, and all that was has had its time. It is nil when the
// subscription has seen the last publication.
func (t *Track) Complete() *Violation {
	top, n := t.Ledger.Top(t.Channel)
	switch {
	case !t.live:
		return t.violation(Incomplete, "there is no subscription")
	case t.positioned && (t.epoch != top.Epoch || t.last != top.Offset):
		return t.violation(Incomplete, "it stands at %d of epoch %s, the channel at %d of %s", t.last, t.epoch, top.Offset, top.Epoch)
	case !t.positioned && t.place != n-1:
		return t.violation(Incomplete, "it stands at place %d, the last is %d", t.place, n-1)
	}
	return nil
}
