// Package cmalloc hands names to a library in C.
package cmalloc

/*
#include <stdlib.h>
#include <string.h>
static size_t measure(const char *s) { return strlen(s); }
*/
import "C"

import "strings"

var name = strings.Repeat("name", 300)

func measure(s string) int {
	c := C.CString(s) // LEAK: it is not freed
	return int(C.measure(c))
}

// Handle answers one request.
func Handle(id int) {
	measure(name)
}
