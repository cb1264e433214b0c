package sys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	pumpIn      = 16 << 10 // bytes of one connection that are read ahead
	pumpOut     = 64 << 10 // bytes of one connection that wait to be written
	pumpAccepts = 16       // connections that a listener takes ahead
	pumpPassed  = 256      // messages in a chute

	// pumpGrace is how long a connection that was closed has for what is still to be written, and how long
	// one whose write failed has to tell its last words.
	pumpGrace = 5 * time.Second
)

// PumpTable is what stands for the kernel where there is no epoll: connections, listeners and chutes over
// package net, under numbers like descriptors. Its pumps move the bytes.
//
// One lock guards it all: this is for systems on which Longwire has to run, not for those on which it has to
// be fast.
type PumpTable struct {
	// Dial makes connections; nil means package net's dialer. It is called on a goroutine of its own, and ctx ends when the
	// connection is closed meanwhile. ConnectError returns its error as it is. It must not change once the table is used.
	Dial func(ctx context.Context, from, to netip.AddrPort) (net.Conn, error)

	mu    sync.Mutex
	cond  *sync.Cond // a chute or a writer changed
	files map[int32]*pumpFile
	last  int32
}

// NewPumpTable makes an empty table.
func NewPumpTable() *PumpTable {
	t := &PumpTable{files: make(map[int32]*pumpFile)}
	t.cond = sync.NewCond(&t.mu)
	return t
}

// pumpFile is what a number stands for: one of conn, listener and chute. PumpTable.mu guards it.
type pumpFile struct {
	refs    int // numbers, messages in chutes, and net.Conns
	watches []*pumpWatch

	conn     *pumpConn
	listener *pumpListener
	chute    *pumpChute
}

// pumpWatch is a file in a pump.
type pumpWatch struct {
	pump   *Pump
	file   *pumpFile
	fd     int32
	key    Key
	in     Interest
	queued bool // in Pump.ready
	gone   bool
}

type pumpChute struct {
	in, out *pumpFile
	queue   []pumpMessage
}

type pumpMessage struct {
	file *pumpFile
	data []byte
}

// pumpListener is one of the numbers of a listener. It takes connections ahead while it is watched.
type pumpListener struct {
	file      *pumpFile
	shared    *pumpSocket
	queue     []net.Conn
	err       error // told once, when the queue is empty
	accepting bool  // a goroutine waits in Accept
	closed    bool
}

// pumpSocket is what the numbers of one Listen share.
type pumpSocket struct {
	ln      net.Listener
	numbers []*pumpListener // open
}

// pumpConn is a connection. Its reader and its writer run when there is something to do: a goroutine waits
// in Read when nothing is read ahead and somebody wants to read, and another in Write when bytes wait.
type pumpConn struct {
	file   *pumpFile
	c      net.Conn           // nil while connecting
	cancel context.CancelFunc // of the dial
	err    error              // how the dial failed

	reading bool
	buf     []byte // of the reader
	in      []byte // what it brought and nobody took; part of buf
	readErr error  // how reading ended

	writing  bool
	out      []byte // waits for the writer
	spare    []byte // the writer's other buffer
	flying   int    // bytes in the writer's hands
	shut     bool   // the FIN comes after out
	finished bool   // it is sent
	writeErr error

	closed bool
}

func (t *PumpTable) put(f *pumpFile) int32 {
	for {
		if t.last++; t.last < 0 {
			t.last = 1
		}
		if t.files[t.last] == nil {
			f.refs++
			t.files[t.last] = f
			return t.last
		}
	}
}

// Listen opens one listener and count numbers for it, each of which gets some of its connections.
func (t *PumpTable) Listen(addr netip.AddrPort, count int, _ ListenOptions) ([]int32, netip.AddrPort, error) {
	if !addr.IsValid() {
		return nil, addr, fmt.Errorf("listen on %v: want an address and a port", addr)
	}
	lc := net.ListenConfig{KeepAlive: -1}
	ln, err := lc.Listen(context.Background(), "tcp", addr.String())
	if err != nil {
		return nil, addr, fmt.Errorf("listen on %v: %w", addr, err)
	}
	bound := netip.AddrPortFrom(addr.Addr(), ln.Addr().(*net.TCPAddr).AddrPort().Port())
	s := &pumpSocket{ln: ln}
	t.mu.Lock()
	defer t.mu.Unlock()
	var fds []int32
	for range count {
		l := &pumpListener{shared: s}
		l.file = &pumpFile{listener: l}
		s.numbers = append(s.numbers, l)
		fds = append(fds, t.put(l.file))
	}
	return fds, bound, nil
}

