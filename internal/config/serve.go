// Package config is what a person may set: every option of the gateway by one name, given as a flag, as an
// environment variable or as a key of a YAML file. It knows what options mean to people, and leaves to its
// caller what they do.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Serve is the options of the gateway. Fields are named after their options; Default gives the defaults. The
// tags are for kong, which reads the flags.
type Serve struct {
	Addr string
	Dev  bool `negatable:""`

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

	Insecure           bool `negatable:""`
	Anonymous          bool `negatable:""`
	ClientChannelLimit Count
	ChannelMaxLength   Count
	ConnectRate        Rate
	MaxCommand         Size
	ClientPing         Duration
	ClientPongTimeout  Duration
	ClientStale        Duration
	ClientExpireGrace  Duration
	HistoryMemory      Size

	TokenHMACSecret       Secret
	TokenRSAPublicKey     PEM
	TokenECDSAPublicKey   PEM
	TokenEd25519PublicKey PEM    `name:"token-ed25519-public-key"`
	TokenJWKSURL          string `name:"token-jwks-url"`
	TokenAudience         string
	TokenIssuer           string

	APIKey      Secret
	APIInsecure bool `negatable:""`

	Admin         string
	AdminToken    Secret
	AdminInsecure bool `negatable:""`

	HookConnect     string
	HookRefresh     string
	HookSubscribe   string
	HookSubRefresh  string
	HookPublish     string
	HookRPC         string
	HookTimeout     Duration
	HookConcurrency Count
	HookHeaders     List

	Loops   Count
	Tables  Tables
	Workers Count
	Backlog Count

	Metrics       bool `negatable:""`
	FlightRecord  Memory
	FlightDir     string
	Trace         bool
	MaskAddresses bool `negatable:""`

	ProfileDir     string
	ProfileBytes   Size
	ProfileRSSJump Share `name:"profile-rss-jump"`
	ProfilePause   Duration
	ProfileTrace   Duration

	LogLevel      LogLevel
	LogFormat     LogFormat
	LogSampling   LogSampling
	LogShare      Share
	SlowCall      Duration
	OTLPEndpoint  string
	OTLPHeaders   Secret
	TraceSampling Share
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
	groupPush      = "Push"
	groupTokens    = "Tokens"
	groupAPI       = "API"
	groupAdmin     = "Admin"
	groupHooks     = "Hooks"
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
		Help:  "Adds what helps to develop: the endpoint /echo, the console, the demo page and /debug/pprof on the same port, and push that is open to all.",
		Edge:  "All of it is open to everybody who reaches the port. insecure and api-insecure are on with it, admin-insecure too where there is no admin-token, and channels without a namespace have presence, joins and leaves, and recoverable history of 100 publications for 5 minutes; each as far as it is not given itself (the last one as channels: in the file).",
		field: func(s *Serve) any { return &s.Dev },
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
		Help:  "The origins whose pages may connect by WebSocket: exact, or like https://*.example.com.",
		Edge:  "Other pages get 403; clients that are no browsers send no Origin and are always welcome. * is any, which is safe while nothing depends on cookies (hooks that are passed the Cookie header do); same is the host of the request itself.",
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
		Help:  "Over how long connections are closed (with 1001) after SIGTERM or SIGINT, so that clients don't come back in one wave; the reason tells each when to.",
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
		Help:  "The most that waits for one connection beyond what its socket holds.",
		Edge:  "A connection whose own replies fill it is not read until they are gone; one that others' messages fill ends with the cause slow_consumer. One message may exceed it.",
		field: func(s *Serve) any { return &s.WriteQueue },
		check: func(s *Serve) error { return atLeast(s.WriteQueue, 1) },
	}, {
		Name: "compression", Group: groupMessages, Type: "bool", Default: "false",
		Help:  "Agrees to permessage-deflate where the client offers it.",
		Edge:  "Nothing is kept between messages; messages of less than 256 bytes are sent as they are.",
		field: func(s *Serve) any { return &s.Compression },
	},

	{
		Name: "insecure", Group: groupPush, Type: "bool", Default: "false",
		Help:  "Lets every client of /connection/websocket connect without a token, and subscribe, publish, and ask for presence and history in every channel.",
		Edge:  "For tests and development only. Channels that begin with $ still take a token to subscribe, and unknown namespaces stay unknown. It is on with dev.",
		field: func(s *Serve) any { return &s.Insecure },
	}, {
		Name: "anonymous", Group: groupPush, Type: "bool", Default: "false",
		Help:  "Lets clients of /connection/websocket connect without a token, as nobody in particular.",
		Edge:  "They may do what channels allow for anonymous clients. Without it they are refused, unless hook-connect says who they are or insecure is on.",
		field: func(s *Serve) any { return &s.Anonymous },
	}, {
		Name: "client-channel-limit", Group: groupPush, Type: "count", Default: "128",
		Help:  "The most subscriptions of one connection.",
		Edge:  "Beyond it a subscription is refused with error 106, limit exceeded.",
		field: func(s *Serve) any { return &s.ClientChannelLimit },
		check: func(s *Serve) error { return atLeast(s.ClientChannelLimit, 1) },
	}, {
		Name: "channel-max-length", Group: groupPush, Type: "count", Default: "255",
		Help:  "The longest name of a channel, in bytes.",
		Edge:  "A longer one is refused with error 107, bad request. It may be 1 to 1024.",
		field: func(s *Serve) any { return &s.ChannelMaxLength },
		check: func(s *Serve) error {
			if s.ChannelMaxLength < 1 || s.ChannelMaxLength > 1024 {
				return fmt.Errorf("%v is out of range: want 1 to 1024", s.ChannelMaxLength)
			}
			return nil
		},
	}, {
		Name: "connect-rate", Group: groupPush, Type: "number a second", Default: "0",
		Help:  "The most new sessions a second on /connection/websocket.",
		Edge:  "A client beyond it is closed with 3013, too many requests, and told when to come back, each another time. So are those whose connections a drain or a disconnect of many ends: no more of them come back in a second. 0 is no bound.",
		field: func(s *Serve) any { return &s.ConnectRate },
	}, {
		Name: "max-command", Group: groupPush, Type: "size", Default: "64KiB",
		Help:  "The largest message that /connection/websocket takes, after inflating; it may hold several commands.",
		Edge:  "A larger one ends the connection with 1009 and the cause message_too_big, as soon as its length is known.",
		field: func(s *Serve) any { return &s.MaxCommand },
		check: func(s *Serve) error { return atLeast(s.MaxCommand, 1) },
	}, {
		Name: "client-ping", Group: groupPush, Type: "duration", Default: "25s",
		Help:  "How often the protocol pings a client of /connection/websocket.",
		Edge:  "It cannot be off: clients give up ten seconds after a ping that did not come. At least 1s.",
		field: func(s *Serve) any { return &s.ClientPing },
		check: func(s *Serve) error { return atLeast(s.ClientPing, Duration(time.Second)) },
	}, {
		Name: "client-pong-timeout", Group: groupPush, Type: "duration", Default: "8s",
		Help:  "How long a client of /connection/websocket may take to answer a ping.",
		Edge:  "After it the connection is closed with 3012, no pong. off (or 0s) asks for no answer. It must be less than client-ping; if only that is given and is 8s or less, this is a third of it.",
		field: func(s *Serve) any { return &s.ClientPongTimeout },
		check: func(s *Serve) error {
			if s.ClientPongTimeout >= s.ClientPing {
				return fmt.Errorf("%v is not less than client-ping, %v", s.ClientPongTimeout, s.ClientPing)
			}
			return nil
		},
	}, {
		Name: "client-stale", Group: groupPush, Type: "duration", Default: "10s",
		Help:  "How long a client of /connection/websocket may take from the handshake to its connect command.",
		Edge:  "After it the connection is closed with 3502, stale.",
		field: func(s *Serve) any { return &s.ClientStale },
		check: func(s *Serve) error { return positive(s.ClientStale) },
	}, {
		Name: "client-expire-grace", Group: groupPush, Type: "duration", Default: "25s",
		Help:  "How long a session or subscription outlives its expiry, so that a refresh that is under way can arrive.",
		Edge:  "After it the connection is closed with 3005, or the subscription ended with 2501. off (or 0s) is no grace.",
		field: func(s *Serve) any { return &s.ClientExpireGrace },
	}, {
		Name: "history-memory", Group: groupPush, Type: "size", Default: "256MiB",
		Help:  "The most that all history in memory may take.",
		Edge:  "Beyond it what is oldest in any channel goes before its time, and clients that would have recovered them are told that they are gone.",
		field: func(s *Serve) any { return &s.HistoryMemory },
		check: func(s *Serve) error { return atLeast(s.HistoryMemory, 1) },
	},

	{
		Name: "token-hmac-secret", Group: groupTokens, Type: "secret", Default: "",
		Help:  "The secret of tokens that are signed with HS256, HS384 or HS512.",
		Edge:  "Empty refuses such tokens. Arguments are seen by all users of a machine: prefer the environment or the file. It is never shown.",
		field: func(s *Serve) any { return &s.TokenHMACSecret },
	}, {
		Name: "token-rsa-public-key", Group: groupTokens, Type: "PEM or path", Default: "",
		Help:  "The public key of tokens that are signed with RS256, RS384 or RS512.",
		Edge:  "Empty refuses such tokens. A value that begins with -----BEGIN is the key itself, in PEM; any other is the path of a file that holds it, which is read once, at the start.",
		field: func(s *Serve) any { return &s.TokenRSAPublicKey },
		check: func(s *Serve) error { return s.TokenRSAPublicKey.check() },
	}, {
		Name: "token-ecdsa-public-key", Group: groupTokens, Type: "PEM or path", Default: "",
		Help:  "The public key of tokens that are signed with ES256, ES384 or ES512.",
		Edge:  "Empty refuses such tokens. The key itself or a path, as with token-rsa-public-key.",
		field: func(s *Serve) any { return &s.TokenECDSAPublicKey },
		check: func(s *Serve) error { return s.TokenECDSAPublicKey.check() },
	}, {
		Name: "token-ed25519-public-key", Group: groupTokens, Type: "PEM or path", Default: "",
		Help:  "The public key of tokens that are signed with EdDSA.",
		Edge:  "Empty refuses such tokens. The key itself or a path, as with token-rsa-public-key.",
		field: func(s *Serve) any { return &s.TokenEd25519PublicKey },
		check: func(s *Serve) error { return s.TokenEd25519PublicKey.check() },
	}, {
		Name: "token-jwks-url", Group: groupTokens, Type: "URL", Default: "",
		Help:  "Where the public keys of tokens are to be had as a JSON Web Key Set, by the key id that a token names.",
		Edge:  "Empty asks nobody. Its keys alone verify the tokens that name one, those with HS256 to HS512 aside. It is asked for anew each hour, and when a token names a key that it lacks, at most every 10 s.",
		field: func(s *Serve) any { return &s.TokenJWKSURL },
		check: func(s *Serve) error { return checkURL(s.TokenJWKSURL) },
	}, {
		Name: "token-audience", Group: groupTokens, Type: "string", Default: "",
		Help:  "The audience that tokens must name in aud.",
		Edge:  "Others are refused. Empty asks for none.",
		field: func(s *Serve) any { return &s.TokenAudience },
	}, {
		Name: "token-issuer", Group: groupTokens, Type: "string", Default: "",
		Help:  "The issuer that tokens must name in iss.",
		Edge:  "Others are refused. Empty asks for none.",
		field: func(s *Serve) any { return &s.TokenIssuer },
	},

	{
		Name: "api-key", Group: groupAPI, Type: "secret", Default: "",
		Help:  "The key that requests to the HTTP API below /api must have, in X-API-Key or as Authorization: apikey.",
		Edge:  "Others get 401. Empty switches the API off, unless api-insecure is on. It is never shown; prefer the environment or the file to the flag.",
		field: func(s *Serve) any { return &s.APIKey },
	}, {
		Name: "api-insecure", Group: groupAPI, Type: "bool", Default: "false",
		Help:  "Takes requests to the HTTP API without a key.",
		Edge:  "Everybody who reaches the port may publish and disconnect then. It is on with dev.",
		field: func(s *Serve) any { return &s.APIInsecure },
	},

	{
		Name: "admin", Group: groupAdmin, Type: "host:port", Default: "",
		Help:  "Where to serve the console, /debug/pprof, /metrics and health, on a listener of its own.",
		Edge:  "Empty serves none of the first two (but see dev). It asks for admin-token, all but health and the console's empty page. It speaks plain HTTP: choose an address that only operators reach, such as 127.0.0.1:6060, or put TLS in front.",
		field: func(s *Serve) any { return &s.Admin },
		check: func(s *Serve) error {
			if s.Admin == "" {
				return nil
			}
			if err := checkAddr(s.Admin); err != nil {
				return err
			}
			if s.AdminToken == "" && !s.AdminInsecure {
				return errors.New("nobody could be let in: set admin-token, best as LONGWIRE_ADMIN_TOKEN, or, where only friends reach the address, admin-insecure")
			}
			return nil
		},
	}, {
		Name: "admin-token", Group: groupAdmin, Type: "secret", Default: "",
		Help:  "What callers of the admin listener must show, as Authorization: Bearer.",
		Edge:  "Others get 401, and 429 for a while after some wrong ones. At least 16 characters, such as openssl rand -hex 16 prints. It is never shown; prefer the environment or the file to the flag.",
		field: func(s *Serve) any { return &s.AdminToken },
		check: func(s *Serve) error {
			token := string(s.AdminToken)
			switch {
			case token == "":
				return nil
			case s.AdminInsecure:
				return errors.New("admin-insecure asks for none: want one of the two")
			case len(token) < leastToken:
				return fmt.Errorf("it has %d characters: want at least %d, such as openssl rand -hex 16 prints", len(token), leastToken)
			case strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c >= 0x7f }):
				return errors.New("it cannot stand in a header: want letters, digits and signs of ASCII without spaces")
			}
			return nil
		},
	}, {
		Name: "admin-insecure", Group: groupAdmin, Type: "bool", Default: "false",
		Help:  "Lets everybody in who reaches the admin listener.",
		Edge:  "They may see who is connected, disconnect them, publish, and drain the node. It is on with dev where there is no admin-token.",
		field: func(s *Serve) any { return &s.AdminInsecure },
	},

	{
		Name: "hook-connect", Group: groupHooks, Type: "URL", Default: "",
		Help:  "Where to ask, by HTTP POST, who a client is that connects without a token.",
		Edge:  "Empty asks nobody; see anonymous.",
		field: func(s *Serve) any { return &s.HookConnect },
		check: func(s *Serve) error { return checkURL(s.HookConnect) },
	}, {
		Name: "hook-refresh", Group: groupHooks, Type: "URL", Default: "",
		Help:  "Where to ask whether a session goes on that hook-connect gave an expiry.",
		Edge:  "Empty asks nobody: such a session ends when it expires.",
		field: func(s *Serve) any { return &s.HookRefresh },
		check: func(s *Serve) error { return checkURL(s.HookRefresh) },
	}, {
		Name: "hook-subscribe", Group: groupHooks, Type: "URL", Default: "",
		Help:  "Where to ask whether a client may subscribe, for channels with subscribe-hook.",
		Edge:  "Empty asks nobody; then no channel may have subscribe-hook.",
		field: func(s *Serve) any { return &s.HookSubscribe },
		check: func(s *Serve) error { return checkURL(s.HookSubscribe) },
	}, {
		Name: "hook-sub-refresh", Group: groupHooks, Type: "URL", Default: "",
		Help:  "Where to ask whether a subscription goes on that has an expiry, for channels with sub-refresh-hook.",
		Edge:  "Empty asks nobody; then no channel may have sub-refresh-hook.",
		field: func(s *Serve) any { return &s.HookSubRefresh },
		check: func(s *Serve) error { return checkURL(s.HookSubRefresh) },
	}, {
		Name: "hook-publish", Group: groupHooks, Type: "URL", Default: "",
		Help:  "Where to ask whether a client may publish, and what, for channels with publish-hook.",
		Edge:  "Empty asks nobody; then no channel may have publish-hook.",
		field: func(s *Serve) any { return &s.HookPublish },
		check: func(s *Serve) error { return checkURL(s.HookPublish) },
	}, {
		Name: "hook-rpc", Group: groupHooks, Type: "URL", Default: "",
		Help:  "Where to send the rpc commands of clients.",
		Edge:  "Empty answers them with error 108, not available.",
		field: func(s *Serve) any { return &s.HookRPC },
		check: func(s *Serve) error { return checkURL(s.HookRPC) },
	}, {
		Name: "hook-timeout", Group: groupHooks, Type: "duration", Default: "1s",
		Help:  "How long a hook may take to answer.",
		Edge:  "After it the client gets error 100, internal, and tries again. After some failures in a row the backend is left alone for a few seconds.",
		field: func(s *Serve) any { return &s.HookTimeout },
		check: func(s *Serve) error { return positive(s.HookTimeout) },
	}, {
		Name: "hook-concurrency", Group: groupHooks, Type: "count", Default: "64",
		Help:  "The most requests to hooks at one time.",
		Edge:  "Beyond it they wait, for hook-timeout at most.",
		field: func(s *Serve) any { return &s.HookConcurrency },
		check: func(s *Serve) error { return atLeast(s.HookConcurrency, 1) },
	}, {
		Name: "hook-headers", Group: groupHooks, Type: "list", Default: "",
		Help:  "The headers of a client's handshake that hooks are sent, such as Cookie and Authorization.",
		Edge:  "Empty sends none. Case does not matter.",
		field: func(s *Serve) any { return &s.HookHeaders },
		check: func(s *Serve) error { return checkHeaders(s.HookHeaders) },
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
		Name: "flight-record", Group: groupWatching, Type: "size", Default: "auto",
		Help:  "The memory for what happened to the last connections, which longwire why tells of.",
		Edge:  "An event is 64 bytes and a connection has three to five, so 16MiB are about 65,000 connections; the newest take the place of the oldest. auto is 16 bytes for each of max-conns, and at least 1MiB; none records nothing.",
		field: func(s *Serve) any { return &s.FlightRecord },
	}, {
		Name: "flight-dir", Group: groupWatching, Type: "path", Default: "",
		Help:  "A directory for that record, so that after a restart or a crash it can still be asked.",
		Edge:  "It is made where it is missing, takes twice flight-record of disk, and belongs to one gateway at a time: another one does not start. The record is that of the process before this one, not of earlier ones. Empty keeps it in memory.",
		field: func(s *Serve) any { return &s.FlightDir },
	}, {
		Name: "trace", Group: groupWatching, Type: "bool", Default: "false",
		Help:  "Has probes in the kernel tell how each connection ended, beside what the gateway saw.",
		Edge:  "Where the kernel refuses (CAP_BPF and CAP_PERFMON are needed), the log says so, and socket diagnosis or the gateway itself tells what it can. Once all is attached and listening, all capabilities are given up, but in a program built with cgo. It costs 11 MB, and 540 bytes of kernel memory a connection; see docs/trace.md.",
		field: func(s *Serve) any { return &s.Trace },
	}, {
		Name: "mask-addresses", Group: groupWatching, Type: "bool", Default: "false",
		Help:  "Keeps only the network of clients' addresses in the record and in the log: /24 of IPv4, /48 of IPv6, no port.",
		Edge:  "Hooks and limits still have the whole address.",
		field: func(s *Serve) any { return &s.MaskAddresses },
	}, {
		Name: "profile-dir", Group: groupWatching, Type: "path", Default: "",
		Help:  "A directory for captures: profiles and figures that the gateway takes when its memory jumps, or when the collector or a loop pauses.",
		Edge:  "It is made where it is missing, and belongs to one gateway at a time: another one does not start. There is at most one capture a minute, and 64 in all: the oldest go. Empty captures nothing.",
		field: func(s *Serve) any { return &s.ProfileDir },
	}, {
		Name: "profile-bytes", Group: groupWatching, Type: "size", Default: "256MiB",
		Help:  "The most disk that all captures take.",
		Edge:  "The oldest go for it; a file that is larger by itself is left out.",
		field: func(s *Serve) any { return &s.ProfileBytes },
		check: func(s *Serve) error { return atLeast(s.ProfileBytes, 1<<20) },
	}, {
		Name: "profile-rss-jump", Group: groupWatching, Type: "share", Default: "20%",
		Help:  "The growth of resident memory within a minute that is captured.",
		Edge:  "It has to be 64MiB, too. 0 is no reason for a capture.",
		field: func(s *Serve) any { return &s.ProfileRSSJump },
	}, {
		Name: "profile-pause", Group: groupWatching, Type: "duration", Default: "100ms",
		Help:  "The pause of the collector, or iteration of a loop, that is captured.",
		Edge:  "off (or 0s) is no reason for a capture. Iterations are counted in powers of two: one is seen to be longer than 100ms from 131ms on.",
		field: func(s *Serve) any { return &s.ProfilePause },
	}, {
		Name: "profile-trace", Group: groupWatching, Type: "duration", Default: "off",
		Help:  "How much of the time before it a capture has as an execution trace.",
		Edge:  "It is recorded all the time, which costs processor time and up to 16MiB or a little more; see docs/profiling.md. off records none.",
		field: func(s *Serve) any { return &s.ProfileTrace },
	}, {
		Name: "log-level", Group: groupWatching, Type: "debug, info, warn or error", Default: "info",
		Help:  "The least important log lines that are written, to standard error.",
		Edge:  "debug has a line for everything that a client does, unless log-sampling says otherwise.",
		field: func(s *Serve) any { return &s.LogLevel },
	}, {
		Name: "log-format", Group: groupWatching, Type: "text or json", Default: "text",
		Help:  "The form of log lines.",
		Edge:  "json is one object a line.",
		field: func(s *Serve) any { return &s.LogFormat },
	}, {
		Name: "log-sampling", Group: groupWatching, Type: "full, dynamic or kernel-only", Default: "full",
		Help:  "Which lines about single connections and calls are written.",
		Edge:  "full: those that log-level lets through, which are all at debug and few at info. dynamic: all lines of a connection in which something failed or was slow, those before it too, and all of log-share of the others; with log-level info as with debug, and none with warn or error. kernel-only: what the kernel tells of ends, which takes trace, and nothing else. Lines about the gateway itself are always written by their level.",
		field: func(s *Serve) any { return &s.LogSampling },
	}, {
		Name: "log-share", Group: groupWatching, Type: "share", Default: "1%",
		Help:  "With log-sampling dynamic: the share of connections whose lines are written whatever happens to them.",
		Edge:  "Chosen by the trace's id, so that every line of a connection is written or none. 0 writes none but those that failed or were slow.",
		field: func(s *Serve) any { return &s.LogShare },
	}, {
		Name: "slow-call", Group: groupWatching, Type: "duration", Default: "500ms",
		Help:  "From which duration on a handshake, command, hook or HTTP request is slow, for log-sampling and trace-sampling.",
		Edge:  "off (or 0s) calls none slow.",
		field: func(s *Serve) any { return &s.SlowCall },
	}, {
		Name: "otlp-endpoint", Group: groupWatching, Type: "URL", Default: "",
		Help:  "The OpenTelemetry collector that spans are sent to, by OTLP over HTTP in Protobuf, such as http://127.0.0.1:4318.",
		Edge:  "/v1/traces is added where the URL does not end with it. Empty sends none. A collector that is down, slow or full loses spans, never more.",
		field: func(s *Serve) any { return &s.OTLPEndpoint },
		check: func(s *Serve) error { return checkURL(s.OTLPEndpoint) },
	}, {
		Name: "otlp-headers", Group: groupWatching, Type: "secret", Default: "",
		Help:  "Headers for the collector, as name=value with commas between, such as Authorization=Bearer%20TOKEN.",
		Edge:  "Values are percent-decoded. They are never shown; prefer the environment or the file to the flag.",
		field: func(s *Serve) any { return &s.OTLPHeaders },
		check: func(s *Serve) error { _, err := s.OTLPHeaderMap(); return err },
	}, {
		Name: "trace-sampling", Group: groupWatching, Type: "share", Default: "100%",
		Help:  "The share of connections whose spans are sent to otlp-endpoint whatever happens to them.",
		Edge:  "Where the handshake has a traceparent its sampled flag decides instead. Those in which something failed or was slow are sent in any case, with the spans before it.",
		field: func(s *Serve) any { return &s.TraceSampling },
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

// leastToken is the length of the shortest admin token that nobody guesses at the rate at which wrong ones are looked at.
const leastToken = 16

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

func checkURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		// The text may hold a password: it is not repeated.
		return errors.New("it is no URL: want one such as https://backend.example/longwire")
	case u.User != nil:
		return errors.New("it has a user or password in front of the host, which would be shown: want it without")
	case u.Fragment != "":
		return fmt.Errorf("it has a fragment, #%s, which is never sent: want it without", u.Fragment)
	}
	return nil
}

