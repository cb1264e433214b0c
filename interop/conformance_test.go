package interop

import (
	"bytes"
	"compress/flate"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// The cases follow the sections of the Autobahn suite; the expectations are strict ones: where that suite takes
// several behaviours for good enough, one is asked for here.

// conform runs a case on a connection of its own to /echo.
func conform(t *testing.T, addr, name string, f func(c *rawClient)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { f(connect(t, addr, "/echo", "")) })
}

func TestConformanceMessages(t *testing.T) { // 1
	addr := serve(t, longwireConfig).Addr().String()
	for _, op := range []int{text, bin} {
		for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536} {
			conform(t, addr, fmt.Sprintf("opcode %d, %d bytes", op, n), func(c *rawClient) {
				c.send(true, 0, op, string(pattern(n)))
				c.want(op, string(pattern(n)))
				c.bye()
			})
		}
		for _, size := range []int{1, 997, 65536} {
			conform(t, addr, fmt.Sprintf("opcode %d, chopped in %d", op, size), func(c *rawClient) {
				n := min(65536, 4000*size)
				c.chop(c.frame(true, 0, op, pattern(n)), size)
				c.want(op, string(pattern(n)))
				c.bye()
			})
		}
	}
	conform(t, addr, "any bytes", func(c *rawClient) {
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		c.send(true, 0, bin, string(all))
		c.want(bin, string(all))
		c.bye()
	})
}

func TestConformancePings(t *testing.T) { // 2
	addr := serve(t, longwireConfig).Addr().String()
	payloads := []string{"", "Hello, world!", "\x00\xff\xfe\xfd\xfc\xfb\x00\xff", strings.Repeat("\xfe", 125)}
	for k, payload := range payloads {
		conform(t, addr, fmt.Sprintf("payload %d", k), func(c *rawClient) {
			c.send(true, 0, ping, payload)
			c.want(pong, payload)
			c.bye()
		})
		conform(t, addr, fmt.Sprintf("payload %d, byte by byte", k), func(c *rawClient) {
			c.chop(c.frame(true, 0, ping, []byte(payload)), 1)
			c.want(pong, payload)
			c.bye()
		})
		conform(t, addr, fmt.Sprintf("unsolicited pong %d, then a ping", k), func(c *rawClient) {
			c.send(true, 0, pong, payload)
			c.send(true, 0, ping, "ping")
			c.want(pong, "ping")
			c.bye()
		})
	}
	for _, op := range []int{ping, pong} {
		conform(t, addr, fmt.Sprintf("opcode %d with 126 bytes", op), func(c *rawClient) {
			c.send(true, 0, op, strings.Repeat("\xfe", 126))
			c.wantClose(1002)
		})
	}
	for _, size := range []int{1 << 20, 1} {
		conform(t, addr, fmt.Sprintf("ten pings in writes of %d", size), func(c *rawClient) {
			var b []byte
			for k := range 10 {
				b = append(b, c.frame(true, 0, ping, fmt.Appendf(nil, "payload-%d", k))...)
			}
			c.chop(b, size)
			for k := range 10 {
				c.want(pong, fmt.Sprintf("payload-%d", k))
			}
			c.bye()
		})
	}
}

func TestConformanceReservedBits(t *testing.T) { // 3
	addr := serve(t, longwireConfig).Addr().String()
	for rsv := 1; rsv < 8; rsv++ {
		for _, op := range []int{cont, text, bin, closes, ping, pong} {
			for _, payload := range []string{"", "Hello, world!"} {
				if op == closes && payload != "" {
					payload = closing(1000, payload)
				}
				conform(t, addr, fmt.Sprintf("rsv %03b, opcode %d, %d bytes", rsv, op, len(payload)), func(c *rawClient) {
					c.send(true, 0, text, "before")
					if op == cont {
						c.send(false, 0, text, "begun")
					}
					c.send(true, rsv, op, payload)
					c.send(true, 0, ping, "after")
					c.want(text, "before")
					c.wantClose(1002)
				})
			}
		}
	}
	conform(t, addr, "byte by byte", func(c *rawClient) {
		c.send(true, 0, text, "before")
		c.want(text, "before")
		c.chop(c.frame(true, 4, text, []byte("Hello"))[:1], 1) // the first byte is enough
		c.wantClose(1002)
	})
}

