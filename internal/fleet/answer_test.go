package fleet

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// got is a response that was read to its end: its status, and where in the stream the end is.
type got struct{ status, end int }

// feedAll feeds stream to an answer in pieces of those sizes, over and over, as crew.answers does. It returns the responses
// that are complete and what is wrong; open tells that the conn's end would complete another.
func feedAll(stream []byte, noBody bool, sizes ...int) (all []got, open bool, why string) {
	var a answer
	at := 0
	for turn := 0; at < len(stream); turn++ {
		piece := stream[at:min(len(stream), at+sizes[turn%len(sizes)])]
		for len(piece) > 0 {
			n, done, w := a.feed(piece, noBody)
			if n < 0 || n > len(piece) || n == 0 && !done && w == "" {
				panic(fmt.Sprintf("fed %d bytes, took %d", len(piece), n))
			}
			piece, at = piece[n:], at+n
			if w != "" {
				return all, false, w
			}
			if done {
				all = append(all, got{a.status, at})
				if a.last {
					return all, false, ""
				}
				a.reset()
			}
		}
	}
	return all, a.in == inRest, ""
}

// reference is feedAll by net/http. It ends before the first response that net/http does not like.
func reference(stream []byte, noBody bool) (all []got, open, clean bool) {
	method := "GET"
	if noBody {
		method = "HEAD"
	}
	under := bytes.NewReader(stream)
	r := bufio.NewReader(under)
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return all, false, err == io.EOF || err == io.ErrUnexpectedEOF
		}
		if resp.StatusCode < 200 {
			if resp.StatusCode == 101 {
				return all, false, false
			}
			continue
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err != nil {
			return all, false, err == io.ErrUnexpectedEOF
		}
		if resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 && resp.Body != http.NoBody {
			return all, true, true
		}
		all = append(all, got{resp.StatusCode, len(stream) - under.Len() - r.Buffered()})
		if resp.Close {
			return all, false, true
		}
	}
}

