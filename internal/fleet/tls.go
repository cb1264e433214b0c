package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// dialTLS makes connections that have the TLS handshake behind them.
func dialTLS(c *tls.Config, timeout time.Duration) func(ctx context.Context, from, to netip.AddrPort) (net.Conn, error) {
	return func(ctx context.Context, from, to netip.AddrPort) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		d := net.Dialer{KeepAlive: -1}
		if from.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(from)
		}
		raw, err := d.DialContext(ctx, "tcp", to.String())
		if err != nil {
			return nil, err
		}
		conn := tls.Client(raw, c)
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, &handshakeError{err}
		}
		return conn, nil
	}
}

// handshakeError is how a TLS handshake failed.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "tls handshake: " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// reason is a short stable word for it.
func (e *handshakeError) reason() string {
	var header tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var alert tls.AlertError
	var op *net.OpError
	switch {
	case errors.As(e.err, &header):
		return "tls_no_tls"
	case errors.As(e.err, &authority):
		return "tls_unknown_authority"
	case errors.As(e.err, &host):
		return "tls_wrong_name"
	case errors.As(e.err, &invalid) && invalid.Reason == x509.Expired:
		return "tls_certificate_expired"
	case errors.As(e.err, &verify), errors.As(e.err, &invalid):
		return "tls_certificate"
	case errors.As(e.err, &alert), errors.As(e.err, &op) && strings.HasPrefix(op.Op, "remote error"):
		return "tls_alert"
	case errors.Is(e.err, context.DeadlineExceeded):
		return "tls_timeout"
	case errors.Is(e.err, io.EOF), errors.Is(e.err, io.ErrUnexpectedEOF):
		return "tls_closed"
	}
	return "tls_failed"
}
