// Package config is what a person may set: every option of the gateway by one name, given as a flag, as an
// environment variable or as a key of a YAML file. It knows what options mean to people, and leaves to its
// caller what they do.
package config

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Serve is the options of the gateway. Fields are named after their options; Default gives the defaults. The
// tags are for kong, which reads the flags.
type Serve struct {
	Addr  string
	Dev   bool   `negatable:""`
	PProf string `name:"pprof"`

	MaxConns        Count
	MaxMemory       Memory
	ConnsPerAddress Count
	RatePerAddress  Rate
	RetryAfter      Duration

	HandshakeTimeout Duration
	MaxHeader        Size
	Origins          List

	PingAfter   Duration
	CloseAfter  Duration
	UserTimeout Duration
	Drain       Duration

	MaxMessage  Size
	WriteQueue  Size
	Compression bool `negatable:""`

	Loops   Count
	Tables  Tables
	Workers Count
	Backlog Count

	Metrics   bool `negatable:""`
	LogLevel  LogLevel
	LogFormat LogFormat
}

// Option describes one option. Everything that people read about it comes from here.
type Option struct {
	Name    string
	Group   string
	Type    string // as the reference shows it: count, size, duration, …
	Default string
	Help    string // what it does, one sentence
	Edge    string // what happens at the limit, and with special values

	field func(*Serve) any
	check func(*Serve) error
}

// The groups, in the order of the reference.
const (
	groupServer    = "Server"
	groupAdmission = "Admission"
	groupHandshake = "Handshake"
	groupTime      = "Heartbeat and time"
	groupMessages  = "Messages"
	groupLoops     = "Loops"
	groupWatching  = "Watching"
)

// Options are all options, in the order of the reference.
func Options() []Option { return options }

