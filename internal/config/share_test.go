package config

import (
	"maps"
	"strings"
	"testing"
)

func TestShare(t *testing.T) {
	for text, want := range map[string]string{"0": "0%", "1": "100%", "0.01": "1%", "1%": "1%", "12.5 %": "12.5%", "0.07": "7%", "7%": "7%", "0.00001": "0.001%", "100%": "100%",
		"": "", "2": "", "101%": "", "-1": "", "-1%": "", "x": "", "%": "", "NaN": "", "1e-2": "1%"} {
		var s Share
		switch err := s.UnmarshalText([]byte(text)); {
		case err != nil && want != "":
			t.Errorf("%q: %v", text, err)
		case err == nil && s.String() != want:
			t.Errorf("%q is %s, want %q", text, s, want)
		}
		var again Share
		if err := again.UnmarshalText([]byte(s.String())); err != nil || again.String() != s.String() {
			t.Errorf("%q: %s is read back as %s, %v", text, s, again, err)
		}
	}
}

func TestOTLPHeaders(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"":                                  {},
		"a=b":                               {"a": "b"},
		" X-Key = sesame , b= ":             {"X-Key": "sesame", "b": ""},
		"Authorization=Bearer%20sesame%2C=": {"Authorization": "Bearer sesame,="},
		"a=b=c":                             {"a": "b=c"},
		"sesame":                            nil,
		"=sesame":                           nil,
		"a b=sesame":                        nil,
		"a=sesame%0a":                       nil,
		"a=sesame%zz":                       nil,
	} {
		s := Serve{OTLPHeaders: Secret(text)}
		got, err := s.OTLPHeaderMap()
		if (err == nil) != (want != nil) || err == nil && !maps.Equal(got, want) {
			t.Errorf("%q is %v, %v, want %v", text, got, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "sesame") {
			t.Errorf("%q: the value is in %v", text, err)
		}
	}
}
