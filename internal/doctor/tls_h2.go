package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// extendedConnect reads the settings of an HTTP/2 server: "yes" where it takes WebSocket over HTTP/2, by SETTINGS_ENABLE_CONNECT_PROTOCOL of
// RFC 8441, "no" where it does not, and otherwise why that is not known. The connection is of no use after it.
func extendedConnect(c io.ReadWriter) string {
	// The preface of RFC 9113, and settings without any.
	if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		return fmt.Sprintf("not known: %v", err)
	}
	settings, err := readSettings(c)
	switch {
	case err != nil:
		return fmt.Sprintf("not known: %v", err)
	case settings[8] == 1:
		return "yes"
	}
	return "no"
}

// readSettings reads frames up to the server's first SETTINGS, which has to be the first of all.
func readSettings(r io.Reader) (map[uint16]uint32, error) {
	const frameSettings, most = 4, 16384
	for range 4 {
		var head [9]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, fmt.Errorf("it ended before its settings: %w", err)
		}
		n := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if n > most {
			return nil, errors.New("its first frame is too large for HTTP/2")
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return nil, fmt.Errorf("it ended within a frame: %w", err)
		}
		if ack := head[4]&1 != 0; head[3] != frameSettings || ack {
			continue
		}
		if n%6 != 0 {
			return nil, errors.New("its settings are malformed")
		}
		settings := map[uint16]uint32{}
		for ; len(body) > 0; body = body[6:] {
			settings[binary.BigEndian.Uint16(body)] = binary.BigEndian.Uint32(body[2:])
		}
		return settings, nil
	}
	return nil, errors.New("it sent no settings")
}