// NewChute makes a chute within the process.
func (t *PumpTable) NewChute() (in, out int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &pumpChute{}
	c.in, c.out = &pumpFile{chute: c}, &pumpFile{chute: c}
	return t.put(c.in), t.put(c.out)
}

// Close gives a number back, whatever it stands for.
func (t *PumpTable) Close(fd int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.close(fd, false)
}

func (t *PumpTable) close(fd int32, abort bool) {
	if f := t.files[fd]; f != nil {
		delete(t.files, fd)
		t.release(f, abort)
	}
}

// release lets go of one of a file's users.
func (t *PumpTable) release(f *pumpFile, abort bool) {
	if abort && f.conn != nil {
		if lc, ok := f.conn.c.(interface{ SetLinger(int) error }); ok {
			_ = lc.SetLinger(0)
		}
		f.conn.out = nil
	}
	if f.refs--; f.refs > 0 {
		return
	}
	for _, w := range f.watches {
		w.gone = true
		delete(w.pump.watches, w.fd)
	}
	f.watches = nil
	switch {
	case f.conn != nil:
		t.closeConn(f.conn, abort)
	case f.listener != nil:
		t.closeListener(f.listener)
	case f.chute != nil && f == f.chute.out:
		q := f.chute.queue
		f.chute.queue = nil
		for _, m := range q {
			t.release(m.file, true)
		}
	}
	t.cond.Broadcast()
}

func (t *PumpTable) closeConn(c *pumpConn, abort bool) {
	c.closed = true
	switch {
	case c.c == nil:
		if c.cancel != nil {
			c.cancel()
		}
	case c.writing && !abort:
		// The writer closes it when it is done.
		_ = c.c.SetWriteDeadline(time.Now().Add(pumpGrace))
	default:
		_ = c.c.Close()
	}
}

func (t *PumpTable) closeListener(l *pumpListener) {
	l.closed = true
	s := l.shared
	s.numbers = slices.DeleteFunc(s.numbers, func(o *pumpListener) bool { return o == l })
	if len(s.numbers) == 0 {
		_ = s.ln.Close()
	}
	for _, c := range l.queue {
		t.hand(s, c)
	}
	l.queue = nil
}

// hand gives a connection to any open number of a listener, and closes it when there is none.
func (t *PumpTable) hand(s *pumpSocket, c net.Conn) {
	if len(s.numbers) == 0 {
		_ = c.Close()
		return
	}
	l := s.numbers[0]
	l.queue = append(l.queue, c)
	t.touch(l.file)
}

// touch has the pumps that watch f look at it.
func (t *PumpTable) touch(f *pumpFile) {
	for _, w := range f.watches {
		if !w.queued {
			w.queued = true
			w.pump.ready = append(w.pump.ready, w)
		}
		w.pump.waker.Wake()
	}
}

// PassConn moves c into a chute: on success it is the table's.
func (t *PumpTable) PassConn(in int32, c net.Conn, data []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	stray, ours := c.(*pumpStray)
	var f *pumpFile
	switch {
	case !ours:
		f = &pumpFile{}
		f.conn = &pumpConn{file: f, c: c}
	case stray.closed:
		return net.ErrClosed
	default:
		f = stray.file
	}
	if err := t.pass(in, f, data); err != nil {
		return err
	}
	_ = c.SetDeadline(time.Time{}) // they were its user's
	if ours {
		stray.closed = true
		t.release(f, false)
	}
	return nil
}

