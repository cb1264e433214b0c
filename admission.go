package longwire

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/ws"
)

// refusalKind is why a client was turned away. Its String is the label in metrics and logs.
type refusalKind uint8

const (
	admitted            refusalKind = iota
	refusedConns                    // Config.MaxConns
	refusedDescriptors              // no descriptor left on any loop
	refusedMemory                   // Config.MaxMemory
	refusedAddressConns             // Config.ConnsPerAddress
	refusedAddressRate              // Config.RatePerAddress
	refusedDrain                    // the gateway is going away
	refusedRequest                  // 400: the request is malformed
	refusedUnauthorized             // 401
	refusedOrigin                   // 403
	refusedMethod                   // 405
	refusedVersion                  // 426 or 505
	refusedHeader                   // 431
	refusedPlain                    // too many plain HTTP requests at a time
	refusedOther

	refusalKinds
)

var refusalNames = [refusalKinds]string{
	"admitted", "max_conns", "descriptors", "memory", "conns_per_address", "rate_per_address", "drain",
	"bad_request", "unauthorized", "forbidden", "method", "version", "header_too_large", "plain_http", "other",
}

func (k refusalKind) String() string { return refusalNames[k] }

func refusalKindOf(status int) refusalKind {
	switch status {
	case 400:
		return refusedRequest
	case 401:
		return refusedUnauthorized
	case 403:
		return refusedOrigin
	case 405:
		return refusedMethod
	case 426, 505:
		return refusedVersion
	case 431:
		return refusedHeader
	}
	return refusedOther
}

// refusalOf is the answer to a request that could not be read.
func refusalOf(err error) *ws.Refusal {
	var r *ws.Refusal
	if errors.As(err, &r) {
		return r
	}
	return &ws.Refusal{Status: 400, Reason: "bad request"}
}

// admission decides who may come in. Any thread asks; it costs an atomic, and a short lock where a limit for
// each address is set.
type admission struct {
	maxConns   int64
	perAddress uint32
	rate       float64 // new connections a second of one address
	burst      float64
	now        func() time.Duration
	notify     func(refusalKind) // says which limit was reached, not too often

	conns    atomic.Int64
	draining atomic.Bool
	memory   atomic.Bool // over the ceiling, as the watcher saw it last

	shards [64]addressShard
}

type addressShard struct {
	mu    sync.Mutex
	table map[uint64]addressUse // guarded by mu
	swept time.Duration         // guarded by mu
}

// addressUse is what one client address has. It has no pointers, so a large table is nothing to the collector.
type addressUse struct {
	conns  uint32
	tokens float32
	at     uint32 // seconds, of tokens
}

// addressKey stands for what is limited together: an IPv4 address, or an IPv6 /64. It is exact: the keys of
// IPv4 lie where IPv6 has multicast, which is nobody's source.
func addressKey(a netip.Addr) uint64 {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		return 0xffff_ffff_0000_0000 | uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8])
}

// keyAddress is the address that key stands for.
func keyAddress(key uint64) netip.Addr {
	if key>>32 == 0xffff_ffff {
		return netip.AddrFrom4([4]byte{byte(key >> 24), byte(key >> 16), byte(key >> 8), byte(key)})
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], key)
	return netip.AddrFrom16(b)
}

func (a *admission) limitsAddresses() bool { return a.perAddress > 0 || a.rate > 0 }

// admit counts one more connection of the address, or says why not. full: no loop has a descriptor left.
func (a *admission) admit(key uint64, full bool) refusalKind {
	switch {
	case a.draining.Load():
		return refusedDrain
	case a.memory.Load():
		return refusedMemory
	}
	if a.conns.Add(1) > a.maxConns {
		a.conns.Add(-1)
		return refusedConns
	}
	why := admitted
	if full {
		why = refusedDescriptors
	} else if a.limitsAddresses() {
		why = a.admitAddress(key)
	}
	if why != admitted {
		a.conns.Add(-1)
	}
	return why
}

func (a *admission) shard(key uint64) *addressShard {
	return &a.shards[(key*0x9e3779b97f4a7c15)>>58]
}

func (a *admission) admitAddress(key uint64) refusalKind {
	s := a.shard(key)
	now := a.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table == nil {
		s.table = make(map[uint64]addressUse)
	}
	a.sweep(s, now)
	u, ok := s.table[key]
	if !ok {
		u = addressUse{tokens: float32(a.burst), at: uint32(now / time.Second)}
	}
	if a.perAddress > 0 && u.conns >= a.perAddress {
		return refusedAddressConns
	}
	if a.rate > 0 {
		u = a.refill(u, now)
		if u.tokens < 1 {
			s.table[key] = u
			return refusedAddressRate
		}
		u.tokens--
	}
	u.conns++
	s.table[key] = u
	return admitted
}

// refill gives the tokens of whole seconds.
func (a *admission) refill(u addressUse, now time.Duration) addressUse {
	sec := uint32(now / time.Second)
	u.tokens = min(float32(a.burst), u.tokens+float32(a.rate)*float32(sec-u.at))
	u.at = sec
	return u
}

// sweep forgets, now and then, addresses without connections whose tokens are full again.
func (a *admission) sweep(s *addressShard, now time.Duration) {
	if now-s.swept < 10*time.Second {
		return
	}
	s.swept = now
	for key, u := range s.table {
		if u.conns == 0 && a.refill(u, now).tokens >= float32(a.burst) {
			delete(s.table, key)
		}
	}
}

// leave takes back what admit counted.
func (a *admission) leave(key uint64) {
	a.conns.Add(-1)
	if !a.limitsAddresses() {
		return
	}
	s := a.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.table[key]
	if !ok {
		return
	}
	if u.conns--; u.conns == 0 && a.rate == 0 {
		delete(s.table, key)
		return
	}
	s.table[key] = u
}

func (a *admission) log(why refusalKind) { a.notify(why) }

// notices lets each kind of message through once a second and counts the rest.
type notices struct {
	now  func() time.Duration
	last [refusalKinds]atomic.Int64
	held [refusalKinds]atomic.Uint64
}

// next reports whether a message of that kind may go out now, and how many were held back before.
func (n *notices) next(k refusalKind) (held uint64, ok bool) {
	now := int64(n.now()) + 1
	last := n.last[k].Load()
	if last != 0 && now-last < int64(time.Second) || !n.last[k].CompareAndSwap(last, now) {
		n.held[k].Add(1)
		return 0, false
	}
	return n.held[k].Swap(0), true
}

// kernelPerConn is what one established socket costs in the kernel, in bytes (Linux 6.x, measured with a
// million idle connections: sock, inode, file, dentry, epoll item).
const kernelPerConn = 4400

// watchMemory keeps admission.memory up to date until stop is closed. used and conns are asked once a
// second.
func (a *admission) watchMemory(ceiling int64, used func() uint64, stop <-chan struct{}, log *slog.Logger) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		cost := int64(used()) + a.conns.Load()*kernelPerConn
		// A little hysteresis, so that it does not flap.
		over := cost > ceiling || a.memory.Load() && cost > ceiling-ceiling/50
		if over != a.memory.Swap(over) {
			log.Warn("memory ceiling", "over", over, "bytes", cost, "ceiling", ceiling, "conns", a.conns.Load())
		}
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}
