package sys

import "time"

// ListenOptions are set on a listening socket; its connections inherit them, which spares a setsockopt
// for each.
type ListenOptions struct {
	// Backlog bounds the accept queue; zero means 65,535, and the kernel's somaxconn bounds both.
	Backlog int
	// UserTimeout is TCP_USER_TIMEOUT: how long written data may stay unacknowledged before the kernel
	// ends the connection. Zero leaves the kernel's default (about 15 minutes).
	UserTimeout time.Duration
}
