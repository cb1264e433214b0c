package looptest

import (
	"net/netip"
	"slices"

	"github.com/longwire/longwire/internal/sys"
)

// Peer is the far end of one of the loops' connections. What it asks about is answered when the loops have
// settled.
type Peer struct {
	From, To netip.AddrPort // as the one who connected sees them

	system *System
	end    *end
}

func (p *Peer) lock(settle bool) func() {
	p.system.mu.Lock()
	if settle {
		p.system.settle()
	}
	return p.system.mu.Unlock
}

// Write sends b, however much the loop has not read yet.
func (p *Peer) Write(b []byte) {
	defer p.lock(false)()
	e := p.end
	if e.done || e.shut {
		panic("looptest: write after close")
	}
	if e.other.done {
		e.wasReset = true
		return
	}
	e.other.in = append(e.other.in, b...)
	e.other.writes = append(e.other.writes, len(b))
	p.system.touch(e.other.file)
}

// Read takes all that has arrived.
func (p *Peer) Read() []byte {
	defer p.lock(true)()
	b := p.end.in
	p.end.in = nil
	p.system.touch(p.end.other.file)
	return b
}

// ReadN takes at most n bytes of what has arrived.
func (p *Peer) ReadN(n int) []byte {
	defer p.lock(true)()
	n = min(n, len(p.end.in))
	b := slices.Clone(p.end.in[:n])
	p.end.in = p.end.in[n:]
	p.system.touch(p.end.other.file)
	return b
}

// Writes are the sizes of the writes that brought bytes since it was called last.
func (p *Peer) Writes() []int {
	defer p.lock(true)()
	w := p.end.writes
	p.end.writes = nil
	return w
}

// Limit bounds what has arrived and is not read: at n bytes the loop's writes would block. n < 0 lifts the
// bound, 0 takes nothing.
func (p *Peer) Limit(n int) {
	defer p.lock(false)()
	p.end.limit = n
	p.system.touch(p.end.other.file)
}

// Tell has the loop's side know x as TCP_INFO from now on; before that it knows nothing.
func (p *Peer) Tell(x sys.TCPInfo) {
	defer p.lock(false)()
	p.end.other.info = &x
}

// CloseWrite sends a FIN; Read goes on.
func (p *Peer) CloseWrite() {
	defer p.lock(false)()
	p.end.shutdown(p.system)
}

// Close closes the peer's socket: with a reset if something has arrived and is not read, as the kernel does.
func (p *Peer) Close() {
	defer p.lock(false)()
	p.end.close(p.system, false)
}

// Reset ends the connection with a RST.
func (p *Peer) Reset() {
	defer p.lock(false)()
	p.end.close(p.system, true)
}

// EOF reports whether the loop has sent its FIN.
func (p *Peer) EOF() bool {
	defer p.lock(true)()
	return p.end.fin
}

// WasReset reports whether the loop, or the absence of a listener, has reset the connection.
func (p *Peer) WasReset() bool {
	defer p.lock(true)()
	return p.end.wasReset
}

// Gone reports whether the loop has closed its socket.
func (p *Peer) Gone() bool {
	defer p.lock(true)()
	return p.end.other.done
}

// Unread is how much of what was written the loop has not read.
func (p *Peer) Unread() int {
	defer p.lock(true)()
	return len(p.end.other.in)
}

// FailRead has the loop's reads fail from now on; what it has not read is not delivered. Nil ends that.
func (p *Peer) FailRead(err error) {
	defer p.lock(false)()
	p.end.other.failRead = err
	p.system.touch(p.end.other.file)
}

// FailWrite has the loop's writes fail from now on; reads go on. Nil ends that.
func (p *Peer) FailWrite(err error) {
	defer p.lock(false)()
	p.end.other.failWrite = err
	p.system.touch(p.end.other.file)
}

// Accept lets a connect (System.Dialling) succeed.
func (p *Peer) Accept() {
	defer p.lock(false)()
	p.end.other.connecting = false
	p.system.touch(p.end.other.file)
}

// Refuse lets a connect (System.Dialling) fail with err.
func (p *Peer) Refuse(err error) {
	defer p.lock(false)()
	p.end.done = true
	p.end.other.reset(p.system, err)
}
