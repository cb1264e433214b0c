package checker

import (
	"fmt"
	"slices"
	"testing"

	"github.com/longwire/longwire/engine"
)

// data is the publication with that number, as every test publishes it.
func data(n int) []byte { return fmt.Appendf(nil, `{"n":%d,"p":"some text"}`, n) }

// published is a ledger of two channels: kept:1 has offsets 1 to 10 of epoch a with the numbers 1 to 10, then 1 to 3 of epoch b
// with 11 to 13; live:1 has the numbers 1 to 10 in order, without offsets.
func published(t *testing.T) *Ledger {
	t.Helper()
	l := NewLedger([]string{"kept:1", "live:1"})
	for n := 1; n <= 13; n++ {
		p, epoch := &engine.Publication{Data: data(n), Offset: uint64(n)}, "a"
		if n > 10 {
			p.Offset, epoch = uint64(n-10), "b"
		}
		l.Note("kept:1", p, epoch)
	}
	for n := 1; n <= 10; n++ {
		l.Note("live:1", &engine.Publication{Data: data(n)}, "")
	}
	if err := l.Fault(); err != nil {
		t.Fatal(err)
	}
	return l
}

// move is one step of a hand-made trace.
type move func(t *Track) *Violation

func at(epoch string, offset uint64) move {
	return func(t *Track) *Violation {
		return t.Subscribed(Subscription{Positioned: true, Epoch: epoch, Offset: offset})
	}
}

func recovered(epoch string, offset uint64) move {
	return func(t *Track) *Violation {
		return t.Subscribed(Subscription{Asked: true, Recovered: true, Positioned: true, Epoch: epoch, Offset: offset})
	}
}

func unrecovered(epoch string, offset uint64) move {
	return func(t *Track) *Violation {
		return t.Subscribed(Subscription{Asked: true, Positioned: true, Epoch: epoch, Offset: offset})
	}
}

func subscribed(t *Track) *Violation { return t.Subscribed(Subscription{}) }

// got is publications with these offsets and, in the first ten, the numbers that belong to them.
func got(offsets ...int) move {
	return func(t *Track) (first *Violation) {
		for _, o := range offsets {
			if v := t.Publication(uint64(o), "", data(o)); v != nil && first == nil {
				first = v
			}
		}
		return first
	}
}

// had is one publication with data of its own.
func had(offset uint64, epoch string, data []byte) move {
	return func(t *Track) *Violation { return t.Publication(offset, epoch, data) }
}

func cut(t *Track) *Violation { t.Ended("cut"); return nil }

func complete(t *Track) *Violation { return t.Complete() }

