// Package spelling finds the word that somebody meant.
package spelling

import (
	"fmt"
	"strings"
)

// Hint ends an error about a word that is not among those known: a question with the nearest of them, or nothing where none is
// near. Case does not matter, nor whether a name has dashes or underscores. A prefix that all names share is left out of the
// comparison: it says nothing about how near they are.
func Hint(word string, known []string, prefix string) string {
	plain := func(s string) string {
		return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(s, prefix), "_", "-"))
	}
	w := plain(word)
	best, least := "", 1+len(w)/3
	for _, k := range known {
		p := plain(k)
		if len(w) > 2*len(p)+3 {
			continue // too far however it is counted, and it may be long
		}
		if d := distance(w, p); d <= least {
			best, least = k, d-1
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// distance is how many letters have to change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
