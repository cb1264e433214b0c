package spelling

import (
	"fmt"
	"strings"
	"testing"
)

func TestHint(t *testing.T) {
	names := []string{"max-conns", "max-header", "loops", "dev"}
	for name, want := range map[string]string{
		"max-conn": "max-conns", "max_conns": "max-conns", "MAX-CONNS": "max-conns", "maxconns": "max-conns", "max-haeder": "max-header",
		"lops": "loops", "dve": "dev", "colour": "", "x": "", "": "", strings.Repeat("loops", 1000): "",
	} {
		if want != "" {
			want = fmt.Sprintf(", did you mean %q?", want)
		}
		if got := Hint(name, names, ""); got != want {
			t.Errorf("Hint(%.20q) = %q, want %q", name, got, want)
		}
	}
	variables := []string{"APP_LOOPS", "APP_MAX_CONNS"}
	for name, want := range map[string]string{"APP_LOPS": `, did you mean "APP_LOOPS"?`, "APP_X": ""} {
		if got := Hint(name, variables, "APP_"); got != want {
			t.Errorf("Hint(%q) = %q, want %q", name, got, want)
		}
	}
}