// Every way in which a subscriber can be betrayed is seen, and nothing else.
func TestTrack(t *testing.T) {
	for _, c := range []struct {
		name    string
		channel string
		lossy   bool
		moves   []move
		want    []Kind // in order
	}{
		{"all is well", "kept:1", false, []move{at("a", 3), got(4, 5, 6)}, nil},
		{"from the first", "kept:1", false, []move{at("a", 0), got(1, 2, 3)}, nil},
		{"the end of the first stream is not the channel's", "kept:1", false, []move{at("a", 8), got(9, 10), complete}, []Kind{Incomplete}},
		{"complete", "kept:1", false, []move{at("b", 2), had(3, "", data(13)), complete}, nil},
		{"complete without a publication", "kept:1", false, []move{at("b", 3), complete}, nil},
		{"not complete", "kept:1", false, []move{at("b", 1), had(2, "", data(12)), complete}, []Kind{Incomplete}},
		{"no subscription in the end", "kept:1", false, []move{at("b", 3), cut, complete}, []Kind{Incomplete}},

		{"a gap", "kept:1", false, []move{at("a", 3), got(4), got(6), got(7)}, []Kind{Gap}},
		{"a gap at the beginning", "kept:1", false, []move{at("a", 3), got(5)}, []Kind{Gap}},
		{"a publication twice", "kept:1", false, []move{at("a", 3), got(4, 5), got(5), got(6)}, []Kind{Duplicate}},
		{"an old publication again", "kept:1", false, []move{at("a", 3), got(4, 5, 6), got(4)}, []Kind{Duplicate}},
		{"two publications swapped", "kept:1", false, []move{at("a", 3), got(5), got(4), got(6)}, []Kind{Gap, Reorder}},
		{"a publication from before the subscription", "kept:1", false, []move{at("a", 3), got(3)}, []Kind{Reorder}},
		{"data of another publication", "kept:1", false, []move{at("a", 3), had(4, "", data(5))}, []Kind{WrongData}},
		{"data of another epoch", "kept:1", false, []move{at("b", 0), had(1, "", data(1))}, []Kind{WrongData}},
		{"data that was changed", "kept:1", false, []move{at("a", 3), had(4, "", []byte(`{"n":4,"p":"some texT"}`))}, []Kind{WrongData}},
		{"data that was cut off", "kept:1", false, []move{at("a", 3), had(4, "", []byte(`{"n":4,`))}, []Kind{WrongData}},
		{"data that nobody made", "kept:1", false, []move{at("a", 3), had(4, "", data(99))}, []Kind{Unpublished}},
		{"data that is none", "kept:1", false, []move{at("a", 3), had(4, "", nil)}, []Kind{Unpublished}},
		{"an offset behind the end", "kept:1", false, []move{at("a", 10), had(11, "", data(10))}, []Kind{Unpublished}},
		{"a position behind the end", "kept:1", false, []move{at("a", 11)}, []Kind{Unpublished}},
		{"a position in an epoch that there never was", "kept:1", false, []move{at("c", 1)}, []Kind{Unpublished}},
		{"the beginning of an epoch that has nothing yet", "kept:1", false, []move{at("c", 0)}, nil},
		{"another epoch without a word", "kept:1", false, []move{at("a", 10), had(1, "b", data(11))}, []Kind{Gap}},
		{"no offset", "kept:1", false, []move{at("a", 3), had(0, "", data(4))}, []Kind{Reorder}},
		{"after a cut", "kept:1", false, []move{at("a", 3), got(4), cut, got(5)}, []Kind{Stray}},
		{"before the subscription", "kept:1", false, []move{got(1)}, []Kind{Stray}},

		{"recovered", "kept:1", false, []move{at("a", 3), got(4, 5), cut, recovered("a", 5), got(6, 7, 8)}, nil},
		{"recovered twice", "kept:1", false, []move{at("a", 3), got(4), cut, recovered("a", 4), got(5), cut, recovered("a", 5), got(6)}, nil},
		{"not recovered, and told", "kept:1", false, []move{at("a", 3), got(4, 5), cut, unrecovered("a", 9), got(10)}, nil},
		{"not recovered, and it could have been", "kept:1", false, []move{at("a", 3), got(4, 5), cut, unrecovered("a", 8)}, []Kind{Needless}},
		{"not recovered where nothing was missed", "kept:1", false, []move{at("a", 3), got(4, 5), cut, unrecovered("a", 5)}, []Kind{Needless}},
		{"another epoch, and told", "kept:1", false, []move{at("a", 3), got(4, 5), cut, unrecovered("b", 1), had(2, "", data(12))}, nil},
		{"recovered, and something is missing", "kept:1", false, []move{at("a", 3), got(4, 5), cut, recovered("a", 5), got(7)}, []Kind{Gap}},
		{"recovered, and something is missing behind what was", "kept:1", false, []move{at("a", 3), cut, recovered("a", 3), got(4, 5), got(8)}, []Kind{Gap}},
		{"recovered, and something comes again", "kept:1", false, []move{at("a", 3), got(4, 5), cut, recovered("a", 5), got(5)}, []Kind{Reorder}},
		{"recovered and live overlap", "kept:1", false, []move{at("a", 3), cut, recovered("a", 3), got(4, 5, 6), got(6), got(7)}, []Kind{Duplicate}},
		{"recovered from elsewhere", "kept:1", false, []move{at("a", 3), got(4, 5), cut, recovered("a", 7)}, []Kind{FalseRecovery}},
		{"recovered in another epoch", "kept:1", false, []move{at("a", 3), cut, recovered("b", 3)}, []Kind{FalseRecovery}},
		{"recovered without being asked", "kept:1", false, []move{at("a", 3), cut, func(t *Track) *Violation {
			return t.Subscribed(Subscription{Recovered: true, Positioned: true, Epoch: "a", Offset: 3})
		}}, []Kind{FalseRecovery}},
		{"recovered what had no position", "kept:1", false, []move{subscribed, got(4), cut, recovered("a", 4)}, []Kind{FalseRecovery}},
		{"recovered without a position", "kept:1", false, []move{func(t *Track) *Violation {
			return t.Subscribed(Subscription{Asked: true, Recovered: true})
		}}, []Kind{FalseRecovery}},

		{"live", "live:1", false, []move{subscribed, had(0, "", data(3)), had(0, "", data(4))}, nil},
		{"live, complete", "live:1", false, []move{subscribed, had(0, "", data(10)), complete}, nil},
		{"live, not complete", "live:1", false, []move{subscribed, had(0, "", data(9)), complete}, []Kind{Incomplete}},
		{"live: again after a cut", "live:1", false, []move{subscribed, had(0, "", data(3)), cut, subscribed, had(0, "", data(3))}, nil},
		{"live: a gap", "live:1", false, []move{subscribed, had(0, "", data(3)), had(0, "", data(5))}, []Kind{Gap}},
		{"live: lost between nodes", "live:1", true, []move{subscribed, had(0, "", data(3)), had(0, "", data(5))}, nil},
		{"live: twice", "live:1", false, []move{subscribed, had(0, "", data(3)), had(0, "", data(4)), had(0, "", data(3))}, []Kind{Duplicate}},
		{"live: twice at once", "live:1", true, []move{subscribed, had(0, "", data(3)), had(0, "", data(3))}, []Kind{Duplicate}},
		{"live: swapped", "live:1", false, []move{subscribed, had(0, "", data(3)), had(0, "", data(5)), had(0, "", data(4))}, []Kind{Gap, Reorder}},
		{"live: swapped, where some may be lost", "live:1", true, []move{subscribed, had(0, "", data(5)), had(0, "", data(4))}, []Kind{Reorder}},
		{"live: an older one at the beginning", "live:1", false, []move{subscribed, had(0, "", data(5)), had(0, "", data(3))}, []Kind{Reorder}},
		{"live: data that was changed", "live:1", false, []move{subscribed, had(0, "", []byte(`{"n":3}`))}, []Kind{WrongData}},
		{"live: an offset", "live:1", false, []move{subscribed, had(3, "", data(3))}, []Kind{WrongData}},
		{"kept, without a position", "kept:1", false, []move{subscribed, got(3, 4, 5)}, nil},
		{"kept, without a position: an offset of another", "kept:1", false, []move{subscribed, got(3), had(5, "", data(4))}, []Kind{WrongData}},
		{"kept, without a position: a gap", "kept:1", false, []move{subscribed, got(3), got(5)}, []Kind{Gap}},
	} {
		t.Run(c.name, func(t *testing.T) {
			track := &Track{Ledger: published(t), Channel: c.channel, Lossless: !c.lossy, Kept: 3}
			var kinds []Kind
			var all []*Violation
			for _, m := range c.moves {
				if v := m(track); v != nil {
					kinds, all = append(kinds, v.Kind), append(all, v)
				}
			}
			if !slices.Equal(kinds, c.want) {
				t.Errorf("violations %v, want %v\n%v", kinds, c.want, all)
			}
		})
	}
}

