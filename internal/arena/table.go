package arena

import "unsafe"

// Table finds records by hash: chains through a field of the records themselves, which the caller's link gives, so that a
// record costs one reference and about one in the table. The zero value is ready.
type Table struct {
	Memory Memory // set before the first use

	heads []uint32
	chunk chunk // what heads lie in
	n     int
}

const tableLeast = 1 << 10

// First is the first record of the chain for hash, or 0; the caller follows its links and compares.
func (t *Table) First(hash uint32) uint32 {
	if len(t.heads) == 0 {
		return 0
	}
	return t.heads[int(hash)&(len(t.heads)-1)]
}

// Add puts a record into the chain for its hash. link gives the field of a record that holds the next in its chain,
// hashOf a record's hash.
func (t *Table) Add(ref, hash uint32, link func(uint32) *uint32, hashOf func(uint32) uint32) {
	if t.n >= len(t.heads) {
		t.resize(max(tableLeast, 2*len(t.heads)), link, hashOf)
	}
	head := &t.heads[int(hash)&(len(t.heads)-1)]
	*link(ref) = *head
	*head = ref
	t.n++
}

// Remove takes a record out of the chain for its hash.
func (t *Table) Remove(ref, hash uint32, link func(uint32) *uint32) {
	at := &t.heads[int(hash)&(len(t.heads)-1)]
	for *at != ref {
		at = link(*at)
	}
	*at = *link(ref)
	*link(ref) = 0
	t.n--
}

func (t *Table) resize(size int, link func(uint32) *uint32, hashOf func(uint32) uint32) {
	old, chunk := t.heads, t.chunk
	t.chunk.b, t.chunk.mapped = t.Memory.take(4 * size)
	t.heads = unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(t.chunk.b))), size)
	for _, ref := range old {
		for ref != 0 {
			next := *link(ref)
			head := &t.heads[int(hashOf(ref))&(size-1)]
			*link(ref) = *head
			*head = ref
			ref = next
		}
	}
	t.Memory.give(chunk.b, chunk.mapped)
}

// Len is the number of records.
func (t *Table) Len() int { return t.n }

// Each calls f for every record until it returns false. f must not change the table.
func (t *Table) Each(link func(uint32) *uint32, f func(ref uint32) bool) {
	for _, ref := range t.heads {
		for ; ref != 0; ref = *link(ref) {
			if !f(ref) {
				return
			}
		}
	}
}

// Reset forgets everything and keeps no memory.
func (t *Table) Reset() {
	t.Memory.give(t.chunk.b, t.chunk.mapped)
	*t = Table{Memory: t.Memory}
}