func (t *PumpTable) pass(in int32, f *pumpFile, data []byte) error {
	cf := t.files[in]
	if cf == nil || cf.chute == nil || cf != cf.chute.in {
		return syscall.EBADF
	}
	if len(data) == 0 || len(data) > MaxPassed {
		return fmt.Errorf("pass a connection with %d bytes: want 1 to %d", len(data), MaxPassed)
	}
	c := cf.chute
	if len(c.queue) >= pumpPassed || c.out.refs == 0 {
		return ErrWouldBlock
	}
	f.refs++
	c.queue = append(c.queue, pumpMessage{file: f, data: slices.Clone(data)})
	t.touch(c.out)
	t.cond.Broadcast()
	return nil
}

// ReceiveConn waits for a connection in a chute; it ends with os.ErrClosed when out is closed.
func (t *PumpTable) ReceiveConn(out int32, b []byte) (net.Conn, int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		f := t.files[out]
		if f == nil || f.chute == nil {
			return nil, 0, os.ErrClosed
		}
		if c := f.chute; len(c.queue) > 0 {
			m := c.queue[0]
			c.queue = c.queue[1:]
			return t.stray(m.file.conn), copy(b, m.data), nil
		}
		t.cond.Wait()
	}
}

// stray takes the reader from a connection, so that its user can read by itself.
func (t *PumpTable) stray(c *pumpConn) *pumpStray {
	if c.reading {
		_ = c.c.SetReadDeadline(time.Unix(1, 0))
		for c.reading {
			t.cond.Wait()
		}
		_ = c.c.SetReadDeadline(time.Time{})
		if errors.Is(c.readErr, os.ErrDeadlineExceeded) {
			c.readErr = nil
		}
	}
	return &pumpStray{Conn: c.c, table: t, file: c.file}
}

// pumpStray is a connection in the hands of somebody who uses package net.
type pumpStray struct {
	net.Conn
	table  *PumpTable
	file   *pumpFile
	closed bool // guarded by PumpTable.mu
}

// Read gives what was read ahead first.
func (s *pumpStray) Read(b []byte) (int, error) {
	s.table.mu.Lock()
	c := s.file.conn
	if s.closed || len(c.in) == 0 && c.readErr == nil {
		s.table.mu.Unlock()
		return s.Conn.Read(b)
	}
	defer s.table.mu.Unlock()
	if len(c.in) > 0 {
		n := copy(b, c.in)
		c.in = c.in[n:]
		return n, nil
	}
	return 0, c.readErr
}

// flushed waits until what the loop wrote is written.
func (s *pumpStray) flushed() error {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	for s.file.conn.writing {
		s.table.cond.Wait()
	}
	if s.closed {
		return net.ErrClosed
	}
	return s.file.conn.writeErr
}

func (s *pumpStray) Write(b []byte) (int, error) {
	if err := s.flushed(); err != nil {
		return 0, err
	}
	return s.Conn.Write(b)
}

// CloseWrite is TCPConn's.
func (s *pumpStray) CloseWrite() error {
	if err := s.flushed(); err != nil {
		return err
	}
	return closeWrite(s.Conn)
}

func (s *pumpStray) Close() error {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	s.table.release(s.file, false)
	return nil
}

func closeWrite(c net.Conn) error {
	if cw, ok := c.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return c.Close()
}

// readAhead starts the reader if there is a use for it.
func (t *PumpTable) readAhead(c *pumpConn) {
	if c.reading || c.closed || c.c == nil || len(c.in) > 0 || c.readErr != nil || c.err != nil {
		return
	}
	if !slices.ContainsFunc(c.file.watches, func(w *pumpWatch) bool { return w.in&Readable != 0 }) {
		return
	}
	c.reading = true
	if c.buf == nil {
		c.buf = make([]byte, pumpIn)
	}
	go func() {
		n, err := c.c.Read(c.buf)
		t.mu.Lock()
		defer t.mu.Unlock()
		c.reading = false
		c.in = c.buf[:n]
		if err != nil {
			c.readErr = err
		} else if n == 0 {
			t.readAhead(c)
		}
		t.touch(c.file)
		t.cond.Broadcast()
	}()
}

