package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/stress"
)

type stressCmd struct {
	Target   string        `required:"" placeholder:"URL" help:"The server: ws://host:port/path (http:// means the same)."`
	MaxConns int           `name:"max-conns" default:"1000" help:"The connections to open; with churn, those that are opened at a time."`
	Mode     stress.Mode   `default:"hold" enum:"hold,echo,churn" help:"What they do: hold (answer pings), echo (messages to an endpoint that sends them back), churn (close at once and open another)."`
	Duration time.Duration `default:"10s" help:"How long, once they are open; 0s holds until interrupted."`
	Rate     float64       `default:"0" help:"The most connects a second; 0 for as many as --pending allows."`
	Pending  int           `default:"256" help:"The most connections that are being opened at a time."`
	Timeout  time.Duration `default:"10s" help:"The time from connect to the complete handshake."`
	Active   int           `default:"0" help:"How many connections echo; 0 for all."`
	InFlight int           `name:"in-flight" default:"1" help:"The messages that each has under way."`
	Size     int           `default:"64" help:"The bytes of a message."`
	Binary   bool          `help:"Send binary messages instead of text."`
	Deflate  bool          `help:"Offer permessage-deflate."`
	Origin   string        `help:"Send this Origin."`
	Sources  []netip.Addr  `name:"source-addrs" placeholder:"ADDR,..." help:"Local addresses to connect from, in turn; by default as many of 127.0.0.0/8 as a loopback target needs."`
	JSON     bool          `name:"json" help:"Print the result as JSON."`
	Quiet    bool          `short:"q" help:"Print no progress."`
}

// Help says what a run is.
func (*stressCmd) Help() string {
	return `Opens connections, puts load on them, and says what came of it: connected, failed by reason, survived,
messages, latency. One machine opens a million: each loop has a descriptor table of its own, and a loopback
target is reached from as many source addresses as that takes. SIGINT ends a run early with what it has.

Exit code 1 when no connection could be opened.`
}

// Run runs the load.
func (s *stressCmd) Run(c *call) error {
	if s.MaxConns < 1 || s.Duration < 0 || s.Timeout <= 0 {
		return usage(fmt.Errorf("--max-conns %d, --duration %v, --timeout %v: want at least 1, not negative, more than 0", s.MaxConns, s.Duration, s.Timeout), "longwire stress --help lists its flags")
	}
	ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := stress.Run(ctx, stress.Plan{
		Target: s.Target, Conns: s.MaxConns, Mode: s.Mode, Duration: s.Duration, Rate: s.Rate, Pending: s.Pending,
		Timeout: s.Timeout, Active: s.Active, InFlight: s.InFlight, Size: s.Size, Binary: s.Binary, Deflate: s.Deflate,
		Origin: s.Origin, Sources: s.Sources,
	}, s.progress(c))
	if err != nil {
		var ue *stress.UsageError
		if errors.As(err, &ue) {
			return usage(ue.Err, ue.Hint)
		}
		if !errors.Is(err, context.Canceled) {
			return err
		}
	}
	if s.JSON {
		e := json.NewEncoder(c.Stdout)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	} else {
		err = r.WriteText(c.Stdout)
	}
	if err == nil && r.Connected == 0 {
		return &exitError{code: exitFailed, err: errors.New("no connection could be opened"), hint: "is the server there, and is the path one of its WebSocket endpoints?"}
	}
	return err
}

// progress prints a line that is written over on a terminal, and a line every five seconds elsewhere.
func (s *stressCmd) progress(c *call) func(stress.Progress) {
	if s.Quiet {
		return nil
	}
	f, ok := c.Stderr.(*os.File)
	terminal := false
	if ok {
		if fi, err := f.Stat(); err == nil {
			terminal = fi.Mode()&os.ModeCharDevice != 0
		}
	}
	var last stress.Progress
	return func(p stress.Progress) {
		if !terminal && p.Stage == last.Stage && p.Elapsed-last.Elapsed < 5*time.Second {
			return
		}
		rate := float64(p.Received-last.Received) / (p.Elapsed - last.Elapsed).Seconds()
		text := fmt.Sprintf("%-5s %4.0f s  open %d  opening %d  failed %d  lost %d", p.Stage, p.Elapsed.Seconds(), p.Open, p.Pending, p.Failures(), p.Losses())
		if p.Received > 0 {
			text += fmt.Sprintf("  messages %d (%.0f/s)", p.Received, rate)
		}
		if terminal {
			end := "\033[K\r"
			if p.Stage != last.Stage && last.Stage != "" {
				text = "\n" + text
			}
			fmt.Fprint(c.Stderr, text+end)
		} else {
			fmt.Fprintln(c.Stderr, text)
		}
		last = p
	}
}