func TestConformanceOpcodes(t *testing.T) { // 4
	addr := serve(t, longwireConfig).Addr().String()
	for _, op := range []int{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		for _, payload := range []string{"", "reserved"} {
			conform(t, addr, fmt.Sprintf("%d with %d bytes", op, len(payload)), func(c *rawClient) {
				c.send(true, 0, op, payload)
				c.wantClose(1002)
			})
			conform(t, addr, fmt.Sprintf("%d with %d bytes among others", op, len(payload)), func(c *rawClient) {
				c.send(true, 0, text, "before")
				c.send(true, 0, op, payload)
				c.send(true, 0, ping, "")
				c.want(text, "before")
				c.wantClose(1002)
			})
		}
		conform(t, addr, fmt.Sprintf("%d without FIN, byte by byte", op), func(c *rawClient) {
			c.chop(c.frame(false, 0, op, nil)[:1], 1)
			c.wantClose(1002)
		})
	}
	for name, b := range map[string][]byte{
		"not masked":               {0x81, 2, 'h', 'i'},
		"not masked, empty":        {0x82, 0},
		"5 bytes in 16 bits":       {0x82, 0xfe, 0, 5},
		"125 bytes in 16 bits":     {0x82, 0xfe, 0, 125},
		"65535 bytes in 64 bits":   {0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff},
		"a ping of 125 in 16 bits": {0x89, 0xfe, 0, 125},
		"the highest bit":          {0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0},
		"all bits":                 {0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		conform(t, addr, name, func(c *rawClient) {
			c.write(b)
			c.wantClose(1002)
		})
	}
	conform(t, addr, "2^62 bytes", func(c *rawClient) {
		c.write([]byte{0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}) // the header with its key, and no payload
		c.wantClose(1009)
	})
}

func TestConformanceFragments(t *testing.T) { // 5
	addr := serve(t, longwireConfig).Addr().String()
	for _, op := range []int{closes, ping, pong} {
		conform(t, addr, fmt.Sprintf("5.1, 5.2 opcode %d in fragments", op), func(c *rawClient) {
			c.send(false, 0, op, "")
			c.send(true, 0, cont, "")
			c.wantClose(1002)
		})
	}
	for _, size := range []int{1 << 20, 1} {
		for _, op := range []int{text, bin} {
			conform(t, addr, fmt.Sprintf("5.3-5.5 opcode %d in two, chopped in %d", op, size), func(c *rawClient) {
				c.chop(append(c.frame(false, 0, op, []byte("fragment1")), c.frame(true, 0, cont, []byte("fragment2"))...), size)
				c.want(op, "fragment1fragment2")
				c.bye()
			})
		}
		conform(t, addr, fmt.Sprintf("5.6-5.8 a ping between, chopped in %d", size), func(c *rawClient) {
			b := c.frame(false, 0, text, []byte("fragment1"))
			b = append(b, c.frame(true, 0, ping, []byte("ping"))...)
			b = append(b, c.frame(true, 0, cont, []byte("fragment2"))...)
			c.chop(b, size)
			c.want(pong, "ping")
			c.want(text, "fragment1fragment2")
			c.bye()
		})
		for _, fin := range []bool{true, false} {
			conform(t, addr, fmt.Sprintf("5.9-5.14 a continuation of nothing, fin %t, chopped in %d", fin, size), func(c *rawClient) {
				b := c.frame(fin, 0, cont, []byte("non-continuation payload"))
				b = append(b, c.frame(true, 0, text, []byte("Hello"))...)
				c.chop(b[:min(len(b), max(size, 1))], size) // the first byte is enough
				c.wantClose(1002)
			})
			conform(t, addr, fmt.Sprintf("5.15 a continuation behind a message, fin %t, chopped in %d", fin, size), func(c *rawClient) {
				c.send(false, 0, text, "fragment1")
				c.send(true, 0, cont, "fragment2")
				c.send(fin, 0, cont, "fragment3")
				c.send(true, 0, text, "fragment4")
				c.want(text, "fragment1fragment2")
				c.wantClose(1002)
			})
		}
	}
	conform(t, addr, "5.18 both with an opcode", func(c *rawClient) {
		c.send(false, 0, text, "fragment1")
		c.send(true, 0, text, "fragment2")
		c.wantClose(1002)
	})
	conform(t, addr, "5.19, 5.20 five fragments and pings", func(c *rawClient) {
		c.send(false, 0, text, "fragment1")
		c.send(false, 0, cont, "fragment2")
		c.send(true, 0, ping, "pong 1")
		c.want(pong, "pong 1") // before the message has ended
		c.send(false, 0, cont, "fragment3")
		c.send(true, 0, ping, "pong 2")
		c.send(false, 0, cont, "fragment4")
		c.send(true, 0, pong, "unasked")
		c.send(true, 0, cont, "fragment5")
		c.want(pong, "pong 2")
		c.want(text, "fragment1fragment2fragment3fragment4fragment5")
		c.bye()
	})
	conform(t, addr, "empty fragments", func(c *rawClient) { // 6.1.2, 6.1.3
		c.send(false, 0, text, "")
		c.send(false, 0, cont, "")
		c.send(false, 0, cont, "middle")
		c.send(true, 0, cont, "")
		c.want(text, "middle")
		c.send(false, 0, bin, "")
		c.send(true, 0, cont, "")
		c.want(bin, "")
		c.bye()
	})
}

// sequences are what section 6 tries, valid or not: what is good for us is what is good for unicode/utf8.
var sequences = []string{
	"", "Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\u0000", "\u007f", "\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\uffff",
	"\U00010000", "\U0001fffe", "\U0010fffe", "\U0010ffff", "\xef\xbf\xbe", "\xf0\x9f\xbf\xbf",
	"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", // a surrogate
	"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
	"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf", "\xf4\x90\x80\x80",
	"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf\x80\xbf",
	"\xc0 \xc1 \xc2 ", "\xe0 \xe1 \xef ", "\xf0 \xf7 ", "\xf8 \xfb ", "\xfc \xfd ",
	"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xce", "\xe1\xbd", "\xf0\x90\x80",
	"\xfe", "\xff", "\xfe\xfe\xff\xff",
	"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80",
	"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf",
	"\xed\xa0\x80\xed\xb0\x80", "\xed\xad\xbf\xed\xbf\xbf",
}

func TestConformanceUTF8(t *testing.T) { // 6
	addr := serve(t, longwireConfig).Addr().String()
	for k, s := range sequences {
		check := func(c *rawClient) {
			c.t.Helper()
			if utf8.ValidString(s) {
				c.want(text, s)
				c.bye()
			} else {
				c.wantClose(1007)
			}
		}
		conform(t, addr, fmt.Sprintf("%d whole", k), func(c *rawClient) {
			c.send(true, 0, text, s)
			check(c)
		})
		conform(t, addr, fmt.Sprintf("%d byte by byte", k), func(c *rawClient) {
			b := c.frame(true, 0, text, []byte(s))
			for i := range b {
				if _, err := c.c.Write(b[i : i+1]); err != nil {
					t.Fatal(err) // the server closes, but it does not reset
				}
			}
			check(c)
		})
		conform(t, addr, fmt.Sprintf("%d in fragments of a byte", k), func(c *rawClient) {
			for i := range len(s) {
				op := cont
				if i == 0 {
					op = text
				}
				c.send(false, 0, op, s[i:i+1])
			}
			if s == "" {
				c.send(false, 0, text, "")
			}
			c.send(true, 0, cont, "")
			check(c)
		})
		conform(t, addr, fmt.Sprintf("%d as bytes", k), func(c *rawClient) {
			c.send(true, 0, bin, s)
			c.want(bin, s)
			c.bye()
		})
	}
}

// 6.4: what is wrong is wrong at once, and not when the message has ended.
func TestConformanceUTF8FailsFast(t *testing.T) {
	addr := serve(t, longwireConfig).Addr().String()
	const good = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
	for k, bad := range []string{"\xf4\x90\x80\x80", "\xf4\x90", "\xed\xa0", "\xc0", "\x80", "\xff", "\xf5", "\xe0\x80", "\xf0\x80", "\xce\x20"} {
		conform(t, addr, fmt.Sprintf("6.4.1 fragment %d", k), func(c *rawClient) {
			c.send(false, 0, text, good)
			c.send(false, 0, cont, bad)
			c.wantClose(1007)
		})
		conform(t, addr, fmt.Sprintf("6.4.3 within a frame %d", k), func(c *rawClient) {
			b := c.frame(true, 0, text, []byte(good+bad+"and much more of it"))
			c.write(b[:6+len(good)])
			c.write(b[6+len(good) : 6+len(good)+len(bad)])
			c.wantClose(1007)
		})
	}
	conform(t, addr, "what may still become right", func(c *rawClient) {
		b := c.frame(true, 0, text, []byte("\xf4\x8f\xbf\xbf"))
		for i := range b[:9] {
			c.write(b[i : i+1])
		}
		c.write(b[9:])
		c.want(text, "\xf4\x8f\xbf\xbf")
		c.bye()
	})
}

func TestConformanceClose(t *testing.T) { // 7
	addr := serve(t, longwireConfig).Addr().String()
	conform(t, addr, "7.1.1 behind a message", func(c *rawClient) {
		c.send(true, 0, text, "Hello World!")
		c.send(true, 0, closes, closing(1000, ""))
		c.want(text, "Hello World!")
		c.wantClose(1000)
	})
	for name, after := range map[string]func(c *rawClient){
		"7.1.2 close":        func(c *rawClient) { c.send(true, 0, closes, closing(1001, "")) },
		"7.1.3 ping":         func(c *rawClient) { c.send(true, 0, ping, "") },
		"7.1.4 text":         func(c *rawClient) { c.send(true, 0, text, "after") },
		"reserved":           func(c *rawClient) { c.send(true, 7, 15, "after") },
		"a lot":              func(c *rawClient) { c.send(true, 0, bin, string(pattern(200_000))) },
		"what is not framed": func(c *rawClient) { c.write(pattern(5000)) },
	} {
		conform(t, addr, name+" behind it", func(c *rawClient) {
			c.send(true, 0, closes, closing(1000, ""))
			after(c)
			c.wantClose(1000)
		})
	}
	conform(t, addr, "7.1.5 within a message", func(c *rawClient) {
		c.send(false, 0, text, "fragment1")
		c.send(true, 0, closes, closing(1000, ""))
		c.send(true, 0, cont, "fragment2")
		c.wantClose(1000)
	})
	conform(t, addr, "7.1.6 behind a large message", func(c *rawClient) {
		large := string(pattern(256 << 10))
		c.send(true, 0, text, large)
		c.send(true, 0, closes, closing(1000, ""))
		c.send(true, 0, ping, "")
		c.want(text, large)
		c.wantClose(1000)
	})
	for name, x := range map[string]struct {
		payload string
		code    int
	}{
		"7.3.1 empty":               {"", 0},
		"7.3.2 one byte":            {"a", 1002},
		"7.3.3 code":                {closing(1000, ""), 1000},
		"7.3.4 reason":              {closing(1000, "Hello World!"), 1000},
		"7.3.5 123 bytes of reason": {closing(1000, strings.Repeat("*", 123)), 1000},
		"7.3.6 124 bytes of reason": {closing(1000, strings.Repeat("*", 124)), 1002},
		"7.5.1 reason is not UTF-8": {closing(1000, "\xce\xba\xe1\xbd\xb9\xed\xa0\x80edited"), 1007},
		"reason ends in a rune":     {closing(1000, "caf\xc3"), 1007},
	} {
		conform(t, addr, name, func(c *rawClient) {
			c.send(true, 0, closes, x.payload)
			c.wantClose(x.code)
		})
	}
	for code := range 5200 { // 7.7, 7.9, 7.13
		valid := code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
		edge := code < 3 || code%997 == 0 || code >= 998 && code <= 1018 || code == 1100 || code >= 2997 && code <= 3002 || code >= 3998 && code <= 4001 || code >= 4998 && code <= 5001
		if edge {
			conform(t, addr, "code "+strconv.Itoa(code), func(c *rawClient) {
				c.send(true, 0, closes, closing(code, ""))
				if valid {
					c.wantClose(code)
				} else {
					c.wantClose(1002)
				}
			})
		}
	}
	conform(t, addr, "code 65535", func(c *rawClient) {
		c.send(true, 0, closes, closing(65535, ""))
		c.wantClose(1002)
	})
	conform(t, addr, "fragmented", func(c *rawClient) {
		c.write(c.frame(false, 0, closes, []byte(closing(1000, "")))[:1])
		c.wantClose(1002)
	})
}

func TestConformanceLarge(t *testing.T) { // 9
	addr := serve(t, longwireConfig).Addr().String()
	exchange := func(c *rawClient, op int, payload []byte, fragment, size int) {
		b := make([]byte, 0, len(payload)+len(payload)/max(fragment, 1)*14+100)
		for at := 0; ; at += fragment {
			end := min(at+fragment, len(payload))
			b = append(b, c.frame(end == len(payload), 0, op, payload[at:end])...)
			if op = cont; end == len(payload) {
				break
			}
		}
		sent := make(chan error, 1)
		go func() {
			for len(b) > 0 {
				n := min(size, len(b))
				if _, err := c.c.Write(b[:n]); err != nil {
					sent <- err
					return
				}
				b = b[n:]
			}
			sent <- nil
		}()
		_, _, got := c.next()
		if !bytes.Equal(got, payload) {
			c.t.Errorf("an echo of %d bytes, not the same as the %d sent", len(got), len(payload))
		}
		if err := <-sent; err != nil {
			c.t.Errorf("write: %v", err)
		}
		c.bye()
	}
	for _, op := range []int{text, bin} {
		for _, n := range []int{64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20} {
			conform(t, addr, fmt.Sprintf("9.1, 9.2 opcode %d, %d bytes", op, n), func(c *rawClient) {
				exchange(c, op, pattern(n), n, 1<<30)
			})
		}
		for _, fragment := range []int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20} {
			conform(t, addr, fmt.Sprintf("9.3, 9.4 opcode %d, 4 MiB in fragments of %d", op, fragment), func(c *rawClient) {
				exchange(c, op, pattern(4<<20), fragment, 1<<30)
			})
		}
		for _, size := range []int{64, 128, 256, 512, 1024, 2048} {
			conform(t, addr, fmt.Sprintf("9.5, 9.6 opcode %d, chopped in %d", op, size), func(c *rawClient) {
				exchange(c, op, pattern(1<<18), 1<<18, size)
			})
		}
		for _, n := range []int{0, 16, 64, 256, 1024, 4096, 16384, 65536} {
			conform(t, addr, fmt.Sprintf("9.7, 9.8 opcode %d, 200 round trips of %d bytes", op, n), func(c *rawClient) {
				payload := string(pattern(n))
				for range 200 {
					c.send(true, 0, op, payload)
					c.want(op, payload)
				}
				c.bye()
			})
		}
	}
	conform(t, addr, "10.1 fragments of 1300", func(c *rawClient) { exchange(c, text, pattern(65536), 1300, 1<<30) })
	conform(t, addr, "too large", func(c *rawClient) {
		c.write([]byte{0x82, 0xff, 0, 0, 0, 0, 2, 0, 0, 1, 1, 2, 3, 4}) // 32 MiB and a byte
		c.wantClose(1009)
	})
}

