//go:build race

package longwire

// raceEnabled says that sync.Pool drops what it likes, and that everything is slow.
const raceEnabled = true
