package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/longwire/longwire"
)

type whyCmd struct {
	Who    string             `arg:"" optional:"" help:"A client's id, a user, an address (with a port or without), a request id or a trace id; without it, the latest connections."`
	URL    string             `name:"url" default:"http://localhost:8000" placeholder:"URL" help:"The gateway."`
	APIKey string             `name:"api-key" placeholder:"KEY" help:"The key of its API; by default what LONGWIRE_API_KEY holds, which the other users of the machine do not see."`
	Cause  longwire.CauseKind `placeholder:"CAUSE" help:"Only those that ended with this cause, such as heartbeat_timeout."`
	Since  time.Duration      `placeholder:"TIME" help:"Only those of which something is known from the last while, such as 10m."`
	Limit  int                `default:"20" help:"The most connections, up to 1000."`
	JSON   bool               `name:"json" help:"Print the answer of the API as it is."`
}

// Help says what is answered.
func (*whyCmd) Help() string {
	return `Says why a client was disconnected: a sentence, what happened to its connection and when, and the evidence. Of several
connections there is a line for each, and the latest in full. What the argument is shows by its form; what could be several
things is looked for as each, in this order: client, address, trace, user, request.

It asks the API of one gateway, which knows its own last connections (--flight-record of longwire serve). docs/why.md says what
the sentences rest on.

Exit code 1 when nothing is known.`
}

// Run asks and prints.
func (w *whyCmd) Run(c *call) error {
	if w.Since < 0 || w.Limit < 1 || w.Limit > 1000 {
		return usage(fmt.Errorf("--since %v, --limit %d: want no negative time, and 1 to 1000", w.Since, w.Limit), "longwire why --help lists its flags")
	}
	api, err := newWhyAPI(c, w.URL, w.APIKey)
	if err != nil {
		return usage(err, "longwire why --help lists its flags")
	}
	ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	var result whyResult
	var raw json.RawMessage
	var tried []string
	for _, kind := range kindsOf(w.Who) {
		if raw, err = w.ask(ctx, api, kind); err != nil {
			return err
		}
		if raw == nil {
			continue // it cannot be that
		}
		if err := json.Unmarshal(raw, &result); err != nil {
			return fmt.Errorf("read the answer of %s: %w", api.base, err)
		}
		tried = append(tried, kindWords[kind])
		if len(result.Spans) > 0 {
			break
		}
	}
	if len(result.Spans) == 0 {
		return w.nothing(tried, result.From)
	}
	if w.JSON {
		_, err := fmt.Fprintf(c.Stdout, "%s\n", raw)
		return err
	}
	var b bytes.Buffer
	if len(result.Spans) > 1 {
		listSpans(&b, result.Spans)
		b.WriteByte('\n')
	}
	fullSpan(&b, &result.Spans[0])
	_, err = c.Stdout.Write(b.Bytes())
	return err
}

// nothing is the error when there is no answer.
func (w *whyCmd) nothing(tried []string, from time.Time) error {
	what := "no connection is known"
	if w.Who != "" {
		what = fmt.Sprintf("nothing is known of %s as %s", visible(w.Who), strings.Join(tried, ", "))
	}
	if w.Cause != longwire.CauseUnknown {
		what += ", with the cause " + w.Cause.String()
	}
	if w.Since > 0 {
		what += fmt.Sprintf(", in the last %v", w.Since)
	}
	if from.IsZero() {
		what += ": the record is empty"
	} else {
		what += ": the record goes back to " + from.UTC().Format(timeForm)
	}
	return &exitError{code: exitFailed, err: errors.New(what), hint: "a gateway knows its own last connections only: ask every node; a larger flight-record goes further back"}
}

// The fields of a request.
const (
	kindAny     = ""
	kindClient  = "client"
	kindAddress = "address"
	kindTrace   = "trace"
	kindUser    = "user"
	kindRequest = "request"
)

var kindWords = map[string]string{kindAny: "", kindClient: "a client's id", kindAddress: "an address", kindTrace: "a trace id", kindUser: "a user", kindRequest: "a request id"}

var (
	uuidForm        = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	connForm        = regexp.MustCompile(`^[0-9a-z]{5,13}$`) // Conn.ID
	traceForm       = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)
	traceparentForm = regexp.MustCompile(`^[0-9a-fA-F]{2}-([0-9a-fA-F]{32})-[0-9a-fA-F]{16}-[0-9a-fA-F]{2}$`)
)

// kindsOf are what who may be, in the order in which it is looked for.
func kindsOf(who string) []string {
	if who == "" {
		return []string{kindAny}
	}
	var kinds []string
	_, err1 := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(who, "["), "]"))
	_, err2 := netip.ParseAddrPort(who)
	switch {
	case uuidForm.MatchString(who):
		kinds = append(kinds, kindClient)
	case err1 == nil || err2 == nil:
		kinds = append(kinds, kindAddress)
	case traceparentForm.MatchString(who):
		return []string{kindTrace}
	case traceForm.MatchString(who):
		kinds = append(kinds, kindTrace)
	}
	kinds = append(kinds, kindUser, kindRequest)
	if connForm.MatchString(who) {
		kinds = append(kinds, kindClient) // last: many users' names have that form
	}
	return kinds
}

