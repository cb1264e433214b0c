package session

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// IDs makes session ids of conns under a key, and conns of session ids, so that neither has to be kept. Any goroutine may use it.
type IDs struct {
	key    []byte
	cipher cipher.Block
}

// NewIDs makes ids under a key of 16 bytes.
func NewIDs(key []byte) (*IDs, error) {
	c, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("session: key for ids: %w", err)
	}
	return &IDs{key: bytes.Clone(key), cipher: c}, nil
}

// Key is a copy of the key.
func (x *IDs) Key() []byte { return bytes.Clone(x.key) }

// idMark stands in ids beside the conn's, so that others are told from ours.
const idMark = 0x6c6f6e6777697265

// ID is the session id of a conn: a UUID that tells nobody anything, made of the conn's id under a key, so that
// nothing has to be stored for it.
func (x *IDs) ID(conn uint64) string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], conn)
	binary.LittleEndian.PutUint64(b[8:], idMark)
	x.cipher.Encrypt(b[:], b[:])
	return uuid(b)
}

// Conn is the conn of a session id that was made under this key.
func (x *IDs) Conn(id string) (conn uint64, ok bool) {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return 0, false
	}
	var b [16]byte
	if _, err := hex.Decode(b[:], []byte(id[:8]+id[9:13]+id[14:18]+id[19:23]+id[24:])); err != nil {
		return 0, false
	}
	x.cipher.Decrypt(b[:], b[:])
	return binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:]) == idMark
}

func uuid(b [16]byte) string {
	var s [36]byte
	hex.Encode(s[:], b[:4])
	s[8] = '-'
	hex.Encode(s[9:], b[4:6])
	s[13] = '-'
	hex.Encode(s[14:], b[6:8])
	s[18] = '-'
	hex.Encode(s[19:], b[8:10])
	s[23] = '-'
	hex.Encode(s[24:], b[10:])
	return string(s[:])
}