var options = []Option{
	{
		Name: "addr", Group: groupServer, Type: "host:port", Default: ":8000",
		Help:  "Where to listen, for WebSocket and plain HTTP alike.",
		Edge:  "No host means all addresses of both families; port 0 takes a free one, which the start-up line names. Ports below 1024 need the capability CAP_NET_BIND_SERVICE.",
		field: func(s *Serve) any { return &s.Addr },
		check: func(s *Serve) error { return checkAddr(s.Addr) },
	}, {
		Name: "dev", Group: groupServer, Type: "bool", Default: "false",
		Help:  "Adds what helps to develop: the endpoint /echo, and /debug/pprof on the same port.",
		Edge:  "Both are open to everybody who reaches the port.",
		field: func(s *Serve) any { return &s.Dev },
	}, {
		Name: "pprof", Group: groupServer, Type: "host:port", Default: "",
		Help:  "Where to serve /debug/pprof, on a listener of its own.",
		Edge:  "Empty serves it nowhere (but see dev). Profiles tell much about a process: choose an address such as 127.0.0.1:6060.",
		field: func(s *Serve) any { return &s.PProf },
		check: func(s *Serve) error {
			if s.PProf == "" {
				return nil
			}
			return checkAddr(s.PProf)
		},
	},

	{
		Name: "max-conns", Group: groupAdmission, Type: "count", Default: "1000000",
		Help:  "The most connections, handshakes under way included.",
		Edge:  "Beyond it a client gets 503 with Retry-After. More than one descriptor table holds (RLIMIT_NOFILE) is spread over loops with tables of their own; where not even they hold the default, the default is what one table holds.",
		field: func(s *Serve) any { return &s.MaxConns },
		check: func(s *Serve) error { return atLeast(s.MaxConns, 1) },
	}, {
		Name: "max-memory", Group: groupAdmission, Type: "size", Default: "auto",
		Help:  "The most that connections may cost: the process's resident memory, and the kernel's share for each socket.",
		Edge:  "Beyond it a client gets 503 with Retry-After. auto is 90 % of what the cgroup and the machine have left at the start; none is no ceiling.",
		field: func(s *Serve) any { return &s.MaxMemory },
	}, {
		Name: "conns-per-address", Group: groupAdmission, Type: "count", Default: "0",
		Help:  "The most connections of one client address; of IPv6, of one /64.",
		Edge:  "Beyond it a client gets 503 with Retry-After. 0 is no bound. Behind a proxy all clients have the proxy's address.",
		field: func(s *Serve) any { return &s.ConnsPerAddress },
	}, {
		Name: "rate-per-address", Group: groupAdmission, Type: "number a second", Default: "0",
		Help:  "The most new connections a second of one client address, with bursts of four seconds' worth.",
		Edge:  "Beyond it a client gets 503 with Retry-After. 0 is no bound.",
		field: func(s *Serve) any { return &s.RatePerAddress },
	}, {
		Name: "retry-after", Group: groupAdmission, Type: "duration", Default: "5s",
		Help:  "What a refused client is told to wait, in Retry-After.",
		Edge:  "Rounded up to whole seconds; at least one.",
		field: func(s *Serve) any { return &s.RetryAfter },
		check: func(s *Serve) error { return positive(s.RetryAfter) },
	},

	{
		Name: "handshake-timeout", Group: groupHandshake, Type: "duration", Default: "5s",
		Help:  "The time from accept to the complete request.",
		Edge:  "After it the client gets 408 and its connection ends with the cause handshake_timeout.",
		field: func(s *Serve) any { return &s.HandshakeTimeout },
		check: func(s *Serve) error { return positive(s.HandshakeTimeout) },
	}, {
		Name: "max-header", Group: groupHandshake, Type: "size", Default: "8KiB",
		Help:  "The largest request head.",
		Edge:  "A larger one gets 431. It may be 256 bytes to 32KiB.",
		field: func(s *Serve) any { return &s.MaxHeader },
		check: func(s *Serve) error {
			if s.MaxHeader < 256 || s.MaxHeader > 32<<10 {
				return fmt.Errorf("%v is out of range: want 256 to 32KiB", s.MaxHeader)
			}
			return nil
		},
	}, {
		Name: "origins", Group: groupHandshake, Type: "list", Default: "*",
		Help:  "The origins whose pages may connect to /ws: exact, or like https://*.example.com.",
		Edge:  "Other pages get 403; clients that are no browsers send no Origin and are always welcome. * is any, which is safe while nothing on /ws depends on cookies, as with the plain protocol; same is the host of the request itself.",
		field: func(s *Serve) any { return &s.Origins },
		check: func(s *Serve) error { return checkOrigins(s.Origins) },
	},

	{
		Name: "ping-after", Group: groupTime, Type: "duration", Default: "25s",
		Help:  "After how long a silence a connection of /ws is pinged, up to a 25th earlier so that pings spread.",
		Edge:  "off (or 0s) sends no pings.",
		field: func(s *Serve) any { return &s.PingAfter },
	}, {
		Name: "close-after", Group: groupTime, Type: "duration", Default: "30s",
		Help:  "After how long a silence a connection of /ws is closed, with the cause heartbeat_timeout.",
		Edge:  "off (or 0s) closes none. It must be more than ping-after; if only that is given and is 30s or more, this is 5s more.",
		field: func(s *Serve) any { return &s.CloseAfter },
		check: func(s *Serve) error {
			if s.CloseAfter > 0 && s.CloseAfter <= s.PingAfter {
				return fmt.Errorf("%v is not more than ping-after, %v", s.CloseAfter, s.PingAfter)
			}
			return nil
		},
	}, {
		Name: "user-timeout", Group: groupTime, Type: "duration", Default: "30s",
		Help:  "How long written data may stay unacknowledged before the kernel ends the connection (TCP_USER_TIMEOUT).",
		Edge:  "The cause is kernel_timeout. off (or 0s) leaves the kernel's default, about 15 minutes.",
		field: func(s *Serve) any { return &s.UserTimeout },
	}, {
		Name: "drain", Group: groupTime, Type: "duration", Default: "10s",
		Help:  "Over how long connections are closed (with 1001) after SIGTERM or SIGINT, so that clients don't come back in one wave.",
		Edge:  "off (or 0s) closes all at once. Those that don't answer the close frame are given 5 s and some more. A second signal ends the process at once with exit code 1.",
		field: func(s *Serve) any { return &s.Drain },
	},

	{
		Name: "max-message", Group: groupMessages, Type: "size", Default: "1MiB",
		Help:  "The largest message that /ws takes, after inflating.",
		Edge:  "A larger one ends the connection with 1009 and the cause message_too_big, as soon as its length is known.",
		field: func(s *Serve) any { return &s.MaxMessage },
		check: func(s *Serve) error { return atLeast(s.MaxMessage, 1) },
	}, {
		Name: "write-queue", Group: groupMessages, Type: "size", Default: "1MiB",
		Help:  "The most that waits for one connection of /ws beyond what its socket holds.",
		Edge:  "A connection whose own replies fill it is not read until they are gone; one that others' messages fill ends with the cause slow_consumer. One message may exceed it.",
		field: func(s *Serve) any { return &s.WriteQueue },
		check: func(s *Serve) error { return atLeast(s.WriteQueue, 1) },
	}, {
		Name: "compression", Group: groupMessages, Type: "bool", Default: "false",
		Help:  "Agrees to permessage-deflate on /ws where the client offers it.",
		Edge:  "Nothing is kept between messages; messages of less than 256 bytes are sent as they are.",
		field: func(s *Serve) any { return &s.Compression },
	},

	{
		Name: "loops", Group: groupLoops, Type: "count", Default: "0",
		Help:  "The loops that start at once; each is one thread.",
		Edge:  "0 is one for each CPU that Go uses (GOMAXPROCS). With private tables more start by themselves when these are full.",
		field: func(s *Serve) any { return &s.Loops },
		check: func(s *Serve) error {
			if s.Loops > 1024 {
				return fmt.Errorf("%v is out of range: want 0 to 1024", s.Loops)
			}
			return nil
		},
	}, {
		Name: "tables", Group: groupLoops, Type: "auto, shared or private", Default: "auto",
		Help:  "Whether each loop has a descriptor table of its own.",
		Edge:  "auto makes them private only where max-conns does not fit into one table; shared refuses to start then.",
		field: func(s *Serve) any { return &s.Tables },
	}, {
		Name: "workers", Group: groupLoops, Type: "count", Default: "256",
		Help:  "The most goroutines that run what may block.",
		Edge:  "Beyond it work waits; a connection whose work lags is not read.",
		field: func(s *Serve) any { return &s.Workers },
		check: func(s *Serve) error { return atLeast(s.Workers, 1) },
	}, {
		Name: "backlog", Group: groupLoops, Type: "count", Default: "65535",
		Help:  "The most connections that wait to be accepted, for each listener.",
		Edge:  "The kernel's net.core.somaxconn bounds it too; beyond it connection attempts are dropped and repeated by the client's kernel.",
		field: func(s *Serve) any { return &s.Backlog },
		check: func(s *Serve) error { return atLeast(s.Backlog, 1) },
	},

	{
		Name: "metrics", Group: groupWatching, Type: "bool", Default: "true",
		Help:  "Serves /metrics for Prometheus.",
		Edge:  "Without it /metrics answers 404.",
		field: func(s *Serve) any { return &s.Metrics },
	}, {
		Name: "log-level", Group: groupWatching, Type: "debug, info, warn or error", Default: "info",
		Help:  "The least important log lines that are written, to standard error.",
		Edge:  "debug has a line for every connection that ends.",
		field: func(s *Serve) any { return &s.LogLevel },
	}, {
		Name: "log-format", Group: groupWatching, Type: "text or json", Default: "text",
		Help:  "The form of log lines.",
		Edge:  "json is one object a line.",
		field: func(s *Serve) any { return &s.LogFormat },
	},
}

