package doctor

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"syscall"
)

// HandshakeFailure is why a handshake failed.
type HandshakeFailure struct {
	Stage string // one of the stages below
	Alert uint8  // the server's, by its number in RFC 8446; 0 is none
	Says  string // in words
	// AskedClient says that the server had asked for a certificate of the client, and got none.
	AskedClient bool
}

// What went wrong.
const (
	stageNobody  = "refused connection" // nobody listens
	stageTimeout = "timeout"
	stageClosed  = "closed"
	stageAlert   = "alert"   // the server says what it does not like
	stageRefused = "refused" // this side does not like what the server says
	stageNotTLS  = "not TLS"
)

// alertNames are those of RFC 8446, section 6, and of earlier versions.
var alertNames = map[uint8]string{
	10: "unexpected_message", 20: "bad_record_mac", 21: "decryption_failed", 22: "record_overflow", 30: "decompression_failure", 40: "handshake_failure",
	41: "no_certificate", 42: "bad_certificate", 43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired", 46: "certificate_unknown",
	47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error", 51: "decrypt_error", 60: "export_restriction", 70: "protocol_version",
	71: "insufficient_security", 80: "internal_error", 86: "inappropriate_fallback", 90: "user_canceled", 100: "no_renegotiation", 109: "missing_extension",
	110: "unsupported_extension", 112: "unrecognized_name", 113: "bad_certificate_status_response", 115: "unknown_psk_identity", 116: "certificate_required",
	120: "no_application_protocol", 121: "ech_required",
}

// alertWords say what a server means by an alert.
var alertWords = map[uint8]string{
	40:  "it has no version, cipher suite or key exchange in common with the client, or wants a certificate of the client",
	42:  "it does not like the client's certificate, or that there is none",
	47:  "it finds a field of the client's hello out of range",
	48:  "it does not know who signed the client's certificate",
	49:  "it does not let this client in",
	70:  "it does not speak this version of TLS",
	71:  "it wants stronger ciphers than the client offers",
	80:  "it failed for a reason of its own: see its log; some answer so to a name that they do not serve",
	86:  "it speaks a higher version than the one offered",
	109: "it misses a field, such as the name of the host (SNI)",
	112: "it does not serve this name",
	116: "it wants a certificate of the client, and there is none",
	120: "it speaks none of the protocols that were offered (ALPN)",
}

func alertText(n uint8) string {
	name := alertNames[n]
	if name == "" {
		name = fmt.Sprintf("number %d", n)
	}
	if words := alertWords[n]; words != "" {
		return name + ": " + words
	}
	return name
}

// alertOf is the number of the alert that the peer sent, 0 if the error is none.
func alertOf(err error) uint8 {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return 0
	}
	// The type is crypto/tls's own, a number.
	if v := reflect.ValueOf(op.Err); v.Kind() == reflect.Uint8 {
		return uint8(v.Uint())
	}
	return 0
}

// failureOf puts an error of a dial or a handshake into words.
func failureOf(err error) *HandshakeFailure {
	var ne net.Error
	var record tls.RecordHeaderError
	if n := alertOf(err); n != 0 {
		return &HandshakeFailure{Stage: stageAlert, Alert: n, Says: "the server answers with the alert " + alertText(n)}
	}
	switch {
	case errors.As(err, &record):
		return &HandshakeFailure{Stage: stageNotTLS, Says: notTLS(record.RecordHeader[:])}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &HandshakeFailure{Stage: stageNobody, Says: "nobody listens"}
	case errors.As(err, &ne) && ne.Timeout():
		return &HandshakeFailure{Stage: stageTimeout, Says: "the server takes the connection and does not answer the first message in time: it waits for something else (another protocol?), or is stuck"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &HandshakeFailure{Stage: stageClosed, Says: "the server closes the connection without a word: it may speak another protocol, not like the name or the version, or be a balancer with nobody behind it"}
	}
	return &HandshakeFailure{Stage: stageRefused, Says: "what the server says is not accepted: " + strings.TrimPrefix(err.Error(), "tls: ")}
}

// notTLS says what a server speaks by the first bytes of its answer.
func notTLS(b []byte) string {
	for _, p := range []struct{ prefix, what string }{
		{"HTTP/", "plain HTTP: ask it by http:// or ws://, or give it a certificate"},
		{"SSH-", "SSH"},
		{"220", "SMTP or FTP in plain text: it may want STARTTLS first"},
		{"* OK", "IMAP in plain text: it may want STARTTLS first"},
		{"+OK", "POP3 in plain text: it may want STLS first"},
		{"-ERR", "Redis without TLS"},
		{"RFB ", "VNC"},
		{"<", "text with markup: an HTTP server that answers errors without a status line, or XML"},
	} {
		if bytes.HasPrefix(b, []byte(p.prefix)) {
			return "what answers is no TLS at all but " + p.what
		}
	}
	return fmt.Sprintf("what answers is no TLS at all: it begins with %q", b)
}
