// Package trace is the kernel's view of TCP connections: the states that each went through, and why it ended. It works
// at one of three levels, the highest that the kernel allows, and says which:
//
//   - LevelBPF: probes in the kernel keep a record of each connection and report it when the socket is destroyed.
//   - LevelDiag: the kernel tells of each destroyed socket with its last figures. It needs no rights.
//   - LevelErrno: what the connection's own process saw.
//
// A Life is one connection's record, Life.Verdict says why it ended, Life.Explain in plain words. What can be told apart
// at which level is a table in docs/trace.md.
package trace
