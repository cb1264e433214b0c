package cli

import (
	"encoding/pem"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/stress"
	"github.com/longwire/longwire/internal/token/tokentest"
)

// TestStressCertificates has --ca and --insecure decide over a server's certificate, and the server see --header and --origin.
func TestStressCertificates(t *testing.T) {
	seen := make(chan http.Header, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" { // and not where its metrics could be
			select {
			case seen <- r.Header.Clone():
			default:
			}
		}
		_, _ = io.WriteString(w, "here")
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are refused, as they should be
	srv.StartTLS()
	defer srv.Close()
	dir := t.TempDir()
	ca, none := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "none.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(none, []byte("none\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	load := []string{"--target", srv.URL + "/", "--max-conns", "2", "--duration", "200ms", "--timeout", "20s", "--json", "--quiet", "--header", "X-Key: a, b:c", "--header", "X-More:d", "--origin", "https://example.com"}
	for _, good := range [][]string{{"--ca", ca}, {"--insecure"}} {
		code, out, told := stressed(t, append(load, good...)...)
		r, err := stress.ReadReport(strings.NewReader(out))
		if code != exitFine || err != nil || r.Scenarios[0].Done == 0 || len(r.Errors) > 0 {
			t.Fatalf("%s: exit code %d, %v\n%s%s", good, code, err, out, told)
		}
		if h := <-seen; h.Get("X-Key") != "a, b:c" || h.Get("X-More") != "d" || h.Get("Origin") != "https://example.com" {
			t.Errorf("%s: the server saw %v", good, h)
		}
	}
	code, out, told := stressed(t, load...)
	r, err := stress.ReadReport(strings.NewReader(out))
	if code != exitFailed || err != nil || r.Conns.Opened != 0 || r.Errors["connect_tls_unknown_authority"] == 0 {
		t.Errorf("with a certificate of nobody's: exit code %d, %v\n%s%s", code, err, out, told)
	}
	for _, bad := range []string{none, filepath.Join(dir, "absent.pem")} {
		if code, _, told := stressed(t, append(load, "--ca", bad)...); code != exitUsage || !strings.Contains(told, "--ca") {
			t.Errorf("--ca %s: exit code %d, %s", bad, code, told)
		}
	}
	if code, _, told := stressed(t, append(load, "--header", "X-Key")...); code != exitUsage || !strings.Contains(told, "has no colon") {
		t.Errorf("a header without a colon: exit code %d, %s", code, told)
	}
}

// TestStressToken has --token let clients of the Centrifuge protocol in.
func TestStressToken(t *testing.T) {
	g, err := longwire.New(longwire.Config{
		Addr: "127.0.0.1:0", MaxConns: 100, Drain: -1, Log: slog.New(slog.DiscardHandler), Endpoints: []longwire.Endpoint{longwire.Centrifuge("/connection/websocket")},
		Tokens: longwire.TokenOptions{HMACSecret: []byte("secret")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	for _, c := range []struct {
		secret   string
		survived int64
	}{{"secret", 5}, {"other", 0}} {
		code, out, told := stressed(t, "--target", "ws://"+g.Addr().String()+"/connection/websocket", "--protocol", "centrifuge", "--token", tokentest.HS256(c.secret, `{"sub":"load"}`), "--max-conns", "5", "--duration", "200ms", "--timeout", "20s", "--json", "--quiet")
		r, err := stress.ReadReport(strings.NewReader(out))
		if code != exitFine || err != nil || r.Conns.Survived != c.survived || (r.Errors["lost_close_3500"] > 0) != (c.survived == 0) {
			t.Errorf("signed with %s: exit code %d, %v\n%s%s", c.secret, code, err, out, told)
		}
	}
}

// TestStressFind has --find search among conns up to --max-conns.
func TestStressFind(t *testing.T) {
	host := loaded(t)
	code, out, told := stressed(t, "--target", "ws://"+host+"/echo", "--find", "errors<1%", "--max-conns", "4", "--duration", "20ms", "--timeout", "20s", "--json", "--quiet")
	r, err := stress.ReadReport(strings.NewReader(out))
	if code != exitFine || err != nil || r.Breaking == nil || r.Breaking.Highest == nil || r.Breaking.Highest.Level != 4 || r.Breaking.Lowest != nil {
		t.Errorf("exit code %d, %v\n%s%s", code, err, out, told)
	}
	if code, _, told := stressed(t, "--target", "ws://"+host+"/echo", "--find", "errors<1%", "--threshold", "p99<1s"); code != exitUsage || !strings.Contains(told, "exclude each other") {
		t.Errorf("both lists: exit code %d, %s", code, told)
	}
}
