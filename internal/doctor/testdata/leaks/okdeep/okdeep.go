// Package okdeep walks deep trees.
package okdeep

type tree struct {
	left, right *tree
	value       int
}

func build(depth int) *tree {
	var t *tree
	for range depth {
		t = &tree{left: t, value: 1}
	}
	return t
}

func (t *tree) sum() int {
	if t == nil {
		return 0
	}
	return t.value + t.left.sum() + t.right.sum()
}

var chain = build(50_000)

// Handle answers one request.
func Handle(id int) {
	if id%100 == 0 {
		chain.sum()
	}
}
