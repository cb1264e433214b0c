package lab

import (
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// held is what a server's connections hold at one moment, all together.
type held struct {
	Buffers     int64 // that it reads into and writes from
	BufferBytes int64
	// Deadlines are how many connections have one ahead of them; -1 where nothing tells.
	ReadDeadlines, WriteDeadlines int64
}

// leastBuffer is the size from which an object that the makers of buffers made is one: they make small things too.
const leastBuffer = 512

// countBuffers counts the live buffers on the heap that bufio and gorilla/websocket made. The memory profile has to have each
// allocation (runtime.MemProfileRate 1).
func countBuffers() (n, bytes int64) {
	for range 4 { // two until pools have forgotten what nobody uses, two until the profile knows
		runtime.GC()
	}
	var records []runtime.MemProfileRecord
	for k, ok := runtime.MemProfile(nil, false); !ok; {
		records = make([]runtime.MemProfileRecord, k+100)
		if k, ok = runtime.MemProfile(records, false); ok {
			records = records[:k]
		}
	}
	for i := range records {
		r := &records[i]
		if r.InUseObjects() <= 0 || r.AllocBytes/r.AllocObjects < leastBuffer {
			continue
		}
		frames := runtime.CallersFrames(r.Stack())
		for {
			f, more := frames.Next()
			if more && (strings.HasPrefix(f.Function, "runtime.") || strings.HasPrefix(f.Function, "internal/runtime/")) {
				continue
			}
			if strings.HasPrefix(f.Function, "bufio.") || strings.HasPrefix(f.Function, "github.com/gorilla/websocket.newConn") {
				n += r.InUseObjects()
				bytes += r.InUseBytes()
			}
			break
		}
	}
	return n, bytes
}

// watchedListener notes the deadlines of the connections that it accepts.
type watchedListener struct {
	net.Listener

	mu    sync.Mutex
	conns map[*watchedConn]bool // guarded by mu
}

// Accept is that of the listener below.
func (l *watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	w := &watchedConn{Conn: c, of: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[w] = true
	return w, nil
}

// deadlines counts the connections that have one ahead of them.
func (l *watchedListener) deadlines() (read, write int64) {
	now := time.Now().UnixNano()
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if c.read.Load() > now {
			read++
		}
		if c.write.Load() > now {
			write++
		}
	}
	return read, write
}

// watchedConn is a connection that notes its deadlines.
type watchedConn struct {
	net.Conn
	of          *watchedListener
	read, write atomic.Int64 // ns since 1970; 0 is none
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// SetDeadline sets both.
func (c *watchedConn) SetDeadline(t time.Time) error {
	c.read.Store(unixNano(t))
	c.write.Store(unixNano(t))
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline sets that of reads.
func (c *watchedConn) SetReadDeadline(t time.Time) error {
	c.read.Store(unixNano(t))
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline sets that of writes.
func (c *watchedConn) SetWriteDeadline(t time.Time) error {
	c.write.Store(unixNano(t))
	return c.Conn.SetWriteDeadline(t)
}

// Close closes it, and forgets it.
func (c *watchedConn) Close() error {
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
