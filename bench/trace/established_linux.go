package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"
)

// establishedRound is a round of messages that come back over connections which stay open.
type establishedRound struct {
	Traced   bool    `json:"traced"` // by itself: longwire serve --trace
	Messages uint64  `json:"messages"`
	Gateway  float64 `json:"gateway_cpu_us"` // of its process, for each message and its echo
}

// establishedConns are the connections of such a round.
const establishedConns = 100

// measureEstablished holds a gateway that traces itself against one that does not, under messages over established connections.
// The rounds alternate, and so does which is first.
func measureEstablished(longwire string, rounds int, each time.Duration) ([]establishedRound, error) {
	var list []establishedRound
	var without, with []float64
	for n := range rounds {
		for _, traced := range [...]bool{n%2 == 1, n%2 == 0} {
			r, err := oneEstablishedRound(longwire, traced, each)
			if err != nil {
				return list, err
			}
			fmt.Printf("established, traced %-5t: %8d messages, %.2f µs a message\n", r.Traced, r.Messages, r.Gateway)
			list = append(list, r)
			if traced {
				with = append(with, r.Gateway)
			} else {
				without = append(without, r.Gateway)
			}
		}
	}
	slices.Sort(without)
	slices.Sort(with)
	median := func(v []float64) float64 { return (v[len(v)/2] + v[(len(v)-1)/2]) / 2 }
	a, b := median(without), median(with)
	fmt.Printf("established: %.2f µs of the gateway's CPU a message without (%.2f to %.2f), %.2f traced (%.2f to %.2f): %+.1f %%\n",
		a, without[0], without[len(without)-1], b, with[0], with[len(with)-1], 100*(b-a)/a)
	return list, nil
}

func oneEstablishedRound(longwire string, traced bool, d time.Duration) (r establishedRound, err error) {
	r.Traced = traced
	var args []string
	if traced {
		args = append(args, "--trace")
	}
	port, gateway, stop, err := startGateway(longwire, args...)
	if err != nil {
		return r, err
	}
	defer stop()
	before, err := computed(gateway)
	if err != nil {
		return r, err
	}
	load := exec.Command(longwire, "stress", "--target", "ws://127.0.0.1:"+port+"/echo", "--scenario", "echo", "--max-conns", fmt.Sprint(establishedConns), "--duration", d.String(), "--json")
	b, err := load.Output()
	if err != nil {
		return r, fmt.Errorf("longwire stress: %w", err)
	}
	var made struct {
		Conns     struct{ Opened uint64 }
		Scenarios []struct{ Done uint64 }
	}
	if err := json.Unmarshal(b, &made); err != nil {
		return r, fmt.Errorf("longwire stress: %w", err)
	}
	after, err := computed(gateway)
	if err != nil {
		return r, err
	}
	if made.Conns.Opened != establishedConns || len(made.Scenarios) != 1 || made.Scenarios[0].Done == 0 {
		return r, fmt.Errorf("longwire stress opened %d connections of %d, or had no message back", made.Conns.Opened, establishedConns)
	}
	if traced {
		level, err := traceMetric(port, `longwire_trace_level{level="bpf"}`)
		if err != nil {
			return r, err
		}
		if level != 1 {
			return r, errors.New("the gateway has no probes")
		}
	}
	r.Messages, r.Gateway = made.Scenarios[0].Done, perConn(after-before, made.Scenarios[0].Done)
	return r, nil
}
