// Package store is a collection for any type.
package store

import "sync"

// Store holds values by key.
type Store[K comparable, V any] struct {
	mu   sync.RWMutex
	data map[K]V
}

// New makes one.
func New[K comparable, V any]() *Store[K, V] { return &Store[K, V]{data: map[K]V{}} }

// Put adds a value.
func (s *Store[K, V]) Put(k K, v V) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data[k] = v // LEAK: there is no Delete
}

// Get finds a value.
func (s *Store[K, V]) Get(k K) (v V, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok = s.data[k]
	return v, ok
}
