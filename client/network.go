package client

import "sync"

// Network is what a program knows of its network. It tells the Conns that have it in their Options, as many as there are.
// The zero value is a network that is there. It must not be copied. Any goroutine may call its methods, at any time; they
// do not wait.
//
// It is for programs that watch their network, as by netlink, NetworkManager or the platform's reachability. No
// Conn needs it: without it an attempt without a network fails, and another follows by the backoff.
type Network struct {
	mu    sync.Mutex
	down  bool
	conns map[*Conn]struct{}
}

// SetOnline says whether there is a network. Without one no Conn is blamed or tries anything, and those that have no
// connection wait in the state Offline. When it is back they ask their connection at once, or try anew within
// Backoff.Min. A message that arrives all the same overrules an offline, until it is said again.
func (n *Network) SetOnline(online bool) {
	n.mu.Lock()
	n.down = !online
	n.mu.Unlock()
	n.each((*Conn).heed)
}

// Wake says that the machine was asleep, or that anything else has happened after which a connection may be dead. Each
// Conn asks its connection at once, and one that waits to come back waits no longer, unless the server has asked for
// that. A Conn notices by itself, within seconds, when the wall clock has gone on without the program.
func (n *Network) Wake() {
	n.each(func(c *Conn) { c.do(event{kind: "wake"}) })
}

// each calls f for every Conn, with nothing locked.
func (n *Network) each(f func(*Conn)) {
	n.mu.Lock()
	conns := make([]*Conn, 0, len(n.conns))
	for c := range n.conns {
		conns = append(conns, c)
	}
	n.mu.Unlock()
	for _, c := range conns {
		f(c)
	}
}

func (n *Network) add(c *Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conns == nil {
		n.conns = make(map[*Conn]struct{})
	}
	n.conns[c] = struct{}{}
}

func (n *Network) remove(c *Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
}

func (n *Network) offline() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.down
}

// heed tells the policy what c.options.Network says now. So it does not matter in which order several callers of
// SetOnline come here.
func (c *Conn) heed() {
	c.mu.Lock()
	// Said again, an offline that was overruled counts again.
	if offline := c.options.Network.offline(); offline != c.offline || offline && !c.policy.offline {
		c.offline = offline
		kind := "online"
		if offline {
			kind = "offline"
		}
		c.step(event{kind: kind})
	}
	c.mu.Unlock()
	c.tell()
}
