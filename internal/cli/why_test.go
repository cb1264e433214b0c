package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire"
)

// What is known is printed, and what is not known is left out.
func TestFullSpan(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 3, 10, 0, time.UTC)
	s := longwire.Span{Client: "c", Why: "It ended.", Cause: "drain", Code: 1001, Events: []longwire.SpanEvent{{Time: at, Kind: "ended", Text: "drain (1001)"}},
		Evidence: &longwire.Evidence{Age: 1000, Silent: 500, Pinged: -1, RTT: -1, Unacked: -1, Timeouts: -1, Retransmits: -1, LastAck: -1, Ponged: 500, CloseSent: 1001, CloseReceived: 1005},
		Kernel:   &longwire.KernelWord{Level: "bpf", Verdict: "x", Path: []string{"SYN_RECV", "ESTABLISHED", "CLOSE"}, Error: "ECONNRESET", RTT: 48_200, Unacked: 5, Retransmits: 6}}
	printed := func() string {
		var b bytes.Buffer
		fullSpan(&b, &s)
		_, rest, _ := strings.Cut(b.String(), "drain (1001)\n\n") // behind the cause
		_, rest, _ = strings.Cut(rest, "\n\n")                    // and the events
		return rest
	}
	want := `open for                1s
silent for              500ms
last pong               500ms before the end
close frames            ours 1001, the client's without a code
waiting for its socket  0 bytes

the kernel's side   seen by bpf
states              SYN_RECV > ESTABLISHED > CLOSE
error               ECONNRESET
never acknowledged  5 bytes
sent again in all   6 segments
round trip          48.2ms
`
	if got := printed(); got != want {
		t.Errorf("printed:\n%s\nwant:\n%s", got, want)
	}
	s.Evidence.Ponged, s.Evidence.CloseSent, s.Evidence.CloseReceived = -1, -1, -1
	s.Kernel = &longwire.KernelWord{Level: "errno", Path: []string{}, RTT: -1}
	want = `open for                1s
silent for              500ms
waiting for its socket  0 bytes

the kernel's side   seen by errno
never acknowledged  0 bytes
sent again in all   0 segments
`
	if got := printed(); got != want {
		t.Errorf("printed:\n%s\nwant:\n%s", got, want)
	}
}
