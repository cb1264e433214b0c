package trace

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// mailbox takes records of ended connections from any goroutine to Run's. What does not fit is lost and counted.
type mailbox struct {
	most  int
	ready chan struct{} // has one when lives has some

	mu    sync.Mutex
	lives []Life // guarded by mu
	told  uint64 // guarded by mu
	lost  uint64 // guarded by mu
}

func newMailbox(most int) *mailbox { return &mailbox{most: most, ready: make(chan struct{}, 1)} }

func (m *mailbox) put(l Life) {
	m.mu.Lock()
	if len(m.lives) >= m.most {
		m.lost++
		m.mu.Unlock()
		return
	}
	m.lives = append(m.lives, l)
	m.told++
	m.mu.Unlock()
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// take hands each record to f.
func (m *mailbox) take(f func(*Life)) {
	m.mu.Lock()
	lives := m.lives
	m.lives = nil
	m.mu.Unlock()
	for i := range lives {
		f(&lives[i])
	}
}

func (m *mailbox) stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{Events: m.told, Lost: m.lost}
}

// closings is how many ends may wait for Run.
const closings = 1 << 16

// own is LevelErrno: connections tell of themselves.
type own struct {
	handle func(*Event)
	idle   func()
	box    *mailbox
}

func newOwn(o Options) *own { return &own{handle: o.Handle, idle: o.Idle, box: newMailbox(closings)} }

func (*own) trackListener(int) error { return nil }
func (*own) tag(int, [16]byte) error { return nil }
func (*own) look(int) (Life, error)  { return Life{Level: LevelErrno}, nil }
func (*own) descriptors() []int      { return nil }
func (*own) close() error            { return nil }

func (w *own) stats() (Stats, error) { return w.box.stats(), nil }

func (w *own) closing(fd int, id [16]byte, seen Seen) error {
	l, err := lastLook(fd, id, seen)
	if err != nil {
		return err
	}
	w.box.put(l)
	return nil
}

func (w *own) run(ctx context.Context) error {
	tell := func(l *Life) { w.handle(ended(l)) }
	for {
		select {
		case <-ctx.Done():
			w.box.take(tell)
			w.idle()
			return nil
		case <-w.box.ready:
			w.box.take(tell)
			w.idle()
		}
	}
}

// ended is the event of a record that is complete.
func ended(l *Life) *Event {
	return &Event{Kind: KindEnded, Time: l.Closed, Session: l.Session, Cookie: l.Cookie, Local: l.Local, Remote: l.Remote, From: l.Path.Last(), Life: l}
}

// lastLook is what a connection's own process can tell right before it closes it.
func lastLook(fd int, id [16]byte, seen Seen) (Life, error) {
	info, err := sys.SocketInfo(fd)
	if err != nil {
		return Life{}, err
	}
	cookie, err := sys.SocketCookie(fd)
	if err != nil {
		return Life{}, err
	}
	unread, err := sys.UnreadBytes(fd)
	if err != nil {
		unread = 0 // a socket that failed may not tell
	}
	l := Life{Level: LevelErrno, Session: id, Cookie: cookie, Closed: time.Now(), Unread: unread, Seen: true, Aborted: seen.Aborted}
	_ = errors.As(seen.Err, &l.Err)
	l.take(info)
	switch {
	case seen.EOF, info.State == sys.SocketCloseWait, info.State == sys.SocketLastAck, l.Err == syscall.EPIPE:
		l.First = SideClient
	case l.Err == 0:
		l.First = SideServer
	}
	return l, nil
}

// take puts the kernel's figures into the record.
func (l *Life) take(i sys.TCPInfo) {
	l.Retransmits, l.Timeouts, l.Probes, l.RTT = i.Retransmits, i.Timeouts, i.Probes, i.RTT
	l.BytesReceived, l.BytesAcked = i.BytesReceived, i.BytesAcked
	l.Unacked = uint64(i.NotSent)
	if sent := i.BytesSent - i.BytesRetransmitted; sent > i.BytesAcked {
		l.Unacked += sent - i.BytesAcked
	} else if sent < i.BytesAcked {
		l.FINAcked = true
	}
}
