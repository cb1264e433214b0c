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

// maxLine bounds a line between chunks, and one of the trailers.
const maxLine = 8 << 10

// What can be wrong with a response.
const (
	badResponse = "bad_response" // its head is not one of HTTP/1.1
	badLength   = "bad_length"   // it says two lengths, or one that is no number
	badChunk    = "bad_chunk"
	badUpgrade  = "unasked_upgrade"
)

// answers takes bytes of responses.
func (w *crew) answers(i uint32, m *member, b []byte) {
	a := &w.answer
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
		if a.reset(); m.partial != 0 {
			w.partials.Keep(w.partials.Return(m.partial))
			m.partial = 0
			a = &w.answer
		}
		if last {
			m.phase = phaseClosing
			w.closing++
			w.l.Drop(i)
		}
		w.speaker.(Answerer).Answered(w.client(i), status)
	}
	switch {
	case m.partial != 0:
	case m.phase != phaseOpen:
		a.reset()
	case a.in != inHead || len(a.line) > 0:
		p := w.partials.Spare()
		w.answer, p.answer = p.answer, w.answer
		m.partial = w.partials.Lend(p)
	}
}

// reset has a wait for the next head. It keeps the memory.
func (a *answer) reset() { *a = answer{line: a.line[:0]} }

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
	line := b[:n]
	if end < 0 || len(a.line) > 0 {
		a.line = append(a.line, line...)
		line = a.line
	}
	if len(line) > maxLine {
		return n, false, badChunk
	}
	if end < 0 {
		return n, false, ""
	}
	a.line = a.line[:0]
	line, ok := bytes.CutSuffix(line, []byte("\r\n"))
	switch {
	case !ok:
		return n, false, badChunk // a bare LF is two things to two readers
	case a.in == inTrailer && len(line) == 0:
		return n, true, ""
	case a.in == inTrailer:
	case a.in == inChunkEnd && len(line) == 0:
		a.in = inChunkSize
	case a.in == inChunkEnd:
		return n, false, badChunk
	default:
		size, _, _ := bytes.Cut(line, []byte(";"))
		v, err := strconv.ParseUint(string(bytes.TrimRight(size, " \t")), 16, 63)
		if err != nil {
			return n, false, badChunk
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
		return len(b), false, badResponse
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
			return n, false, badUpgrade
		}
		return n, false, "" // an interim response
	}
	if resp.HasToken("Connection", "close") || resp.Proto() == ws.HTTP10 {
		a.last = true
	}
	// RFC 9112 section 6.3.
	if noBody || a.status == 204 || a.status == 304 {
		return n, true, ""
	}
	coding, coded := []byte(nil), false
	for v := range resp.Values("Transfer-Encoding") {
		coding, coded = v, true
	}
	if coded {
		last := bytes.TrimSpace(coding[bytes.LastIndexByte(coding, ',')+1:])
		if a.in = inChunkSize; resp.Proto() == ws.HTTP10 || !bytes.EqualFold(last, []byte("chunked")) {
			a.in, a.last = inRest, true
		}
		return n, false, ""
	}
	length := int64(-1)
	for v := range resp.Values("Content-Length") {
		l, err := strconv.ParseUint(string(v), 10, 63)
		if err != nil || length >= 0 && length != int64(l) {
			return n, false, badLength
		}
		length = int64(l)
	}
	switch {
	case length == 0:
		return n, true, ""
	case length > 0:
		a.left, a.in = length, inBody
	default:
		a.in, a.last = inRest, true
	}
	return n, false, ""
}