// write starts the writer if there is something to write.
func (t *PumpTable) write(c *pumpConn) {
	if c.writing || c.c == nil || len(c.out) == 0 && (!c.shut || c.finished) {
		return
	}
	c.writing = true
	go func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for c.writeErr == nil {
			switch {
			case len(c.out) > 0:
				b := c.out
				c.out, c.flying = c.spare[:0], len(b)
				t.mu.Unlock()
				_, err := c.c.Write(b)
				t.mu.Lock()
				c.flying, c.spare = 0, b
				if err != nil {
					c.writeErr = err
					// Who is gone says so to the reader too, after its last words; who is not has a while.
					_ = c.c.SetReadDeadline(time.Now().Add(pumpGrace))
				}
				t.touch(c.file)
				continue
			case c.shut && !c.finished:
				c.finished = true
				t.mu.Unlock()
				_ = closeWrite(c.c)
				t.mu.Lock()
				continue
			}
			break
		}
		c.writing, c.out, c.spare = false, nil, nil
		if c.closed {
			_ = c.c.Close()
		}
		t.touch(c.file)
		t.cond.Broadcast()
	}()
}

// broken reports that a write failed and all that the peer said before is read ahead.
func (c *pumpConn) broken() bool {
	return c.writeErr != nil && !c.reading && (c.readErr != nil || len(c.in) == 0)
}

func (f *pumpFile) ready() Ready {
	var r Ready
	switch {
	case f.conn != nil:
		c := f.conn
		if c.c == nil && c.err == nil {
			return 0 // connecting
		}
		if len(c.in) > 0 || c.readErr != nil {
			r |= ReadyRead
		}
		if pumpOut-len(c.out)-c.flying >= pumpOut/4 && c.writeErr == nil || c.broken() {
			r |= ReadyWrite
		}
		if c.err != nil || c.broken() || c.readErr != nil && c.readErr != io.EOF {
			r |= Failed | ReadyRead
		}
	case f.listener != nil:
		if len(f.listener.queue) > 0 || f.listener.err != nil {
			r = ReadyRead
		}
	case f.chute != nil:
		if f == f.chute.out && len(f.chute.queue) > 0 {
			r = ReadyRead
		}
	}
	return r
}

// acceptAhead starts the listener's goroutine if there is a use for it.
func (t *PumpTable) acceptAhead(l *pumpListener) {
	if l.accepting || l.closed || l.err != nil || len(l.queue) >= pumpAccepts || len(l.file.watches) == 0 {
		return
	}
	l.accepting = true
	go func() {
		for {
			c, err := l.shared.ln.Accept()
			t.mu.Lock()
			switch {
			case err == nil && l.closed:
				t.hand(l.shared, c)
			case err == nil:
				l.queue = append(l.queue, c)
			case !l.closed:
				l.err = errnoOf(err)
			}
			t.touch(l.file)
			if err != nil || l.closed || len(l.queue) >= pumpAccepts {
				l.accepting = false
				t.mu.Unlock()
				return
			}
			t.mu.Unlock()
		}
	}()
}

// errnoOf is the kernel's error within package net's, or err where there is none.
func errnoOf(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// PumpWaker makes a Pump's Wait return.
type PumpWaker struct{ c chan struct{} }

// NewPumpWaker makes the waker of one later Pump.
func NewPumpWaker() *PumpWaker { return &PumpWaker{c: make(chan struct{}, 1)} }

// Wake makes the Pump's Wait return. Any goroutine may call it.
func (w *PumpWaker) Wake() {
	select {
	case w.c <- struct{}{}:
	default: // one is under way
	}
}

// Pump has Epoll's methods over package net: readiness is made in user space, with a goroutine for each
// connection that waits for something. Its methods belong to one goroutine. It reports by level, Edge or not.
type Pump struct {
	table   *PumpTable
	waker   *PumpWaker
	watches map[int32]*pumpWatch
	ready   []*pumpWatch // to be looked at, in turn
}

// NewPump makes a pump that w wakes.
func (t *PumpTable) NewPump(w *PumpWaker) *Pump {
	return &Pump{table: t, waker: w, watches: make(map[int32]*pumpWatch)}
}

// Wait is Epoll's.
func (p *Pump) Wait(events []Event, timeout time.Duration) (int, error) {
	n := p.collect(events)
	if n > 0 || timeout == 0 {
		return n, nil
	}
	var late <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-p.waker.c:
	case <-late:
	}
	return p.collect(events), nil
}

