package doctor

import (
	"fmt"
)

// limitCheck asks which limits a planned number of connections would meet.
var limitCheck = Check{
	Name: "limits",
	Skip: func(e *Evidence) string {
		if e.Plan == nil {
			return "nothing is planned: --plan CONNECTIONS"
		}
		return ""
	},
	Ask: askLimits,
}

func askLimits(e *Evidence) (list []Finding) {
	for _, l := range e.Plan.Limits {
		if !l.Broken() {
			continue
		}
		f := Finding{
			Severity: Minor, Confidence: 1, step: l.Name,
			Sentence: fmt.Sprintf("%s: %s", l.Name, l.Says),
			Evidence: []string{needText(l)},
			Advice:   l.Lift,
		}
		if l.Fatal {
			f.Severity = Critical
		}
		f.rank = float64(len(e.Plan.Limits) - len(list))
		list = append(list, f)
	}
	return list
}
