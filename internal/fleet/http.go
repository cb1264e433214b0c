package fleet

import (
	"bytes"
	"strconv"

	"github.com/longwire/longwire/ws"
)

// The client's side of HTTP/1.1 (RFC 9112) for the conns of a crew: requests are said by the Speaker, answers are read here
// for their ends, and their bodies thrown away.

// answer is a response under way on one conn. Its zero value waits for a head.
type answer struct {
	in     section
	status int
	last   bool   // the conn ends with it
	left   int64  // bytes of the body, or of the chunk
	line   []byte // of a head or line that is not complete
}

// section is the part of a response that comes next.
type section uint8

const (
	inHead section = iota
	inBody
	inChunkSize
	inChunk
	inChunkEnd
	inTrailer
	inRest // until the conn ends
)

// maxLine bounds a line between chunks, and the trailers' bytes.
const maxLine = 8 << 10

// answers takes bytes of responses.
func (w *crew) answers(i uint32, m *member, b []byte) {
	var fresh answer
	a := &fresh
	if m.partial != 0 {
		a = &w.partials.At(m.partial).answer
	}
	for len(b) > 0 && m.phase == phaseOpen {
		n, done, why := a.feed(b, w.f.config.NoBody)
		b = b[n:]
		if why != "" {
			w.lose(m, why)
			w.l.Abort(i)
			break
		}
		if !done {
			continue
		}
		w.k.received.Add(1)
		status, last := a.status, a.last
		if m.partial != 0 {
			w.giveBack(m)
			a = &fresh
		}
		fresh = answer{}
		if last {
			m.phase = phaseClosing
			w.l.Drop(i)
		}
		w.speaker.(Answerer).Answered(w.client(i), status)
	}
	switch {
	case m.phase != phaseOpen || a != &fresh:
	case a.in != inHead || len(a.line) > 0:
		p := w.partials.Spare()
		p.answer = *a
		m.partial = w.partials.Lend(p)
	}
}

func (w *crew) giveBack(m *member) {
	p := w.partials.Return(m.partial)
	m.partial = 0
	p.answer = answer{line: p.answer.line[:0]}
	w.partials.Keep(p)
}

// feed takes bytes from the front of b. It tells how many, whether the response is complete with them, and what is wrong.
func (a *answer) feed(b []byte, noBody bool) (n int, done bool, why string) {
	switch a.in {
	case inHead:
		return a.head(b, noBody)
	case inBody, inChunk:
		n = int(min(int64(len(b)), a.left))
		if a.left -= int64(n); a.left > 0 {
			return n, false, ""
		}
		if a.in == inChunk {
			a.in = inChunkEnd
			return n, false, ""
		}
		return n, true, ""
	case inRest:
		return len(b), false, ""
	}
	// Lines between chunks.
	end := bytes.IndexByte(b, '\n')
	n = end + 1
	if end < 0 {
		n = len(b)
	}
	if a.line = append(a.line, b[:n]...); len(a.line) > maxLine {
		return n, false, "bad_response"
	}
	if end < 0 {
		return n, false, ""
	}
	line := bytes.TrimRight(a.line, "\r\n")
	a.line = a.line[:0]
	switch {
	case a.in == inTrailer && len(line) == 0:
		return n, true, ""
	case a.in == inTrailer:
	case a.in == inChunkEnd && len(line) == 0:
		a.in = inChunkSize
	case a.in == inChunkEnd:
		return n, false, "bad_response"
	default:
		size, _, _ := bytes.Cut(line, []byte(";"))
		v, err := strconv.ParseUint(string(bytes.TrimSpace(size)), 16, 62)
		if err != nil {
			return n, false, "bad_response"
		}
		if a.left, a.in = int64(v), inChunk; v == 0 {
			a.in = inTrailer
		}
	}
	return n, false, ""
}

// head takes bytes of a response's head.
func (a *answer) head(b []byte, noBody bool) (n int, done bool, why string) {
	whole := b
	held := len(a.line)
	if held > 0 {
		a.line = append(a.line, b...)
		whole = a.line
	}
	resp, size, err := ws.ParseResponse(whole, 64<<10)
	if err != nil {
		return len(b), false, "bad_response"
	}
	if size == 0 {
		if held == 0 {
			a.line = append(a.line[:0], b...)
		}
		return len(b), false, ""
	}
	a.line = a.line[:0]
	n = size - held
	if a.status = resp.Status(); a.status < 200 {
		if a.status == 101 {
			return n, false, "bad_response" // nobody asked
		}
		return n, false, "" // an interim response
	}
	for v := range resp.Values("Connection") {
		a.last = a.last || hasToken(v, "close")
	}
	if resp.Proto() == ws.HTTP10 {
		a.last = true
	}
	// RFC 9112 section 6.3.
	if noBody || a.status == 204 || a.status == 304 {
		return n, true, ""
	}
	if te := resp.Header("Transfer-Encoding"); te != nil {
		if !hasToken(te, "chunked") {
			a.in, a.last = inRest, true
			return n, false, ""
		}
		a.in = inChunkSize
		return n, false, ""
	}
	if cl := resp.Header("Content-Length"); cl != nil {
		v, err := strconv.ParseUint(string(cl), 10, 62)
		if err != nil {
			return n, false, "bad_response"
		}
		if a.left, a.in = int64(v), inBody; v == 0 {
			return n, true, ""
		}
		return n, false, ""
	}
	a.in, a.last = inRest, true
	return n, false, ""
}

// hasToken tells whether a list such as "keep-alive, close" has a token, in any case.
func hasToken(list []byte, token string) bool {
	for t := range bytes.SplitSeq(list, []byte(",")) {
		if bytes.EqualFold(bytes.TrimSpace(t), []byte(token)) {
			return true
		}
	}
	return false
}
