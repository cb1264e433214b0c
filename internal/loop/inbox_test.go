package loop

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

func drained(b *inbox) (got []string) {
	b.drain(func(id ID, kind uint8, payload []byte) {
		got = append(got, fmt.Sprintf("%d/%d/%s", id, kind, payload))
	}, func() {})
	return got
}

func TestInboxOrder(t *testing.T) {
	b := &inbox{limit: 1 << 10}
	var calls []string
	for k := range 3 {
		_, _ = b.post(ID(k), uint8(k), []byte(strings.Repeat("x", k)))
		_, _ = b.call(func() { calls = append(calls, fmt.Sprint(k)) })
	}
	if got, want := drained(b), []string{"0/0/", "1/1/x", "2/2/xx"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !slices.Equal(calls, []string{"0", "1", "2"}) {
		t.Errorf("calls %q", calls)
	}
	if got := drained(b); got != nil {
		t.Errorf("drained twice: %q", got)
	}
	// A record that is posted while another is handled comes the next time.
	_, _ = b.post(1, 0, nil)
	b.drain(func(ID, uint8, []byte) { _, _ = b.post(2, 0, nil) }, func() {})
	if got := drained(b); !slices.Equal(got, []string{"2/0/"}) {
		t.Errorf("got %q", got)
	}
}

func TestInboxBounds(t *testing.T) {
	b := &inbox{limit: 100}
	if _, err := b.post(1, 0, make([]byte, 500)); err != nil {
		t.Errorf("an empty inbox refuses a large post: %v", err)
	}
	if _, err := b.post(1, 0, nil); err != ErrFull {
		t.Errorf("beyond the limit: %v, want ErrFull", err)
	}
	if _, err := b.call(func() {}); err != nil {
		t.Errorf("a call to a full inbox: %v", err)
	}
	if n := len(drained(b)); n != 1 {
		t.Errorf("%d records, want 1", n)
	}
	for range 100 / recordHeader {
		if _, err := b.post(1, 0, nil); err != nil {
			t.Errorf("within the limit: %v", err)
		}
	}
	if _, err := b.post(1, 0, nil); err != ErrFull {
		t.Errorf("beyond the limit: %v, want ErrFull", err)
	}
	if b.stop(false) {
		t.Error("stopped with records in it")
	}
	b.stop(true)
	if _, err := b.post(1, 0, nil); err != ErrStopped {
		t.Errorf("post after stop: %v", err)
	}
	if _, err := b.call(func() {}); err != ErrStopped {
		t.Errorf("call after stop: %v", err)
	}
	if n := len(drained(b)); n != 100/recordHeader {
		t.Errorf("%d records of a stopped inbox, want %d: they were taken", n, 100/recordHeader)
	}
}

// TestInboxWakes has a loop that sleeps whenever it may, with nothing but the wake-ups to wake it, and
// many that post: a lost wake-up is a deadlock.
func TestInboxWakes(t *testing.T) {
	const posters, posts = 8, 5000
	b := &inbox{limit: 1 << 30}
	wake := make(chan struct{}, posters*posts)
	var wg sync.WaitGroup
	for p := range posters {
		wg.Go(func() {
			for n := range posts {
				w, err := b.post(ID(p), 1, binary.LittleEndian.AppendUint32(nil, uint32(n)))
				if err != nil {
					t.Error(err)
				}
				if w {
					wake <- struct{}{}
				}
			}
		})
	}
	var next [posters]uint32
	for got := 0; got < posters*posts; {
		b.drain(func(id ID, _ uint8, payload []byte) {
			if n := binary.LittleEndian.Uint32(payload); n != next[id] {
				t.Fatalf("poster %d: %d follows %d", id, n, next[id])
			}
			next[id]++
			got++
		}, func() {})
		b.asleep.Store(true)
		if got < posters*posts && !b.pending.Load() {
			<-wake
		}
		b.asleep.Store(false)
	}
	wg.Wait()
}

func TestInboxAllocates(t *testing.T) {
	b := &inbox{limit: 1 << 20}
	payload := make([]byte, 100)
	record := func(ID, uint8, []byte) {}
	round := func() {
		for range 10 {
			_, _ = b.post(1, 1, payload)
		}
		b.drain(record, func() {})
	}
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("10 posts and a drain allocate %v times", n)
	}
}