// offer is an offer of permessage-deflate and what the answer may be.
type offer struct {
	field  string
	agreed bool
	server int // window that the server may use
}

func TestConformanceDeflateOffers(t *testing.T) { // 13, the handshake
	addr := serve(t, longwireConfig).Addr().String()
	offers := []offer{
		{"permessage-deflate", true, 15},
		{"permessage-deflate; client_no_context_takeover", true, 15},
		{"permessage-deflate; server_no_context_takeover", true, 15},
		{"permessage-deflate; client_max_window_bits", true, 15},
		{"permessage-deflate; client_max_window_bits; server_no_context_takeover; client_no_context_takeover", true, 15},
		{`permessage-deflate; client_max_window_bits="12"`, true, 15},
		{"foo, permessage-deflate", true, 15},
		{"permessage-deflate; unknown, permessage-deflate", true, 15},
		{"permessage-deflate; server_max_window_bits=7, permessage-deflate; server_max_window_bits=10", true, 10},
		{"Permessage-Deflate", false, 0},
		{"permessage-bzip2", false, 0},
		{"x-webkit-deflate-frame", false, 0},
		{"permessage-deflate; unknown", false, 0},
		{"permessage-deflate; client_no_context_takeover=1", false, 0},
		{"permessage-deflate; server_no_context_takeover=1", false, 0},
		{"permessage-deflate; client_no_context_takeover; client_no_context_takeover", false, 0},
		{"permessage-deflate; server_max_window_bits", false, 0},
		{"permessage-deflate; server_max_window_bits=7", false, 0},
		{"permessage-deflate; server_max_window_bits=16", false, 0},
		{"permessage-deflate; server_max_window_bits=010", false, 0},
		{"permessage-deflate; server_max_window_bits=10; server_max_window_bits=10", false, 0},
		{"permessage-deflate; client_max_window_bits=7", false, 0},
		{"permessage-deflate; client_max_window_bits=16", false, 0},
		{"permessage-deflate; client_max_window_bits=x", false, 0},
	}
	for w := 8; w <= 15; w++ {
		offers = append(offers,
			offer{fmt.Sprintf("permessage-deflate; server_max_window_bits=%d", w), true, w},
			offer{fmt.Sprintf("permessage-deflate; client_max_window_bits=%d", w), true, 15},
			offer{fmt.Sprintf("permessage-deflate; server_max_window_bits=%d; client_max_window_bits=%d", w, w), true, w},
			offer{fmt.Sprintf("permessage-deflate; server_max_window_bits=%d; client_max_window_bits; server_no_context_takeover", w), true, w},
			offer{fmt.Sprintf("permessage-deflate; server_max_window_bits=%d; client_no_context_takeover, permessage-deflate", w), true, w},
		)
	}
	for _, o := range offers {
		t.Run(o.field, func(t *testing.T) {
			c := connect(t, addr, "/echo", o.field)
			answer := c.head.Values("Sec-WebSocket-Extensions")
			if !o.agreed {
				if len(answer) > 0 {
					t.Errorf("answer %q, want none", answer)
				}
				c.send(true, 4, text, "")
				c.wantClose(1002)
				return
			}
			if len(answer) != 1 || strings.Contains(answer[0], ",") {
				t.Fatalf("answer %q, want one", answer)
			}
			client, server := agreed(t, o.field, answer[0])
			if server > o.server {
				t.Errorf("answer %q: the server's window is %d, want at most %d", answer, server, o.server)
			}
			text1 := strings.Repeat(string(pattern(5000)), 8)
			for range 2 { // the second must not need the first
				c.send(true, 4, text, string(deflate(t, []byte(text1), 6, client)))
				op, compressed, got := c.next()
				if !compressed {
					t.Error("the echo of a message that compresses well is not compressed")
				} else {
					got = inflate(t, got, server)
				}
				if op != text || string(got) != text1 {
					t.Fatalf("echo: opcode %d, %s", op, show(got))
				}
			}
			c.send(true, 0, text, "not compressed")
			c.want(text, "not compressed")
			c.send(true, 4, bin, "\x00") // an empty message, 7.2.3.6
			c.want(bin, "")
			c.bye()
		})
	}
	for _, malformed := range []string{"permessage-deflate;", "permessage-deflate; =1", "permessage-deflate; a=", ";", "a b", `permessage-deflate; a="`} {
		t.Run("malformed "+malformed, func(t *testing.T) {
			conn := connectRefused(t, addr, malformed)
			if conn != 400 {
				t.Errorf("status %d, want 400", conn)
			}
		})
	}
}

