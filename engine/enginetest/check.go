package enginetest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/longwire/longwire/engine"
)

// checkEpoch holds an epoch to what Position says of it.
func checkEpoch(epoch string) error {
	if len(epoch) < 1 || len(epoch) > 32 {
		return fmt.Errorf("epoch %q has %d characters, want 1 to 32", epoch, len(epoch))
	}
	for _, c := range []byte(epoch) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return fmt.Errorf("epoch %q needs an escape in JSON", epoch)
		}
	}
	return nil
}

// checkNumbers holds what the first publishers of a stream were told, in any order, to 1, 2, 3… in one epoch.
func checkNumbers(list []engine.Published) error {
	offsets := make([]uint64, len(list))
	for i, r := range list {
		if r.Repeated {
			return fmt.Errorf("publication %d is told to be repeated", r.Offset)
		}
		if r.Epoch != list[0].Epoch {
			return fmt.Errorf("epochs %q and %q in one stream", list[0].Epoch, r.Epoch)
		}
		offsets[i] = r.Offset
	}
	if len(list) > 0 {
		if err := checkEpoch(list[0].Epoch); err != nil {
			return err
		}
	}
	slices.Sort(offsets)
	for i, o := range offsets {
		if o != uint64(i)+1 {
			return fmt.Errorf("offsets are not 1 to %d: %d is at place %d", len(list), o, i+1)
		}
	}
	return nil
}

// checkDeliveries holds what a handler was given of a stream, from its beginning, to the order of offsets, without gap
// and in one epoch, and to no publication twice. What has no offset and no epoch is left out.
func checkDeliveries(events []event, epoch string) error {
	var last uint64
	seen := make(map[string]bool)
	for _, e := range events {
		if e.kind != "publication" {
			continue
		}
		if seen[string(e.pub.Data)] {
			return fmt.Errorf("%v is delivered twice", e)
		}
		seen[string(e.pub.Data)] = true
		if e.pub.Offset == 0 {
			if e.epoch != "" {
				return fmt.Errorf("%v has an epoch but no offset", e)
			}
			continue
		}
		if e.epoch != epoch {
			return fmt.Errorf("%v is delivered in a stream of epoch %q", e, epoch)
		}
		if e.pub.Offset != last+1 {
			return fmt.Errorf("%v is delivered after offset %d", e, last)
		}
		last = e.pub.Offset
	}
	return nil
}

// checkRange holds publications to the offsets from first to last, in this order.
func checkRange(pubs []*engine.Publication, first, last uint64) error {
	if uint64(len(pubs)) != last+1-first {
		return fmt.Errorf("offsets %v, want %d to %d", offsets(pubs), first, last)
	}
	for i, p := range pubs {
		if p.Offset != first+uint64(i) {
			return fmt.Errorf("offsets %v, want %d to %d", offsets(pubs), first, last)
		}
	}
	return nil
}

// checkChoice holds the result of History to what f chooses from a stream that keeps the offsets from first to last.
func checkChoice(pubs []*engine.Publication, f engine.HistoryFilter, first, last uint64) error {
	var want []uint64
	for o := first; o <= last; o++ {
		if f.Since == nil || o > f.Since.Offset && !f.Reverse || o < f.Since.Offset && f.Reverse {
			want = append(want, o)
		}
	}
	if f.Reverse {
		slices.Reverse(want)
	}
	if f.Limit >= 0 && len(want) > f.Limit {
		want = want[:f.Limit]
	}
	if got := offsets(pubs); !slices.Equal(got, want) {
		since := "nothing"
		if f.Since != nil {
			since = fmt.Sprint(f.Since.Offset)
		}
		return fmt.Errorf("of %d to %d, since %s, limit %d, reverse %v: offsets %v, want %v", first, last, since, f.Limit, f.Reverse, got, want)
	}
	return nil
}

// checkUnavailable holds the error of a method that cannot serve to the contract.
func checkUnavailable(method string, err error) error {
	if !errors.Is(err, engine.ErrUnavailable) {
		return fmt.Errorf("%s: error %v, want ErrUnavailable", method, err)
	}
	return nil
}

func offsets(pubs []*engine.Publication) []uint64 {
	list := make([]uint64, len(pubs))
	for i, p := range pubs {
		list[i] = p.Offset
	}
	return list
}