// The ledger sees an engine that breaks its contract.
func TestLedgerFinds(t *testing.T) {
	note := func(offset uint64, epoch string, n int) func(*Ledger) {
		return func(l *Ledger) {
			l.Note("kept:1", &engine.Publication{Data: data(n), Offset: offset}, epoch)
		}
	}
	for _, c := range []struct {
		name  string
		notes []func(*Ledger)
		bad   bool
	}{
		{"in order", []func(*Ledger){note(1, "a", 1), note(2, "a", 2), note(1, "b", 3)}, false},
		{"an offset left out", []func(*Ledger){note(1, "a", 1), note(3, "a", 2)}, true},
		{"an offset twice", []func(*Ledger){note(1, "a", 1), note(1, "a", 2)}, true},
		{"a publication twice", []func(*Ledger){note(1, "a", 1), note(2, "a", 1)}, true},
		{"a channel that there is not", []func(*Ledger){func(l *Ledger) { l.Note("other", &engine.Publication{Data: data(1)}, "") }}, true},
		{"data without a number", []func(*Ledger){func(l *Ledger) { l.Note("kept:1", &engine.Publication{Data: []byte("{}")}, "") }}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := NewLedger([]string{"kept:1"})
			for _, n := range c.notes {
				n(l)
			}
			if err := l.Fault(); (err != nil) != c.bad {
				t.Errorf("fault %v, want one: %t", err, c.bad)
			}
		})
	}
}
