package longwire

import (
	"errors"
	"path/filepath"
	"testing"
)

// seeds fails where a target has lost its seeds.
func seeds(f *testing.F, name string) {
	if s, err := filepath.Glob("testdata/fuzz/" + name + "/*"); err != nil || len(s) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
}

// What somebody types as an address is a network that has the address in it, or a bad question.
func FuzzParseNetwork(f *testing.F) {
	seeds(f, "FuzzParseNetwork")
	f.Fuzz(func(t *testing.T, text string) {
		network, peer, err := parseNetwork(text)
		if err != nil {
			if !errors.Is(err, ErrBadQuestion) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		c := criteria{network: network, peer: peer}
		if !network.IsValid() || network != network.Masked() || network.Addr().Is4In6() || network.Addr().Zone() != "" {
			t.Fatalf("%q: the network %v", text, network)
		}
		if !c.contains(addressKey(network.Addr())) {
			t.Errorf("%q: %v does not have its own address", text, network)
		}
		if peer.IsValid() && !network.Contains(peer.Addr()) {
			t.Errorf("%q: %v does not have %v", text, network, peer)
		}
	})
}

// A cursor is one of ours, or a bad question.
func FuzzParseCursor(f *testing.F) {
	seeds(f, "FuzzParseCursor")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCursor(text)
		switch {
		case err != nil && !errors.Is(err, ErrBadQuestion):
			t.Errorf("%q: %v", text, err)
		case err == nil && text != "":
			if again, err := parseCursor(c.String()); err != nil || again != c {
				t.Errorf("%q: %v is read as %v, %v", text, c, again, err)
			}
		}
	})
}
