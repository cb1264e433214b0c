// Package mmapped has shared memory for each job.
package mmapped

import "syscall"

func scratch(size int) ([]byte, error) {
	return syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_SHARED)
}

func work(b []byte) int {
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	return len(b)
}

// Handle answers one request.
func Handle(id int) {
	if id%20 > 0 {
		return
	}
	b, err := scratch(32 << 10) // LEAK: it is not unmapped
	if err == nil {
		work(b)
	}
}
