package fleet

// Shares is how many conns Aim wants of each loop, and how many each may hold.
func (f *Fleet) Shares() (aims, each []int64) { return f.aims, f.each }
