//go:build !race

package longwire

const raceEnabled = false
