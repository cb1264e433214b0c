package lab

import "github.com/longwire/longwire/internal/sys"

// hasOutside tells whether memory outside of the heap can be had.
const hasOutside = true

// outside is n bytes of memory outside of the heap, until free.
func outside(n int) (b []byte, free func(), err error) {
	if b, err = sys.Map(max(1, n)); err != nil {
		return nil, nil, err
	}
	return b, func() { sys.Unmap(b) }, nil
}
