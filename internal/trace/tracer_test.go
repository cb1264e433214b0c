package trace

import (
	"context"
	"strings"
	"testing"
)

func TestOpenRefusesOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Level: 9}, "no level 9"},
		{Options{Ring: 1000}, "power of two"},
		{Options{Ring: 65537}, "power of two"},
		{Options{Port: 1, Network: "-4"}, "process -4"},
		{Options{Port: 1, Network: "/nonexistent/net"}, "network namespace"},
	} {
		tracer, err := Open(c.o)
		if err == nil {
			_ = tracer.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Open(%+v) = %v, want %q", c.o, err, c.want)
		}
	}
}

func TestMailbox(t *testing.T) {
	var got []uint64
	w := newOwn(Options{Idle: func() {}, Handle: func(e *Event) { got = append(got, e.Cookie) }})
	w.box.most = 2
	for i := range 3 {
		w.box.put(Life{Cookie: uint64(i)})
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := w.run(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := w.stats()
	if err != nil || s.Events != 2 || s.Lost != 1 || len(got) != 2 || got[0] != 0 || got[1] != 1 {
		t.Errorf("told %v, stats %+v, %v; want the first two, and one lost", got, s, err)
	}
}
