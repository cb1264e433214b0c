package ws

// Deflate is what was agreed on about permessage-deflate (RFC 7692). It is two bytes, comparable, and
// its zero value means that messages are not compressed. Neither end takes its context over from one
// message to the next.
type Deflate struct {
	// On says that permessage-deflate was agreed: compressed messages may be sent and received.
	On bool
	// Window is the base-2 logarithm of the window that this end may use to compress, 8 to 15;
	// what Compress takes. Zero when not On.
	Window uint8
}

const deflateName = "permessage-deflate"

// An extension list is read with a cursor over its bytes:
//
//	extension-list  = 1#extension
//	extension       = token *( ";" extension-param )
//	extension-param = token [ "=" (token | quoted-string) ]
//
// (RFC 6455 section 9.1; empty list elements as in RFC 9110 section 5.6.1.2).
type cursor struct {
	b []byte
	i int
}

func (c *cursor) space() {
	for c.i < len(c.b) && (c.b[c.i] == ' ' || c.b[c.i] == '\t') {
		c.i++
	}
}

// eat consumes ch, with the white space around it.
func (c *cursor) eat(ch byte) bool {
	c.space()
	if c.i < len(c.b) && c.b[c.i] == ch {
		c.i++
		c.space()
		return true
	}
	return false
}

func (c *cursor) end() bool { return c.i >= len(c.b) }

// token consumes the longest token; it is empty when there is none.
func (c *cursor) token() []byte {
	start := c.i
	for c.i < len(c.b) && charClass[c.b[c.i]]&isToken != 0 {
		c.i++
	}
	return c.b[start:c.i]
}

// A param is one parameter of an extension. value keeps no more than the first bytes of a value, which is
// enough for the numbers that permessage-deflate has; a longer one is none of them.
type param struct {
	name  []byte
	has   bool // a value is there
	size  int  // its length
	value [4]byte
}

func (p *param) add(c byte) {
	if p.size < len(p.value) {
		p.value[p.size] = c
	}
	p.size++
}

// param consumes the name and value of a parameter. The value of a quoted string, after unquoting,
// must be a token too (RFC 6455 section 9.1).
func (c *cursor) param() (p param, ok bool) {
	if p.name = c.token(); len(p.name) == 0 {
		return p, false
	}
	if !c.eat('=') {
		return p, true
	}
	p.has = true
	if c.i < len(c.b) && c.b[c.i] == '"' {
		c.i++
		for c.i < len(c.b) && c.b[c.i] != '"' {
			ch := c.b[c.i]
			if ch == '\\' {
				if c.i++; c.i == len(c.b) {
					return p, false
				}
				ch = c.b[c.i]
			}
			if charClass[ch]&isToken == 0 {
				return p, false
			}
			p.add(ch)
			c.i++
		}
		if c.i == len(c.b) {
			return p, false
		}
		c.i++
		return p, p.size > 0
	}
	for _, ch := range c.token() {
		p.add(ch)
	}
	return p, p.size > 0
}

// window reads the value as a window: decimal, 8 to 15, no leading zero (RFC 7692 section 7.1.2).
func (p *param) window() (uint8, bool) {
	switch {
	case p.size == 1 && (p.value[0] == '8' || p.value[0] == '9'):
		return p.value[0] - '0', true
	case p.size == 2 && p.value[0] == '1' && p.value[1] >= '0' && p.value[1] <= '5':
		return 10 + p.value[1] - '0', true
	}
	return 0, false
}

// An extension is one element of a list, with its parameters read as those of permessage-deflate.
type extension struct {
	name []byte
	// bad says that some parameter is not one of permessage-deflate's, comes twice or has a value
	// that it must not have.
	bad                     bool
	serverNoContextTakeover bool
	clientNoContextTakeover bool
	serverWindow            uint8 // zero: not there
	hasClientWindow         bool
}

// extension consumes one element.
func (c *cursor) extension() (e extension, ok bool) {
	if e.name = c.token(); len(e.name) == 0 {
		return e, false
	}
	for c.eat(';') {
		p, ok := c.param()
		if !ok {
			return e, false
		}
		e.param(&p)
	}
	c.space()
	return e, c.end() || c.b[c.i] == ','
}

func (e *extension) param(p *param) {
	ok, again := false, false
	switch string(p.name) {
	case "server_no_context_takeover":
		ok, again = !p.has, e.serverNoContextTakeover
		e.serverNoContextTakeover = true
	case "client_no_context_takeover":
		ok, again = !p.has, e.clientNoContextTakeover
		e.clientNoContextTakeover = true
	case "server_max_window_bits":
		again = e.serverWindow != 0
		e.serverWindow, ok = p.window()
	case "client_max_window_bits":
		// In an offer the value is optional: it says what the client would use at most anyway.
		again = e.hasClientWindow
		e.hasClientWindow = true
		_, ok = p.window()
		ok = ok || !p.has
	}
	e.bad = e.bad || !ok || again
}

// extensions calls f for each element of Sec-WebSocket-Extensions, over all its lines, until f returns
// false, but reads on to the end. ok is false when the field is malformed: also when it is there and
// names nothing.
func (h *head) extensions(f func(extension) bool) (ok bool) {
	const name = "Sec-WebSocket-Extensions"
	i := h.find(name, 0)
	if i < 0 {
		return true
	}
	any, want := false, true
	for ; i >= 0; i = h.find(name, i+1) {
		c := cursor{b: h.value(i)}
		for {
			for c.eat(',') {
			}
			if c.end() {
				break
			}
			e, ok := c.extension()
			if !ok {
				return false
			}
			any = true
			if want {
				want = f(e)
			}
		}
	}
	return any
}
