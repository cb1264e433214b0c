package cli

import (
	"fmt"
	"os"

	"github.com/longwire/longwire/internal/lab"
)

type labClaimsCmd struct {
	Reports []string `arg:"" type:"path" placeholder:"FILE" help:"Reports as JSON, of longwire lab run or all. Of an experiment that is in several the last counts."`
	Brief   bool     `help:"Instead of the page, print one report of all of them, without curves."`
}

// Run prints docs/claims.md, or the report that it is made of.
func (l *labClaimsCmd) Run(c *call) error {
	var reports []*lab.Report
	for _, name := range l.Reports {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		r, err := lab.ReadReport(f)
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		reports = append(reports, r)
	}
	r, err := lab.Merge(reports...)
	if err != nil {
		return err
	}
	if l.Brief {
		return r.Brief().WriteJSON(c.Stdout)
	}
	return r.WriteClaims(c.Stdout)
}
