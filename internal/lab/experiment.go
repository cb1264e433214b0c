package lab

import (
	"context"
	"fmt"
	"strings"
)

// Experiment is one or more claims on trial.
type Experiment struct {
	// Name is one word, by which it is run.
	Name  string
	Title string
	// Claims are those it gives a verdict on, each of them.
	Claims []Claim
	// About says in a few sentences what is done.
	About string
	// Run carries it out and fills r. When ctx ends it returns soon, with what was measured until then in r. An error says
	// that it could not be carried out; what the figures say is no error.
	Run func(ctx context.Context, r *Run) error

	subjects map[string]maker // that Run starts, by name
}

// Claim is one statement of the article.
type Claim struct {
	ID    string `json:"id"`    // lower case, words joined by hyphens; stable
	Quote string `json:"quote"` // as it stands in the article, in Chinese
	Says  string `json:"says"`  // what it says, in English
}

// Verdict is what the figures say of a claim.
type Verdict string

// The verdicts.
const (
	Holds       Verdict = "holds"
	HoldsInPart Verdict = "holds_in_part"
	DoesNotHold Verdict = "does_not_hold"
	NotShown    Verdict = "not_shown" // the figures do not tell
)

// String is the verdict in words.
func (v Verdict) String() string { return strings.ReplaceAll(string(v), "_", " ") }

// Experiments are all of them.
func Experiments() []Experiment {
	return []Experiment{
		bodyExperiment(),
		lifecycleExperiment(),
		readblockExperiment(),
		heartbeatExperiment(),
		buffersExperiment(),
		finalizerExperiment(),
		poolExperiment(),
		churnExperiment(),
		gogcExperiment(),
		millionExperiment(),
		profilerExperiment(),
	}
}

// Names are those of all experiments.
func Names() (names []string) {
	for _, e := range Experiments() {
		names = append(names, e.Name)
	}
	return names
}

// Find is the experiment of a name. The error lists the names.
func Find(name string) (Experiment, error) {
	for _, e := range Experiments() {
		if e.Name == name {
			return e, nil
		}
	}
	return Experiment{}, fmt.Errorf("%q is no experiment: want one of %s", name, strings.Join(Names(), ", "))
}
