package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/longwire/longwire/internal/stress"
)

type stressCompareCmd struct {
	A           string `arg:"" name:"a.json" help:"The report of the first run, as stress --json writes it; - for standard input."`
	B           string `arg:"" name:"b.json" help:"The report of the second."`
	JSON        bool   `name:"json" help:"Print the comparison as JSON."`
	HTML        string `name:"html" placeholder:"FILE" help:"Write a page with the curves of both runs, too."`
	FailIfWorse bool   `name:"fail-if-worse" help:"Exit with 3 when a figure of the second run is worse by more than the noise."`
}

// Help says what is compared with what.
func (*stressCompareCmd) Help() string {
	return `Puts two runs of the same load side by side, and says which figures of the second differ from those of the
first by more than the noise. Noise is what varied from second to second within the runs; each second of one
is held against the same second of the other, so a ramp is no difference.

Runs of different loads (scenarios, plan, protocol) are shown, but not judged: exit code 1.`
}

// Run compares.
func (s *stressCompareCmd) Run(c *call) error {
	if s.A == "-" && s.B == "-" {
		return usage(errors.New("both reports are to come from standard input"), "name a file for one of them")
	}
	a, err := s.read(c, s.A)
	if err != nil {
		return err
	}
	b, err := s.read(c, s.B)
	if err != nil {
		return err
	}
	comparison := stress.Compare(a, b)
	if s.JSON {
		err = comparison.WriteJSON(c.Stdout)
	} else {
		err = comparison.WriteText(c.Stdout)
	}
	if err != nil {
		return err
	}
	if s.HTML != "" {
		if err := writeFile(s.HTML, comparison.WriteHTML); err != nil {
			return err
		}
	}
	switch {
	case !comparison.Alike:
		return &exitError{code: exitFailed, err: fmt.Errorf("the runs are of different loads: %s", comparison.Unlike[0].What), hint: "run both with the same plan"}
	case s.FailIfWorse && comparison.Worse > 0:
		return &exitError{code: exitThreshold, err: fmt.Errorf("%d figures of %s are worse than those of %s", comparison.Worse, s.B, s.A)}
	}
	return nil
}

func (s *stressCompareCmd) read(c *call, name string) (*stress.Report, error) {
	in := c.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, usage(err, "make a report with longwire stress --json")
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	r, err := stress.ReadReport(in)
	if err != nil {
		return nil, usage(fmt.Errorf("%s: %w", name, err), "make a report with longwire stress --json")
	}
	return r, nil
}

// writeFile has write fill a file. What was written before an error stays there.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	err = write(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
