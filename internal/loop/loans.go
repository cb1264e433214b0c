package loop

// Loans lends values with pointers (a buffer, a parser's state) to those few conns that need one now, so that
// an idle conn's state is an index. The zero value is ready. It belongs to one thread.
type Loans[T any] struct {
	out   []*T     // by reference - 1
	free  []uint32 // references without a value
	spare []*T     // values without a borrower
}

// keepSpare is how many values without a borrower are kept.
const keepSpare = 64

// Spare gives a value without lending it: one that was given back, or a new one.
func (x *Loans[T]) Spare() *T {
	if n := len(x.spare); n > 0 {
		v := x.spare[n-1]
		x.spare[n-1] = nil
		x.spare = x.spare[:n-1]
		return v
	}
	return new(T)
}

// Lend registers v and gives its reference, which is never 0.
func (x *Loans[T]) Lend(v *T) uint32 {
	if n := len(x.free); n > 0 {
		ref := x.free[n-1]
		x.free = x.free[:n-1]
		x.out[ref-1] = v
		return ref
	}
	x.out = append(x.out, v)
	return uint32(len(x.out))
}

// At is the value that was lent as ref.
func (x *Loans[T]) At(ref uint32) *T { return x.out[ref-1] }

// Return takes the value back, which is then the caller's; ref may be given to another.
func (x *Loans[T]) Return(ref uint32) *T {
	v := x.out[ref-1]
	x.out[ref-1] = nil
	x.free = append(x.free, ref)
	return v
}

// Keep takes a value that was returned for the next borrower. The caller has emptied it.
func (x *Loans[T]) Keep(v *T) {
	if len(x.spare) < keepSpare {
		x.spare = append(x.spare, v)
	}
}

// Lent is the number of values that are out.
func (x *Loans[T]) Lent() int { return len(x.out) - len(x.free) }

// Reset forgets everything.
func (x *Loans[T]) Reset() { *x = Loans[T]{} }