// ask asks the API for spans where who is of a kind; nil when it cannot be.
func (w *whyCmd) ask(ctx context.Context, api *whyAPI, kind string) (json.RawMessage, error) {
	q := map[string]any{"limit": w.Limit}
	if kind != kindAny {
		q[kind] = w.Who
	}
	if m := traceparentForm.FindStringSubmatch(w.Who); kind == kindTrace && m != nil {
		q[kind] = m[1]
	}
	if w.Cause != longwire.CauseUnknown {
		q["cause"] = w.Cause.String()
	}
	if w.Since > 0 {
		q["since"] = w.Since.String()
	}
	raw, err := api.ask(ctx, q)
	if bad := new(questionError); kind != kindAny && errors.As(err, &bad) {
		return nil, nil
	}
	return raw, err
}

// timeForm is how times are printed, in UTC as in the sentences.
const timeForm = "2006-01-02 15:04:05.000 UTC"

// visible is text of others for a terminal: what is not printable stands as in a Go string.
func visible(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	return strconv.Quote(s)
}

// endOf is how a span ended, in a word.
func endOf(s *longwire.Span) string {
	switch {
	case s.Open:
		return "open"
	case s.Cause == "":
		return "process ended"
	case s.Code != 0:
		return fmt.Sprintf("%s (%d)", visible(s.Cause), s.Code)
	}
	return visible(s.Cause)
}

// listSpans prints a line for each span.
func listSpans(w io.Writer, spans []longwire.Span) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range spans {
		s := &spans[i]
		last := ""
		if n := len(s.Events); n > 0 {
			last = s.Events[n-1].Time.UTC().Format(timeForm)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", last, endOf(s), dash(s.Address), dash(s.User), visible(s.Client))
	}
	_ = t.Flush() // to a buffer
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return visible(s)
}

// fullSpan prints all of one span.
func fullSpan(w io.Writer, s *longwire.Span) {
	fmt.Fprintf(w, "%s\n\n", visible(s.Why))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range []struct{ name, value string }{
		{"client", s.Client}, {"user", s.User}, {"address", s.Address}, {"endpoint", s.Endpoint}, {"request", s.Request}, {"trace", s.Trace},
	} {
		if f.value != "" {
			fmt.Fprintf(t, "%s\t%s\n", f.name, visible(f.value))
		}
	}
	end := endOf(s)
	if s.Detail != "" {
		end += ": " + visible(s.Detail)
	}
	if s.Before {
		end += ", in the process before this one"
	}
	fmt.Fprintf(t, "cause\t%s\n", end)
	_ = t.Flush()
	fmt.Fprintln(w)
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, e := range s.Events {
		since := ""
		if i > 0 {
			since = later(e.Time.Sub(s.Events[i-1].Time))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", e.Time.UTC().Format(timeForm), since, visible(e.Kind), visible(e.Text))
	}
	_ = t.Flush()
	if e := s.Evidence; e != nil {
		fmt.Fprintln(w)
		t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(t, "open for\t%s\n", millis(e.Age))
		fmt.Fprintf(t, "silent for\t%s\n", millis(e.Silent))
		if e.Pinged >= 0 {
			fmt.Fprintf(t, "ping without answer for\t%s\n", millis(e.Pinged))
		}
		if e.Ponged >= 0 {
			fmt.Fprintf(t, "last pong\t%s before the end\n", millis(e.Ponged))
		}
		if e.CloseSent >= 0 || e.CloseReceived >= 0 {
			fmt.Fprintf(t, "close frames\tours %s, the client's %s\n", closeCode(e.CloseSent), closeCode(e.CloseReceived))
		}
		fmt.Fprintf(t, "waiting for its socket\t%d bytes\n", e.Queued)
		if e.RTT >= 0 {
			fmt.Fprintf(t, "never acknowledged\t%d bytes, %d timeouts in a row\n", e.Unacked, e.Timeouts)
			fmt.Fprintf(t, "sent again in all\t%d segments\n", e.Retransmits)
			fmt.Fprintf(t, "last acknowledgement\t%s before the end\n", millis(e.LastAck))
			fmt.Fprintf(t, "round trip\t%v\n", time.Duration(e.RTT)*time.Microsecond)
		}
		_ = t.Flush()
	}
	if k := s.Kernel; k != nil {
		fmt.Fprintln(w)
		t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(t, "the kernel's side\tseen by %s\n", visible(k.Level))
		if len(k.Path) > 0 {
			fmt.Fprintf(t, "states\t%s\n", visible(strings.Join(k.Path, " > ")))
		}
		if k.Error != "" {
			fmt.Fprintf(t, "error\t%s\n", visible(k.Error))
		}
		fmt.Fprintf(t, "never acknowledged\t%d bytes\n", k.Unacked)
		fmt.Fprintf(t, "sent again in all\t%d segments\n", k.Retransmits)
		if k.RTT >= 0 {
			fmt.Fprintf(t, "round trip\t%v\n", time.Duration(k.RTT)*time.Microsecond)
		}
		_ = t.Flush()
	}
}

// closeCode is the status code of a close frame, in words.
func closeCode(code int64) string {
	switch code {
	case -1:
		return "none"
	case 1005:
		return "without a code"
	}
	return strconv.FormatInt(code, 10)
}

func millis(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }

// later is the time since the line above.
func later(d time.Duration) string {
	switch {
	case d < 0:
		return d.Round(time.Millisecond).String()
	case d >= time.Second:
		return "+" + d.Round(100*time.Millisecond).String()
	}
	return "+" + d.Round(100*time.Microsecond).String()
}
