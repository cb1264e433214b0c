package centrifuge

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	fdelta "github.com/shadowspore/fossil-delta"
)

// TestDelta applies what the server's library makes.
func TestDelta(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	base := []byte(strings.Repeat("the quick brown fox jumps over the lazy dog, again. ", 40))
	smaller := 0
	for i := range 2000 {
		target := bytes.Clone(base)
		for range rnd.IntN(4) {
			at := rnd.IntN(len(target) + 1)
			switch text := []byte(fmt.Sprint("~", i, rnd.Uint64())); rnd.IntN(3) {
			case 0:
				target = append(target[:at:at], append(text, target[at:]...)...)
			case 1:
				target = target[at:]
			default:
				copy(target[at:], text)
			}
		}
		delta := fdelta.Create(base, target)
		if len(delta) < len(target) {
			smaller++
		}
		got, err := applyDelta(base, delta, int64(len(target)))
		if err != nil || !bytes.Equal(got, target) {
			t.Fatalf("a delta from %q to %q: %q, %v", base, target, got, err)
		}
		if _, err := applyDelta(base, delta, int64(len(target))-1); err == nil && len(target) > 0 {
			t.Fatal("a result beyond the limit: no error")
		}
		if base = target; len(base) < 200 {
			base = []byte(strings.Repeat(fmt.Sprint("a new text ", i, " "), 100))
		}
	}
	if smaller < 1000 {
		t.Errorf("%d deltas were smaller than what they make, want 1000 and more", smaller)
	}
}

func TestDeltaRefuses(t *testing.T) {
	base := []byte("0123456789abcdefghij")
	sum := string(bytes.SplitAfter(fdelta.Create(nil, []byte("01234")), []byte("01234"))[1]) // of 01234, with its semicolon
	if got, err := applyDelta(base, []byte("5\n5@0,"+sum), 100); err != nil || string(got) != "01234" {
		t.Fatalf("%q, %v: the others would not be refused for what is wrong with them", got, err)
	}
	for name, delta := range map[string]string{
		"nothing":                 "",
		"no newline":              "5",
		"another character":       "5;5@0," + sum,
		"no commands":             "5\n",
		"no end":                  "5\n5@0,",
		"a number alone":          "5\n5@0,5",
		"an unknown command":      "5\n5@0,1!" + sum,
		"a copy without a place":  "5\n5@",
		"a copy without a comma":  "5\n5@0;" + sum,
		"a copy beyond the end":   "5\n5@H," + sum,
		"a place beyond 32 bits":  "5\n5@zzzzzzz," + sum,
		"a copy that overflows":   "5\n5@3zzzzz," + sum,
		"more than was said":      "4\n5@0," + sum,
		"less than was said":      "6\n5@0," + sum,
		"an insert beyond it":     "5\n5:0123",
		"an insert of too much":   "5\n6:012345" + sum,
		"the sum of another":      "5\n5@1," + sum,
		"something behind it":     "5\n5@0," + sum + "x",
		"more than anybody wants": "zzzzz\n" + strings.Repeat("K@0,", 1000),
		"text":                    "grüße",
	} {
		if got, err := applyDelta(base, []byte(delta), 100); err == nil {
			t.Errorf("%s: %q makes %q, want an error", name, delta, got)
		}
	}
}

// FuzzDelta: no delta makes the client fall over, or take more memory than it may; and what it makes is what the server's
// library makes.
func FuzzDelta(f *testing.F) {
	if seeds, err := filepath.Glob("testdata/fuzz/FuzzDelta/*"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	f.Fuzz(func(t *testing.T, base, delta []byte) {
		const limit = 1 << 16
		got, err := applyDelta(base, delta, limit)
		if err != nil {
			return
		}
		if len(got) > limit || cap(got) > limit {
			t.Errorf("%d bytes, in %d of memory", len(got), cap(got))
		}
		want, err := fdelta.Apply(base, delta)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q on %q makes %q; the library: %q, %v", delta, base, got, want, err)
		}
	})
}

// asText is a JSON string with a delta.
func asText(base, target string) string {
	return fmt.Sprintf("%q", fdelta.Create([]byte(base), []byte(target)))
}

