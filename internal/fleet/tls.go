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
	"sync/atomic"
	"syscall"
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
		tcp, err := d.DialContext(ctx, "tcp", to.String())
		if err != nil {
			return nil, err
		}
		raw := &below{TCPConn: tcp.(*net.TCPConn)}
		conn := tls.Client(raw, c)
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, &handshakeError{err}
		}
		return &secured{Conn: conn, raw: raw}, nil
	}
}

// secured is a connection over TLS that ends as one over TCP does: without waiting, and with a reset where one is wanted.
type secured struct {
	*tls.Conn
	raw   *below
	reset atomic.Bool
}

// SetLinger is TCPConn's, for 0: Close resets the connection.
func (s *secured) SetLinger(sec int) error {
	s.reset.Store(sec == 0)
	return s.raw.SetLinger(sec)
}

// Close tells the peer that this is the end, if that can be said at once.
func (s *secured) Close() error {
	if s.reset.Load() {
		return s.raw.Close()
	}
	s.raw.closing.Store(true)
	return s.Conn.Close()
}

// below is what TLS runs over.
type below struct {
	*net.TCPConn
	closing atomic.Bool
}

// SetWriteDeadline bounds what Close waits for a peer that does not read, for which TLS takes 5 s: it is called with a lock.
func (b *below) SetWriteDeadline(t time.Time) error {
	if b.closing.Load() {
		t = time.Now().Add(10 * time.Millisecond)
	}
	return b.TCPConn.SetWriteDeadline(t)
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
	case isAlert(e.err):
		return "tls_alert"
	case errors.Is(e.err, context.DeadlineExceeded):
		return "tls_timeout"
	case errors.Is(e.err, io.EOF), errors.Is(e.err, io.ErrUnexpectedEOF):
		return "tls_closed"
	case errors.Is(e.err, syscall.ECONNRESET), errors.Is(e.err, syscall.EPIPE):
		return "tls_reset"
	}
	return "tls_failed"
}

// isAlert tells whether an error is an alert of the peer's. With TLS 1.3 it may come when the handshake is through.
func isAlert(err error) bool {
	var alert tls.AlertError
	var op *net.OpError
	return errors.As(err, &alert) || errors.As(err, &op) && strings.HasPrefix(op.Op, "remote error")
}