// agreed checks an answer against RFC 7692, and tells the windows of client and server.
func agreed(t *testing.T, offered, answer string) (client, server int) {
	t.Helper()
	client, server = 15, 15
	parts := strings.Split(answer, ";")
	if strings.TrimSpace(parts[0]) != "permessage-deflate" {
		t.Fatalf("answer %q", answer)
	}
	seen := make(map[string]bool)
	for _, p := range parts[1:] {
		name, value, has := strings.Cut(strings.TrimSpace(p), "=")
		if seen[name] {
			t.Errorf("%s twice in %q", name, answer)
		}
		seen[name] = true
		switch name {
		case "server_no_context_takeover", "client_no_context_takeover":
			if has {
				t.Errorf("%s with a value in %q", name, answer)
			}
		case "server_max_window_bits", "client_max_window_bits":
			n, err := strconv.Atoi(value)
			if err != nil || n < 8 || n > 15 || strconv.Itoa(n) != value {
				t.Errorf("%s is %q in %q", name, value, answer)
			}
			if name[0] == 's' {
				server = n
			} else if client = n; !strings.Contains(offered, name) {
				t.Errorf("%s in %q was not offered", name, answer)
			}
		default:
			t.Errorf("%s in %q", name, answer)
		}
	}
	return client, server
}