// TestScriptDelta: publications come whole or as deltas, live and recovered, and handlers see no difference. A delta that
// does not fit costs the session, loses nothing, and is not asked for again.
func TestScriptDelta(t *testing.T) {
	long := strings.Repeat("0123456789", 10)
	other := `{"b":"` + strings.Repeat("abcdefghij", 10) + `"}`
	one, two, three := `{"a":"`+long+`1"}`, `{"a":"`+long+`2"}`, `{"a":"`+long+`3"}`
	synctest.Test(t, func(t *testing.T) {
		c, s, n := start(t, &Options{}, plainConnect, plainAnswer)
		sub(t, c, s, n, &SubscribeOptions{Delta: true}, `{"id":2,"subscribe":{"channel":"c","delta":"fossil"}}`,
			`{"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"e","delta":true}}`)
		s.send(fmt.Sprintf(`{"push":{"channel":"c","pub":{"data":%q,"offset":1}}}`, one),
			fmt.Sprintf(`{"push":{"channel":"c","pub":{"data":%s,"offset":2,"delta":true}}}`, asText(one, two)),
			fmt.Sprintf(`{"push":{"channel":"c","pub":{"data":%s,"offset":3,"delta":true}}}`, asText(two, three)))
		n.want(t, "c subscribed 0e recovered=false", "c pub 1 "+one, "c pub 2 "+two, "c pub 3 "+three)

		// After a loss, what was before is no base any more; what is recovered is one.
		_ = s.conn.Close()
		s.accept()
		s.want(`{"id":3,"connect":{}}`)
		s.send(`{"id":3,"connect":{"client":"j"}}`)
		s.want(`{"id":4,"subscribe":{"channel":"c","recover":true,"epoch":"e","offset":3,"delta":"fossil"}}`)
		s.send(fmt.Sprintf(`{"id":4,"subscribe":{"recoverable":true,"positioned":true,"epoch":"e","offset":3,"was_recovering":true,"recovered":true,"delta":true,`+
			`"publications":[{"data":%q,"offset":4},{"data":%s,"offset":5,"delta":true}]}}`, one, asText(one, two)),
			fmt.Sprintf(`{"push":{"channel":"c","pub":{"data":%s,"offset":6,"delta":true}}}`, asText(two, three)))
		n.want(t, "connected j", "c subscribed 3e recovered=true", "c pub 4 "+one, "c pub 5 "+two, "c pub 6 "+three)

		// One that is to something else, and two behind it that are not heard: the session ends.
		s.send(fmt.Sprintf(`{"push":{"channel":"c","pub":{"data":%s,"offset":7,"delta":true}}}
{"push":{"channel":"c","pub":{"data":%q,"offset":8}}}
{"push":{"channel":"c","pub":{"data":%q,"offset":9}}}`, asText(other, other+" "), one, two))
		s.want("close 1000")
		_ = s.conn.Close()
		n.want(t)
		s.accept()
		s.want(`{"id":5,"connect":{}}`)
		s.send(`{"id":5,"connect":{"client":"k"}}`)
		s.want(`{"id":6,"subscribe":{"channel":"c","recover":true,"epoch":"e","offset":6}}`)
		s.send(fmt.Sprintf(`{"id":6,"subscribe":{"recoverable":true,"positioned":true,"epoch":"e","offset":6,"was_recovering":true,"recovered":true,`+
			`"publications":[{"data":%s,"offset":7}]}}`, one))
		n.want(t, "connected k", "c subscribed 6e recovered=true", "c pub 7 "+one)
		stop(t, c, s)
	})
}

// TestScriptDeltaBad: what else a server may get wrong with deltas.
func TestScriptDeltaBad(t *testing.T) {
	for name, c := range map[string]struct{ answer, pub string }{
		"not agreed to":             {`{}`, `{"data":"0\n0;","delta":true}`},
		"a first one":               {`{"delta":true}`, `{"data":"1\n1@0,0;","delta":true}`},
		"no string":                 {`{"delta":true}`, `{"data":{"a":1}}`},
		"a string that is no JSON":  {`{"delta":true}`, `{"data":"{"}`},
		"what makes something else": {`{"delta":true}`, `{"data":"1\n1:{UzWW;","delta":true}`},
		"no data":                   {`{"delta":true}`, `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl, s, n := start(t, &Options{}, plainConnect, plainAnswer)
				sub(t, cl, s, n, &SubscribeOptions{Delta: true}, `{"id":2,"subscribe":{"channel":"c","delta":"fossil"}}`, `{"id":2,"subscribe":`+c.answer+`}`)
				s.send(`{"push":{"channel":"c","pub":` + c.pub + `}}`)
				s.want("close 1000")
				_ = s.conn.Close()
				s.accept()
				s.want(`{"id":3,"connect":{}}`)
				s.send(`{"id":3,"connect":{"client":"j"}}`)
				s.want(`{"id":4,"subscribe":{"channel":"c"}}`)
				s.send(`{"id":4,"subscribe":{}}`)
				n.want(t, "c subscribed 0 recovered=false", "connected j", "c subscribed 0 recovered=false")
				stop(t, cl, s)
			})
		})
	}
}
