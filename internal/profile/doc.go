// Package profile shows where a running gateway's time and memory go: the pages of /debug/pprof, and captures that it takes by
// itself when something goes wrong (Watch), so that they are there when somebody asks the day after.
package profile
