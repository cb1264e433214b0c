package cli

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"os"
	"strings"
	"sync"
	"testing"
)

// doctorSays runs longwire doctor.
func doctorSays(ctx context.Context, stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	var out, info bytes.Buffer
	code = Main(ctx, Process{Args: append([]string{"doctor"}, args...), Stdin: stdin, Stdout: &out, Stderr: &info})
	return code, out.String(), info.String()
}

// TestDoctorMetrics has the figures of a pool at another port than the profiles.
func TestDoctorMetrics(t *testing.T) {
	profiles := httptest.NewServer(http.HandlerFunc(pprof.Index))
	defer profiles.Close()
	figures := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"db": {"MaxOpenConnections": 10, "OpenConnections": 2, "InUse": 1, "Idle": 1, "WaitCount": 0, "WaitDuration": 0}}`)
	}))
	defer figures.Close()
	args := []string{profiles.URL, "--for", "1s", "--no-trace", "--no-gc", "--source", t.TempDir()} // to read this program's own source takes long
	for _, c := range []struct {
		args []string
		want string
	}{
		{args, "not asked: database pool: no figures"},
		{append(args, "--metrics", figures.URL+"/debug/vars"), ", database pool\n"},
	} {
		if _, out, info := doctorSays(t.Context(), nil, c.args...); !strings.Contains(out, c.want) {
			t.Errorf("doctor %q: no %q in\n%s%s", c.args, c.want, out, info)
		}
	}
}

// interrupt is standard error that has somebody press Ctrl-C once the doctor has said something.
type interrupt struct{ press func() }

func (i interrupt) Write(b []byte) (int, error) {
	i.press()
	return len(b), nil
}

// TestDoctorInterrupted ends a look while its log, a pipe, stays open.
func TestDoctorInterrupted(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(pprof.Index))
	defer s.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = r.Close()
		_ = w.Close()
	}()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out bytes.Buffer
	if code := Main(ctx, Process{Args: []string{"doctor", s.URL, "--for", "1h", "--gctrace", "-"}, Stdin: r, Stdout: &out, Stderr: interrupt{cancel}}); code != exitFailed || out.Len() > 0 {
		t.Errorf("exit code %d, %q", code, &out)
	}
}

// TestDoctorTLSFlags asks a server for another name than its host, and gives up on one that says nothing.
func TestDoctorTLSFlags(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler()) // for 127.0.0.1 and example.com
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	for name, found := range map[string]bool{"example.com": false, "other.example": true} {
		code, out, info := doctorSays(t.Context(), nil, "tls", s.Listener.Addr().String(), "--name", name)
		if code != exitThreshold || strings.Contains(out, "the certificate is not for other.example") != found {
			t.Errorf("--name %s: exit code %d\n%s%s", name, code, out, info)
		}
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = ln.Close() }()
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			})
		}
	})
	code, out, info := doctorSays(t.Context(), nil, "tls", ln.Addr().String(), "--timeout", "100ms")
	if code != exitThreshold || !strings.Contains(out, "does not answer the first message in time") {
		t.Errorf("--timeout: exit code %d\n%s%s", code, out, info)
	}
	if code, _, info := doctorSays(t.Context(), nil, "tls", ln.Addr().String(), "--timeout", "soon"); code != exitUsage || !strings.Contains(info, "--timeout") {
		t.Errorf("--timeout soon: exit code %d, %s", code, info)
	}
}
