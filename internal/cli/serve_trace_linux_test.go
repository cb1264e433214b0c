package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/config"
	"github.com/longwire/longwire/internal/trace"
	"github.com/longwire/longwire/ws"
)

// TestServeTrace has the kernel's word on ends in the gateway's record, at each level, with loops in the process's descriptor
// table and in tables of their own.
func TestServeTrace(t *testing.T) {
	for _, level := range []trace.Level{trace.LevelBPF, trace.LevelDiag, trace.LevelErrno} {
		for _, tables := range []longwire.Tables{longwire.TablesShared, longwire.TablesPrivate} {
			t.Run(fmt.Sprint(level, " ", tables), func(t *testing.T) { serveTraced(t, level, tables) })
		}
	}
}

// says is how a sentence begins that rests on a level.
var says = map[trace.Level]string{trace.LevelBPF: "The kernel says: ", trace.LevelDiag: "The kernel's socket diagnosis says: ", trace.LevelErrno: "Our socket's last state says: "}

func serveTraced(t *testing.T, level trace.Level, tables longwire.Tables) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var made atomic.Pointer[longwire.Gateway]
	tr := newServeTraceUpTo(level, log, made.Load)
	if tr == nil {
		t.Fatal("there is no tracer")
	}
	defer tr.stop()
	if tr.Level() != level {
		t.Skipf("the kernel refuses the level: %v", tr.Refused())
	}
	e := longwire.Plain("/ws")
	e.WriteQueue = 64 << 10
	var lines bytes.Buffer // of log-sampling kernel-only; read when the gateway is closed
	g, err := longwire.New(longwire.Config{Addr: "127.0.0.1:0", MaxConns: 64, Loops: 1, Tables: tables, MaxMemory: -1, Log: slog.New(newHandler(&lines, &config.Serve{LogSampling: "kernel-only", LogFormat: "json"})),
		Journal: longwire.Journal{KernelOnly: true}, Endpoints: []longwire.Endpoint{e}, Tracer: tr.tracer()})
	if err != nil {
		t.Fatal(err)
	}
	made.Store(g)
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	closed := sync.OnceValue(g.Close)
	defer func() {
		if err := closed(); err != nil {
			t.Error(err)
		}
	}()
	verdicts := make(map[string]uint64)
	for _, c := range []struct {
		name string
		end  func(*net.TCPConn) error
		want string
		path string // its beginning, where probes see it
	}{
		{"a FIN", func(c *net.TCPConn) error { return c.Close() }, "client_fin", "SYN_RECV ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE"},
		{"an RST", func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() }, "client_reset", "SYN_RECV ESTABLISHED CLOSE"},
		{"our FIN", func(c *net.TCPConn) error {
			if _, err := c.Write(ws.AppendClose(nil, ws.Client, 1000, "", [4]byte{1, 2, 3, 4})); err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, c); err != nil {
				return err
			}
			return c.Close()
		}, "server_fin", "SYN_RECV ESTABLISHED FIN_WAIT1"},
		{"our RST", func(*net.TCPConn) error { // who does not read is cut off
			big := bytes.Repeat([]byte("x"), 1<<20)
			for range 64 {
				if err := g.Broadcast("/ws", ws.OpBinary, big); err != nil || g.Stats().Closes["slow_consumer"] > 0 {
					return err
				}
			}
			return nil
		}, "server_reset_aborted", "SYN_RECV ESTABLISHED CLOSE"},
		{"an administrator", func(c *net.TCPConn) error {
			out, err := exec.Command("ss", "-K", "sport", "=", strconv.Itoa(int(g.Addr().Port())), "dport", "=", strconv.Itoa(c.LocalAddr().(*net.TCPAddr).Port)).CombinedOutput()
			if err != nil {
				return fmt.Errorf("ss -K: %w: %s", err, out)
			}
			return nil
		}, "destroyed", "SYN_RECV ESTABLISHED CLOSE"},
	} {
		if _, err := exec.LookPath("ss"); err != nil && c.want == "destroyed" || os.Geteuid() != 0 && c.want == "destroyed" {
			t.Logf("%s: it takes ss and root", c.name)
			continue
		}
		conn := upgrade(t, g.Addr().String(), "/ws", "request "+c.name)
		defer func() { _ = conn.Close() }()
		if err := c.end(conn); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		verdicts[c.want]++
		var verdict trace.Verdict
		if err := verdict.UnmarshalText([]byte(c.want)); err != nil {
			t.Fatal(err)
		}
		want := says[level] + tr.Verdict(uint8(verdict))
		var why string
		var word *longwire.KernelWord
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
			spans, err := g.Why(longwire.Question{Request: "request " + c.name})
			if err != nil {
				t.Fatal(err)
			}
			if len(spans) == 1 && !spans[0].Open {
				if why, word = spans[0].Why, spans[0].Kernel; strings.Contains(why, want) {
					break
				}
			}
			time.Sleep(time.Millisecond) // between looks: the kernel tells on another thread
		}
		if !strings.Contains(why, want) {
			t.Errorf("%s: %q, want %q in it", c.name, why, want)
			continue
		}
		if path := strings.Join(word.Path, " "); word.Level != level.String() || word.Verdict != tr.Verdict(uint8(verdict)) || level == trace.LevelBPF && !strings.HasPrefix(path, c.path) || level != trace.LevelBPF && path != "" {
			t.Errorf("%s: the kernel's word %+v, want the level %s and the path %q", c.name, word, level, c.path)
		}
	}
	f := tr.figures()
	if f.Level != level.String() || f.Lost != 0 || len(f.Ends) != len(trace.Verdicts()) {
		t.Errorf("figures %+v", f)
	}
	for _, x := range f.Ends {
		if x.Count != verdicts[x.Verdict] {
			t.Errorf("%d ends by %s, want %d", x.Count, x.Verdict, verdicts[x.Verdict])
		}
	}
	if err := closed(); err != nil {
		t.Fatal(err)
	}
	// The log has a line of each end, with its verdict, and no other of single connections.
	told := make(map[string]uint64)
	for line := range bytes.Lines(lines.Bytes()) {
		var x struct{ Level, Msg, Client, Trace, Conn, Verdict, Addr, Cause string }
		if err := json.Unmarshal(line, &x); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		switch {
		case x.Msg == "kernel":
			told[x.Verdict]++
			if x.Level != "INFO" || x.Client == "" || x.Trace == "" || x.Conn == "" {
				t.Errorf("the line of an end is %s", line)
			}
		case x.Conn != "" || x.Addr != "" && x.Msg != "listening" || x.Cause != "":
			t.Errorf("a line of a connection is %s", line)
		}
	}
	want := make(map[string]uint64)
	for name, n := range verdicts {
		var v trace.Verdict
		if err := v.UnmarshalText([]byte(name)); err != nil {
			t.Fatal(err)
		}
		want[tr.Verdict(uint8(v))] += n
	}
	if !maps.Equal(told, want) {
		t.Errorf("the log's lines tell %v, want %v", told, want)
	}
}