// collect reports what is ready, each in its turn.
func (p *Pump) collect(events []Event) (n int) {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	looked := len(p.ready)
	for k := range p.ready {
		if n == len(events) {
			looked = k
			break
		}
		w := p.ready[k]
		r := w.events()
		if r == 0 {
			w.queued = false
			continue
		}
		events[n] = Event{Key: w.key, Ready: r}
		n++
		p.ready = append(p.ready, w) // it may be ready the next time too
	}
	p.ready = slices.Delete(p.ready, 0, looked)
	return n
}

func (w *pumpWatch) events() Ready {
	if w.gone {
		return 0
	}
	ready := w.file.ready()
	out := ready & Failed
	if out != 0 || w.in&Readable != 0 {
		out |= ready & ReadyRead
	}
	if w.in&Writable != 0 {
		out |= ready & ReadyWrite
	}
	return out
}

// Add is Epoll's.
func (p *Pump) Add(fd int32, k Key, in Interest) error {
	t := p.table
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.files[fd]
	switch {
	case f == nil:
		return syscall.EBADF
	case p.watches[fd] != nil:
		return syscall.EEXIST
	}
	w := &pumpWatch{pump: p, file: f, fd: fd, key: k, in: in}
	p.watches[fd] = w
	f.watches = append(f.watches, w)
	p.watched(f)
	return nil
}

// watched starts what the interest in f calls for.
func (p *Pump) watched(f *pumpFile) {
	switch {
	case f.conn != nil:
		p.table.readAhead(f.conn)
	case f.listener != nil:
		p.table.acceptAhead(f.listener)
	}
	p.table.touch(f)
}

// Modify is Epoll's.
func (p *Pump) Modify(fd int32, k Key, in Interest) error {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	w := p.watches[fd]
	if w == nil {
		return syscall.ENOENT
	}
	w.key, w.in = k, in
	p.watched(w.file)
	return nil
}

// Remove is Epoll's.
func (p *Pump) Remove(fd int32) error {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	w := p.watches[fd]
	if w == nil {
		return syscall.ENOENT
	}
	p.remove(w)
	return nil
}

func (p *Pump) remove(w *pumpWatch) {
	w.gone = true
	delete(p.watches, w.fd)
	w.file.watches = slices.DeleteFunc(w.file.watches, func(o *pumpWatch) bool { return o == w })
}

func (p *Pump) conn(fd int32) *pumpConn {
	if f := p.table.files[fd]; f != nil {
		return f.conn
	}
	return nil
}

// Read is Epoll's.
func (p *Pump) Read(fd int32, b []byte) (int, error) {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	c := p.conn(fd)
	switch {
	case c == nil:
		return 0, syscall.EBADF
	case len(c.in) > 0:
		n := copy(b, c.in)
		if c.in = c.in[n:]; len(c.in) == 0 {
			p.table.readAhead(c)
		}
		return n, nil
	case c.readErr == io.EOF:
		return 0, nil
	case c.readErr != nil && c.writeErr != nil:
		return 0, errnoOf(c.writeErr) // a reader's deadline is ours
	case c.readErr != nil:
		return 0, errnoOf(c.readErr)
	case c.err != nil:
		return 0, c.err
	case c.broken():
		return 0, errnoOf(c.writeErr)
	}
	return 0, ErrWouldBlock
}

// Write is Epoll's. The kernel may tell later that bytes that were taken could not be sent.
func (p *Pump) Write(fd int32, b []byte) (int, error) {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	c := p.conn(fd)
	switch {
	case c == nil:
		return 0, syscall.EBADF
	case c.err != nil:
		return 0, c.err
	case c.broken():
		return 0, errnoOf(c.writeErr)
	case c.c == nil || c.writeErr != nil: // the latter until all is read
		return 0, ErrWouldBlock
	case c.shut:
		return 0, syscall.EPIPE
	}
	n := min(len(b), pumpOut-len(c.out)-c.flying)
	if n <= 0 {
		return 0, ErrWouldBlock
	}
	c.out = append(c.out, b[:n]...)
	p.table.write(c)
	return n, nil
}

