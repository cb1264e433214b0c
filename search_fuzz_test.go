package longwire

import (
	"errors"
	"net/netip"
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
		k := keysOf(network)
		if !network.IsValid() || network != network.Masked() || network.Addr().Is4In6() || network.Addr().Zone() != "" {
			t.Fatalf("%q: the network %v", text, network)
		}
		// The last address of the network, and those beside it.
		last := network.Addr().AsSlice()
		for bit := network.Bits(); bit < 8*len(last); bit++ {
			last[bit/8] |= 0x80 >> (bit % 8)
		}
		end, _ := netip.AddrFromSlice(last)
		for _, a := range []netip.Addr{network.Addr(), network.Addr().Prev(), end, end.Next(), netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")} {
			if a.Is6() && a.Is4In6() || a.IsValid() && a.Is6() && a.As16()[0] == 0xff {
				continue // nobody's source
			}
			// Of IPv6 the first half is compared.
			whole := network
			if a.IsValid() && a.Is6() && network.Addr().Is6() {
				whole, _ = network.Addr().Prefix(min(64, network.Bits()))
			}
			if got := k.has(addressKey(a)); a.IsValid() && got != whole.Contains(a) {
				t.Errorf("%q: %v has %v: %t", text, network, a, got)
			}
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