// seeds are streams of responses, with what is wrong with them.
var seeds = []struct {
	name, stream string
	noBody       bool
	done         []int // statuses of those that are complete
	open         bool
	why          string
}{
	{"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, []int{200}, false, ""},
	{"length of none", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false, []int{200}, false, ""},
	{"two in one", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx", false, []int{200, 404}, false, ""},
	{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", false, []int{200}, false, ""},
	{"chunks and trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A, B\r\n\r\n1\r\nx\r\n0\r\nA: 1\r\nB: 2\r\n\r\n", false, []int{200}, false, ""},
	{"chunks beat length", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, []int{200}, false, ""},
	{"no content", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", false, []int{204, 304}, false, ""},
	{"head", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true, []int{200, 200}, false, ""},
	{"interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, []int{200}, false, ""},
	{"close", "HTTP/1.1 200 OK\r\nConnection: keep-alive, Close\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n\r\n", false, []int{200}, false, ""},
	{"1.0", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", false, []int{200}, false, ""},
	{"until the end", "HTTP/1.1 200 OK\r\n\r\nabc", false, nil, true, ""},
	{"until the end, 1.0", "HTTP/1.0 200 OK\r\n\r\nabc", false, nil, true, ""},
	{"another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc", false, nil, true, ""},
	{"chunked is not the last coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", false, nil, true, ""},
	{"chunked is the last coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: x,chunked\r\n\r\n0\r\n\r\n", false, []int{200}, false, ""},
	{"chunks of 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, nil, true, ""},
	{"the same length twice", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", false, []int{200}, false, ""},
	{"not yet", "HTTP/1.1 200 OK\r\nContent-Le", false, nil, false, ""},

	{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", false, nil, false, badLength},
	{"no number", "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx", false, nil, false, badLength},
	{"no length at all", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", false, nil, false, badLength},
	{"too long a number", "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nx", false, nil, false, badLength},
	{"chunk without a size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n;x\r\n", false, nil, false, badChunk},
	{"chunk that is longer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n", false, nil, false, badChunk},
	{"chunk of a wrong number", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n", false, nil, false, badChunk},
	{"chunk that ends in a line feed", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n", false, nil, false, badChunk},
	{"chunk line without an end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("x", maxLine), false, nil, false, badChunk},
	{"garbage behind", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxgarbage", false, []int{200}, false, badResponse},
	{"another protocol", "220 mail.example ESMTP\r\n", false, nil, false, badResponse},
	{"HTTP/2", "HTTP/2 200\r\n\r\n", false, nil, false, badResponse},
	{"no status", "HTTP/1.1 OK\r\n\r\n", false, nil, false, badResponse},
	{"folded", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", false, nil, false, badResponse},
	{"head without an end", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 70<<10), false, nil, false, badResponse},
	{"upgrade", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", false, nil, false, badUpgrade},
}

func TestAnswer(t *testing.T) {
	for _, s := range seeds {
		for _, size := range []int{1 << 20, 1, 2, 7, 4099} {
			if size < 100 && len(s.stream) > 16<<10 {
				continue // a head is parsed from its start with each piece
			}
			all, open, why := feedAll([]byte(s.stream), s.noBody, size)
			var done []int
			for _, g := range all {
				done = append(done, g.status)
			}
			if fmt.Sprint(done) != fmt.Sprint(s.done) || open != s.open || why != s.why {
				t.Errorf("%s, by %d bytes: %d complete, open %t, %q; want %d, %t, %q", s.name, size, done, open, why, s.done, s.open, s.why)
			}
		}
	}
}

// TestAnswerAllocates: a response costs nothing, in pieces neither, once there is memory for a line.
func TestAnswerAllocates(t *testing.T) {
	var a answer
	for _, s := range seeds[:7] {
		b := []byte(s.stream)
		for _, size := range []int{len(b), 1, 7} {
			n := testing.AllocsPerRun(20, func() {
				for at := 0; at < len(b); {
					n, done, _ := a.feed(b[at:min(len(b), at+size)], s.noBody)
					if at += n; done {
						a.reset()
					}
				}
			})
			if n != 0 {
				t.Errorf("%s, by %d bytes: %v allocations", s.name, size, n)
			}
		}
	}
}

// agree holds feedAll of one stream to that of the same in pieces, and to net/http.
func agree(t *testing.T, stream []byte, noBody bool, cut int) {
	t.Helper()
	all, open, why := feedAll(stream, noBody, max(1, len(stream)))
	cut = 1 + cut%max(1, len(stream))
	for _, sizes := range [][]int{{1}, {cut}, {cut, 1, 3}} {
		a, o, w := feedAll(stream, noBody, sizes...)
		if fmt.Sprint(a, o, w) != fmt.Sprint(all, open, why) {
			t.Fatalf("in pieces of %d: %v, %t, %q; at once: %v, %t, %q", sizes, a, o, w, all, open, why)
		}
	}
	want, wantOpen, clean := reference(stream, noBody)
	for k := range min(len(all), len(want)) {
		if all[k] != want[k] {
			t.Fatalf("response %d is %+v, net/http has %+v", k, all[k], want[k])
		}
	}
	// Each is stricter in something: where one gives up the other may go on, but not the other way round.
	switch {
	case why == "" && clean && len(all) != len(want):
		t.Fatalf("%d responses, net/http has %d", len(all), len(want))
	case why == "" && clean && open != wantOpen:
		t.Fatalf("waits for the conn's end: %t, net/http: %t", open, wantOpen)
	case why != "" && len(all) > len(want) && clean:
		t.Fatalf("%d responses, then %s; net/http has %d", len(all), why, len(want))
	case why == "" && !clean && len(all) < len(want):
		t.Fatalf("%d responses, net/http has %d and then an error", len(all), len(want))
	}
}

func FuzzAnswer(f *testing.F) {
	if files, err := filepath.Glob("testdata/fuzz/FuzzAnswer/seed-*"); err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, s := range seeds {
		f.Add([]byte(s.stream), s.noBody, len(s.stream)/2)
	}
	f.Fuzz(func(t *testing.T, stream []byte, noBody bool, cut int) {
		if len(stream) > 4<<10 || cut < 0 {
			return
		}
		agree(t, stream, noBody, cut)
	})
}
