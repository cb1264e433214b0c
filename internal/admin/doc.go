// Package admin is an operator's side of a gateway over HTTP: who may come in (Guard), on how many connections (Limit), and
// what the console asks and does (New), in JSON. docs/admin.md describes it.
package admin
