package trace

import (
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"time"
)

// lifeJSON is a Life as JSON shows it; docs/trace.md describes it.
type lifeJSON struct {
	Verdict       Verdict        `json:"verdict"`
	Why           string         `json:"why"`
	Level         Level          `json:"level"`
	Session       string         `json:"session,omitempty"`
	Cookie        uint64         `json:"cookie"`
	Local         netip.AddrPort `json:"local"`
	Remote        netip.AddrPort `json:"remote"`
	Path          Path           `json:"path"`
	FirstFIN      Side           `json:"first_fin"`
	Established   time.Time      `json:"established,omitzero"`
	FINReceived   time.Time      `json:"fin_received,omitzero"`
	FINSent       time.Time      `json:"fin_sent,omitzero"`
	RSTReceived   time.Time      `json:"rst_received,omitzero"`
	RSTSent       time.Time      `json:"rst_sent,omitzero"`
	Retransmitted time.Time      `json:"retransmitted,omitzero"`
	Closed        time.Time      `json:"closed,omitzero"`
	AgeSeconds    float64        `json:"age_seconds,omitempty"`
	Retransmits   uint32         `json:"retransmits"`
	Timeouts      uint8          `json:"timeouts"`
	Probes        uint8          `json:"probes"`
	Unacked       uint64         `json:"unacked_bytes"`
	Unread        int            `json:"unread_bytes,omitempty"`
	RTTMicros     int64          `json:"rtt_us"`
	BytesReceived uint64         `json:"bytes_received"`
	BytesAcked    uint64         `json:"bytes_acked"`
	Error         string         `json:"error,omitempty"`
	SoftError     string         `json:"soft_error,omitempty"`
	ResetReason   string         `json:"reset_reason,omitempty"`
	ByExit        bool           `json:"by_exit,omitempty"`
}

// MarshalJSON shows the record with its verdict.
func (l *Life) MarshalJSON() ([]byte, error) {
	j := lifeJSON{
		Verdict: l.Verdict(), Why: l.Explain(), Level: l.Level, Session: sessionText(l.Session), Cookie: l.Cookie, Local: l.Local, Remote: l.Remote,
		Path: l.Path, FirstFIN: l.First, Established: l.Established, FINReceived: l.FINReceived, FINSent: l.FINSent,
		RSTReceived: l.RSTReceived, RSTSent: l.RSTSent, Retransmitted: l.Retransmitted, Closed: l.Closed, AgeSeconds: l.Age().Seconds(),
		Retransmits: l.Retransmits, Timeouts: l.Timeouts, Probes: l.Probes, Unacked: l.Unacked, Unread: l.Unread, RTTMicros: l.RTT.Microseconds(),
		BytesReceived: l.BytesReceived, BytesAcked: l.BytesAcked, ResetReason: l.ResetReason, ByExit: l.ByExit,
	}
	if l.Err != 0 {
		j.Error = l.Err.Error()
	}
	if l.SoftErr != 0 {
		j.SoftError = l.SoftErr.Error()
	}
	return json.Marshal(j)
}

// eventJSON is an Event as JSON shows it.
type eventJSON struct {
	Kind        string         `json:"kind"`
	Time        time.Time      `json:"time"`
	Session     string         `json:"session,omitempty"`
	Cookie      uint64         `json:"cookie"`
	Local       netip.AddrPort `json:"local"`
	Remote      netip.AddrPort `json:"remote"`
	From        string         `json:"from,omitempty"`
	To          string         `json:"to,omitempty"`
	Retransmits uint32         `json:"retransmits,omitempty"`
	ResetReason string         `json:"reset_reason,omitempty"`
	Error       string         `json:"error,omitempty"`
	*Names
	Life *Life `json:"life,omitempty"`
}

// MarshalJSON shows what belongs to the event's kind.
func (e *Event) MarshalJSON() ([]byte, error) {
	j := eventJSON{
		Kind: e.Kind.String(), Time: e.Time, Session: sessionText(e.Session), Cookie: e.Cookie, Local: e.Local, Remote: e.Remote,
		Retransmits: e.Retransmits, ResetReason: e.ResetReason, Names: e.Names, Life: e.Life,
	}
	if e.Kind == KindState {
		if e.From != 0 {
			j.From = e.From.String()
		}
		j.To = e.To.String()
	}
	if e.Err != 0 {
		j.Error = e.Err.Error()
	}
	return json.Marshal(j)
}

func sessionText(id [16]byte) string {
	if id == [16]byte{} {
		return ""
	}
	return hex.EncodeToString(id[:])
}
