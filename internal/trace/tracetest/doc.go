// Package tracetest is a cable between two network namespaces, for tests: servers at one end, clients at the other, and each socket can
// be told at any time what becomes of its packets. It is there on Linux only.
package tracetest