// Accept is Epoll's.
func (p *Pump) Accept(listener int32) (int32, netip.AddrPort, error) {
	t := p.table
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.files[listener]
	if f == nil || f.listener == nil {
		return -1, netip.AddrPort{}, syscall.EBADF
	}
	l := f.listener
	defer t.acceptAhead(l)
	if len(l.queue) == 0 {
		if err := l.err; err != nil {
			l.err = nil
			return -1, netip.AddrPort{}, err
		}
		return -1, netip.AddrPort{}, ErrWouldBlock
	}
	c := l.queue[0]
	l.queue = l.queue[1:]
	cf := &pumpFile{}
	cf.conn = &pumpConn{file: cf, c: c}
	var peer netip.AddrPort
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		peer = a.AddrPort()
		peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	}
	return t.put(cf), peer, nil
}

// Connect is Epoll's.
func (p *Pump) Connect(from, to netip.AddrPort) (int32, error) {
	t := p.table
	dial := t.Dial
	if dial == nil {
		dial = dialTCP
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &pumpFile{}
	f.conn = &pumpConn{file: f, cancel: cancel}
	t.mu.Lock()
	defer t.mu.Unlock()
	go func() {
		defer cancel()
		nc, err := dial(ctx, from, to)
		t.mu.Lock()
		defer t.mu.Unlock()
		switch c := f.conn; {
		case err != nil:
			c.err = err
		case c.closed:
			_ = nc.Close()
		default:
			c.c = nc
			t.readAhead(c)
			t.write(c) // a FIN
		}
		t.touch(f)
	}()
	return t.put(f), nil
}

func dialTCP(ctx context.Context, from, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(from)
	}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, errnoOf(err)
	}
	return c, nil
}

// ConnectError is Epoll's.
func (p *Pump) ConnectError(fd int32) error {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	c := p.conn(fd)
	switch {
	case c == nil:
		return syscall.EBADF
	case c.err != nil:
		return c.err
	case c.writeErr != nil:
		return errnoOf(c.writeErr)
	case c.readErr != nil && c.readErr != io.EOF:
		return errnoOf(c.readErr)
	}
	return nil
}

// ShutdownWrite is Epoll's.
func (p *Pump) ShutdownWrite(fd int32) {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if c := p.conn(fd); c != nil && !c.shut {
		c.shut = true
		p.table.write(c)
	}
}

// CloseSocket is Epoll's.
func (p *Pump) CloseSocket(fd int32, abort bool) {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	p.table.close(fd, abort)
}

// Info is Epoll's; package net has nothing to say.
func (p *Pump) Info(int32) (TCPInfo, bool) { return TCPInfo{}, false }

// Peer is Epoll's.
func (p *Pump) Peer(fd int32) netip.AddrPort {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if c := p.conn(fd); c != nil && c.c != nil {
		if a, ok := c.c.RemoteAddr().(*net.TCPAddr); ok {
			ap := a.AddrPort()
			return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
		}
	}
	return netip.AddrPort{}
}

// SetUserTimeout does nothing: package net does not know the option.
func (p *Pump) SetUserTimeout(int32, time.Duration) {}

// Pass drops a duplicate of fd with data into a chute.
func (p *Pump) Pass(in, fd int32, data []byte) error {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	f := p.table.files[fd]
	if f == nil || f.conn == nil {
		return syscall.EBADF
	}
	return p.table.pass(in, f, data)
}

// Receive takes one connection out of a chute.
func (p *Pump) Receive(out int32, b []byte) (fd int32, n int, err error) {
	t := p.table
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.files[out]
	if f == nil || f.chute == nil {
		return -1, 0, syscall.EBADF
	}
	if len(f.chute.queue) == 0 {
		return -1, 0, ErrWouldBlock
	}
	m := f.chute.queue[0]
	f.chute.queue = f.chute.queue[1:]
	fd = t.put(m.file)
	m.file.refs-- // the message's
	return fd, copy(b, m.data), nil
}

// Close lets go of all that the pump watches.
func (p *Pump) Close() error {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	for _, w := range p.watches {
		p.remove(w)
	}
	return nil
}