// upgrade opens a WebSocket connection.
func upgrade(t *testing.T, addr, path, id string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	shake(t, conn, path, id)
	return conn.(*net.TCPConn)
}

// shake is a client's handshake.
func shake(t *testing.T, conn net.Conn, path, id string) {
	t.Helper()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Request-ID: %s\r\n\r\n", path, id)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%s: %v %v", id, resp, err)
	}
}

// TestServeDropsCapabilities starts the command, built without cgo as it is delivered, as root on a port below 1024, and
// has it serve, trace, record and drain without any capability.
func TestServeDropsCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to have capabilities takes root")
	}
	if testing.Short() {
		t.Skip("building the command takes its time")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "longwire")
	build := exec.Command("go", "build", "-o", program, "../../cmd/longwire")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	addr := ""
	for port := 1000; port > 900 && addr == ""; port-- {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			addr = l.Addr().String()
			_ = l.Close()
		}
	}
	if addr == "" {
		t.Skip("no port below 1024 is free")
	}
	records := filepath.Join(dir, "record")
	// serve starts it, and returns when it says what it did about its capabilities.
	serve := func() (cmd *exec.Cmd, lines *bufio.Scanner) {
		cmd = exec.Command(program, "serve", "--trace", "--insecure", "--api-insecure", "--addr", addr, "--max-conns", "1000", "--max-memory", "none", "--tables", "private",
			"--flight-dir", records, "--drain", "100ms")
		out, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		lines = bufio.NewScanner(out)
		said := ""
		for lines.Scan() {
			said += lines.Text() + "\n"
			switch {
			case strings.Contains(said, "a level of tracing is refused"):
				t.Skipf("the kernel refuses probes: %s", said)
			case strings.Contains(said, "capabilities are dropped"):
				return cmd, lines
			case strings.Contains(said, "keeps its capabilities"):
				t.Fatal(said)
			}
		}
		t.Fatalf("it ended: %s", said)
		return nil, nil
	}
	why := func(id, want string) {
		t.Helper()
		text := ""
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
			resp, err := http.Post("http://"+addr+"/api/why", "application/json", strings.NewReader(`{"request":"`+id+`"}`))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if text = string(b); strings.Contains(text, want) {
				return
			}
			time.Sleep(5 * time.Millisecond) // between looks at another process
		}
		t.Fatalf("why: %s, want %q in it", text, want)
	}
	cmd, lines := serve()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", cmd.Process.Pid))
	if err != nil || len(tasks) < 3 {
		t.Fatalf("threads %v, %v", tasks, err)
	}
	for _, f := range tasks {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that ended
		}
		for _, set := range []string{"CapEff", "CapPrm"} {
			if !strings.Contains(string(b), set+":\t0000000000000000\n") {
				t.Errorf("%s: a thread has capabilities: %s", f, b)
			}
		}
	}
	c := upgrade(t, addr, "/ws", "a request")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	why("a request", "The kernel says: the client's FIN came first.")
	left := upgrade(t, addr, "/ws", "one that is drained")
	defer func() { _ = left.Close() }()
	end := func(cmd *exec.Cmd, lines *bufio.Scanner) {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("drained: %v", err)
		}
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		// Our close frame answers the gateway's, and its FIN is awaited.
		if _, err := left.Read(make([]byte, 256)); err == nil {
			_, _ = left.Write(ws.AppendClose(nil, ws.Client, 1001, "", [4]byte{1, 2, 3, 4}))
			_, _ = io.Copy(io.Discard, left)
		}
		_ = left.Close()
	}()
	end(cmd, lines)
	<-drained
	// The next process knows of it.
	cmd, lines = serve()
	why("a request", "The kernel says: the client's FIN came first.")
	end(cmd, lines)
}
