package flight

import (
	"strings"
	"testing"
	"time"
)

var causes = []string{"unknown", "client_close", "client_fin", "reset", "heartbeat_timeout", "protocol_error", "message_too_big", "slow_consumer",
	"unauthorized", "expired", "handshake_timeout", "refused", "drain", "application", "kernel_timeout", "internal"}

func cause(name string) uint8 {
	for i, c := range causes {
		if c == name {
			return uint8(i)
		}
	}
	panic(name)
}

var details = []string{"", "unmasked_frame", "ETIMEDOUT", "invalid_token", "replies_unread", "stale", "subscription_expired", "ECONNABORTED"}

func pick(list []string) func(uint8) string {
	return func(n uint8) string {
		if int(n) < len(list) {
			return list[n]
		}
		return "?"
	}
}

var words = Words{Cause: pick(causes), Detail: pick(details), Verdict: pick([]string{"", "the client's FIN came first", "no answer to what was sent"}), Level: pick([]string{"", "errno", "diag", "bpf"})}

func TestWhy(t *testing.T) {
	for _, c := range []struct {
		e    Ended
		k    *Kernel
		back *Back
		want []string // parts, in order
	}{
		{e: Ended{Cause: cause("client_close"), Code: 1000}, want: []string{"The client closed it, in good order (1000)."}},
		{e: Ended{Cause: cause("client_close"), Code: 1001}, want: []string{"went away (1001)"}},
		{e: Ended{Cause: cause("client_close"), Code: 1005}, want: []string{"without a code"}},
		{e: Ended{Cause: cause("client_close"), Code: 4000}, want: []string{"with code 4000"}},
		{e: Ended{Cause: cause("client_fin"), Silent: 20 * time.Second}, k: &Kernel{Verdict: 1}, want: []string{"without a closing handshake", "after 20 s of silence", "The kernel says: the client's FIN came first."}},
		{e: Ended{Cause: cause("reset"), Info: true, Unacked: 3}, want: []string{"3 bytes of ours were on their way", "NAT"}},
		{e: Ended{Cause: cause("reset")}, want: []string{"was reset"}},
		{e: Ended{Cause: cause("client_fin")}, k: &Kernel{Verdict: 1, Level: 1}, want: []string{"Our socket's last state says: the client's FIN came first."}},
		{e: Ended{Cause: cause("client_fin")}, k: &Kernel{Verdict: 1, Level: 2}, want: []string{"The kernel's socket diagnosis says: the client's FIN came first."}},
		{e: Ended{Cause: cause("client_fin")}, k: &Kernel{Verdict: 1, Level: 3}, want: []string{"The kernel says: the client's FIN came first."}},
		{
			e: Ended{Cause: cause("heartbeat_timeout"), Silent: 30 * time.Second, Pinged: 5 * time.Second, Info: true, Unacked: 2, Timeouts: 6},
			k: &Kernel{Verdict: 2, Retransmits: 6, Unacked: 2}, back: &Back{After: 41 * time.Second, Moved: true},
			want: []string{"The network went silent: our ping of 12:03:05 was sent again 6 times and was never acknowledged.", "Nothing had come for 30 s.",
				"The kernel says: no answer to what was sent, 6 segments sent again, 2 bytes never acknowledged.", "The client came back 41 s later from another address."},
		},
		{e: Ended{Cause: cause("heartbeat_timeout"), Silent: 30 * time.Second, Pinged: 5 * time.Second, Info: true}, want: []string{"The client's machine took our ping of 12:03:05", "did not answer"}},
		{e: Ended{Cause: cause("heartbeat_timeout"), Silent: 30 * time.Second, Pinged: 5 * time.Second}, want: []string{"did not answer our ping of 12:03:05"}},
		{e: Ended{Cause: cause("heartbeat_timeout"), Silent: 90 * time.Second, Pinged: -1}, want: []string{"silent for 1 min 30 s"}},
		{e: Ended{Cause: cause("reset"), Detail: 7, Info: true}, want: []string{"this machine's kernel", "(ECONNABORTED)"}},
		{e: Ended{Cause: cause("kernel_timeout"), Detail: 2, Info: true}, want: []string{"(ETIMEDOUT): nothing of ours was on its way"}},
		{e: Ended{Cause: cause("kernel_timeout"), Detail: 2, Info: true, Unacked: 9, Retransmits: 1}, want: []string{"(ETIMEDOUT): what we had sent", "1 segment was sent again"}},
		{e: Ended{Cause: cause("kernel_timeout"), Detail: 2, Retransmits: 1}, want: []string{"(ETIMEDOUT)", "1 segment was sent again"}},
		{e: Ended{Cause: cause("protocol_error"), Detail: 1, Code: 1002}, want: []string{"(unmasked frame)", "1002"}},
		{e: Ended{Cause: cause("message_too_big"), Code: 1009}, want: []string{"beyond the limit", "1009"}},
		{e: Ended{Cause: cause("slow_consumer"), Code: 3008, Queued: 65_536}, want: []string{"more slowly", "65 KB", "3008"}},
		{e: Ended{Cause: cause("slow_consumer"), Code: 1008, Detail: 4}, want: []string{"did not read the replies"}},
		{e: Ended{Cause: cause("slow_consumer"), Queued: 100}, want: []string{"more slowly", "100 bytes", "cut off"}},
		{e: Ended{Cause: cause("unauthorized"), Code: 3502, Detail: 5}, want: []string{"did not say in time who it is", "3502"}},
		{e: Ended{Cause: cause("expired"), Code: 3006, Detail: 6}, want: []string{"of a subscription ran out", "3006"}},
		{e: Ended{Cause: cause("refused"), Code: 3013}, want: []string{"session was refused", "3013"}},
		{e: Ended{Cause: cause("drain")}, want: []string{"without a word"}},
		{e: Ended{Cause: cause("heartbeat_timeout"), Silent: 30 * time.Second, Pinged: 5 * time.Second, Info: true, Unacked: 9, Queued: 9}, want: []string{"silent: what we had sent was never acknowledged"}},
		{e: Ended{Cause: cause("heartbeat_timeout"), Silent: 30 * time.Second, Pinged: 5 * time.Second, Info: true, Queued: 9}, want: []string{"machine answers", "does not read"}},
		{e: Ended{Cause: cause("unauthorized"), Code: 3500, Detail: 3}, want: []string{"(invalid token)", "3500"}},
		{e: Ended{Cause: cause("expired"), Code: 3005}, want: []string{"ran out"}},
		{e: Ended{Cause: cause("drain"), Code: 3001}, back: &Back{After: 1500 * time.Millisecond}, want: []string{"going away", "with code 3001", "came back 2 s later."}},
		{e: Ended{Cause: cause("application"), Code: 4001}, want: []string{"Our application", "4001"}},
		{e: Ended{Cause: cause("internal"), Detail: 2}, want: []string{"failed on our side (ETIMEDOUT)"}},
		{e: Ended{Cause: cause("handshake_timeout")}, want: []string{"not complete in time"}},
		{e: Ended{Cause: cause("refused")}, want: []string{"refused"}},
	} {
		end := c.e
		s := Span{Back: c.back, Events: []Event{{Kind: KindEnded, Time: start, Ended: &end}}}
		if c.k != nil {
			s.Events = append(s.Events, Event{Kind: KindKernel, Time: start, Kernel: c.k})
		}
		got := s.Why(words)
		rest := got
		for _, part := range c.want {
			_, after, ok := strings.Cut(rest, part)
			if !ok {
				t.Errorf("%s: %q, want %q in it", causes[c.e.Cause], got, part)
				break
			}
			rest = after
		}
	}
	if got := (&Span{Events: []Event{{Kind: KindOpened}}}).Why(words); got != "It is open." {
		t.Errorf("an open one: %q", got)
	}
}