// Default is the options as they are when nothing is given.
func Default() Serve {
	var s Serve
	for _, o := range options {
		if o.Default == "" {
			continue
		}
		if err := o.set(&s, o.Default); err != nil {
			panic(fmt.Sprintf("config: the default of %s: %v", o.Name, err))
		}
	}
	return s
}

func atLeast[T ~int | ~int64](v T, least T) error {
	if v < least {
		return fmt.Errorf("%v is too little: want at least %v", v, least)
	}
	return nil
}

func positive(d Duration) error {
	if d <= 0 {
		return errors.New("it cannot be off: want more than 0s")
	}
	return nil
}

func checkAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is no address: want host:port or :port, such as :8000 or [::1]:8000", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q has no port: want a number from 0 to 65535", addr)
	}
	return nil
}

func checkOrigins(l List) error {
	if len(l) == 0 {
		return errors.New(`no origin: want "*", "same", or some like https://example.com`)
	}
	for _, o := range l {
		switch {
		case o == "*" || o == "same":
			if len(l) > 1 {
				return fmt.Errorf("%q stands beside others: it stands alone", o)
			}
		case o == "null":
		case !strings.Contains(o, "://") || strings.HasSuffix(o, "/"):
			return fmt.Errorf("%q is no origin: want scheme://host without a path, such as https://example.com", o)
		}
	}
	return nil
}

// derive sets what follows from other options where it was not given itself.
func (s *Serve) derive(given func(name string) bool) (derived []string) {
	if !given("close-after") && s.CloseAfter > 0 && s.CloseAfter <= s.PingAfter {
		s.CloseAfter = s.PingAfter + Duration(5*time.Second)
		derived = append(derived, "close-after")
	}
	return derived
}
