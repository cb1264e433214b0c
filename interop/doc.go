// Package interop tests Longwire against others: Go's other WebSocket libraries in both roles, a browser, the ws
// package of Node, the official Centrifuge SDK and what Centrifugo was recorded to say, and a checker of its own that
// puts frames together by hand. It is a module of its own, so that none of them is among Longwire's dependencies.
package interop