// OTLPHeaderMap is OTLPHeaders by name. Its errors do not have the values.
func (s *Serve) OTLPHeaderMap() (map[string]string, error) {
	m := make(map[string]string)
	for part := range strings.SplitSeq(string(s.OTLPHeaders), ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		if !ok || checkHeaders(List{name}) != nil || name == "" {
			return nil, errors.New("a part of it is none: want name=value with commas between, such as X-Key=abc,X-Tenant=blue")
		}
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if err != nil || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return nil, fmt.Errorf("the value of %s cannot stand in a header: want it percent-encoded", name)
		}
		m[name] = value
	}
	return m, nil
}

func checkHeaders(l List) error {
	for _, name := range l {
		if !strings.ContainsFunc(name, func(c rune) bool {
			return c >= 0x7f || c <= ' ' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
		}) {
			continue
		}
		return fmt.Errorf("%q is no header: want a name such as Cookie", name)
	}
	return nil
}

// derive sets what follows from other options where it was not given itself.
func (s *Serve) derive(given func(name string) bool) (derived []string) {
	if !given("close-after") && s.CloseAfter > 0 && s.CloseAfter <= s.PingAfter {
		s.CloseAfter = s.PingAfter + Duration(5*time.Second)
		derived = append(derived, "close-after")
	}
	if !given("client-pong-timeout") && s.ClientPongTimeout >= s.ClientPing {
		s.ClientPongTimeout = s.ClientPing / 3
		derived = append(derived, "client-pong-timeout")
	}
	if s.Dev && !given("insecure") {
		s.Insecure = true
		derived = append(derived, "insecure")
	}
	if s.Dev && !given("api-insecure") {
		s.APIInsecure = true
		derived = append(derived, "api-insecure")
	}
	if s.Dev && !given("admin-insecure") && s.AdminToken == "" {
		s.AdminInsecure = true
		derived = append(derived, "admin-insecure")
	}
	return derived
}