func TestConformanceDeflateMessages(t *testing.T) { // 12
	addr := serve(t, longwireConfig).Addr().String()
	with := func(name string, f func(c *rawClient)) {
		t.Run(name, func(t *testing.T) {
			c := connect(t, addr, "/echo", "permessage-deflate; client_no_context_takeover; client_max_window_bits")
			if !c.deflate {
				t.Fatal("not agreed")
			}
			f(c)
		})
	}
	for _, op := range []int{text, bin} {
		for _, n := range []int{0, 1, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072} {
			with(fmt.Sprintf("opcode %d, %d bytes", op, n), func(c *rawClient) {
				payload := string(pattern(n))
				for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
					z := deflate(c.t, []byte(payload), level, 15)
					c.send(true, 4, op, string(z))
					c.want(op, payload)
				}
				// In fragments: the bit is on the first one only.
				z := deflate(c.t, []byte(payload), 6, 15)
				step := len(z)/7 + 1
				for at := 0; at < len(z); at += step {
					end := min(at+step, len(z))
					if at == 0 {
						c.send(end == len(z), 4, op, string(z[:end]))
					} else {
						c.send(end == len(z), 0, cont, string(z[at:end]))
					}
					if end < len(z) {
						c.send(true, 0, ping, "between")
						c.want(pong, "between")
					}
				}
				c.want(op, payload)
				c.bye()
			})
		}
	}
	with("byte by byte", func(c *rawClient) {
		c.chop(c.frame(true, 4, text, deflate(c.t, []byte("byte by byte"), 6, 15)), 1)
		c.want(text, "byte by byte")
		c.bye()
	})
	with("several blocks", func(c *rawClient) {
		var z bytes.Buffer
		w, _ := flate.NewWriter(&z, 6)
		for k := range 5 {
			_, _ = fmt.Fprintf(w, "block %d ", k)
			_ = w.Flush()
		}
		c.send(true, 4, text, string(bytes.TrimSuffix(z.Bytes(), []byte{0, 0, 0xff, 0xff})))
		c.want(text, "block 0 block 1 block 2 block 3 block 4 ")
		c.bye()
	})
	with("a final block", func(c *rawClient) { // 7.2.3.4
		c.send(true, 4, text, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00")
		c.want(text, "Hello")
		c.bye()
	})
	with("a stored block", func(c *rawClient) { // 7.2.3.3
		c.send(true, 4, text, "\x00\x05\x00\xfa\xffHello\x00")
		c.want(text, "Hello")
		c.bye()
	})
	with("a message that does not compress", func(c *rawClient) {
		b := make([]byte, 100_000)
		x := uint32(1)
		for i := range b {
			x = x*1664525 + 1013904223
			b[i] = byte(x >> 24)
		}
		c.send(true, 4, bin, string(deflate(c.t, b, 6, 15)))
		c.want(bin, string(b))
		c.bye()
	})
	for name, send := range map[string]func(c *rawClient){
		"on a continuation": func(c *rawClient) { c.send(false, 4, text, "\xf3\x48"); c.send(true, 4, cont, "\xcd\xc9\xc9\x07\x00") },
		"on a ping":         func(c *rawClient) { c.send(true, 4, ping, "") },
		"on a close":        func(c *rawClient) { c.send(true, 4, closes, closing(1000, "")) },
		"with RSV2":         func(c *rawClient) { c.send(true, 6, text, "\x00") },
	} {
		with("the bit "+name, func(c *rawClient) {
			send(c)
			c.wantClose(1002)
		})
	}
	for name, payload := range map[string]string{
		"no deflate data":       "\xff\xff\xff\xff",
		"cut off":               "\xf3\x48\xcd",
		"too far back":          "\x4b\x04\x82\x01",
		"text that is no UTF-8": string(deflate(t, []byte("caf\xe9"), 6, 15)),
	} {
		with(name, func(c *rawClient) {
			c.send(true, 4, text, payload)
			c.wantClose(1007)
		})
	}
	with("a bomb", func(c *rawClient) {
		z := deflate(c.t, make([]byte, 33<<20), 1, 15)
		c.send(true, 4, bin, string(z))
		c.wantClose(1009)
	})
}
