package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/longwire/longwire/internal/config"
	"github.com/longwire/longwire/ws"
)

var update = flag.Bool("update", false, "write what cmp finds different into the scripts")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"longwire": func() { os.Exit(Main(context.Background(), OS())) },
	})
}

// TestScript runs testdata/script: each file is a part of the manual that is kept true. Beside testscript's own
// commands there are:
//
//	exits CODE ARGS…    run longwire, expect the exit code
//	start ARGS…         run longwire serve on a free port until it listens; $ADDR is where, $ADMIN the admin listener,
//	                    $NOFILE its limit of open files
//	logged REGEXP       wait until the server's log has a line that matches
//	get PATH [HEADER]   print the status and body of a request to the server
//	metric SERIES VALUE scrape until the series has the value
//	connect PATH [ORIGIN]  open a WebSocket connection, print the response's head, keep it if it is 101
//	say TEXT            send a text message on it and print the reply
//	farewell CODE       read a close frame with the code, answer it, end the connection
//	hangup              end the connection without a close frame
//	signal NAME         send TERM, INT or KILL to the server
//	stopped CODE        wait for the server's end, expect its exit code, print its log
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("COLUMNS", "100")
			e.Values["script"] = new(script)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "start": start, "logged": logged, "get": get, "post": post, "metric": metric, "connect": connect, "say": say, "hear": hear,
			"farewell": farewell, "hangup": hangup, "signal": signalServer, "stopped": stopped,
		},
	})
}

// patience is how long a script waits for what has to come.
const patience = 30 * time.Second

// script is what one script has running.
type script struct {
	server *exec.Cmd
	log    serverLog
	ended  chan error
	conn   net.Conn
	r      *bufio.Reader
}

func of(ts *testscript.TestScript) *script { return ts.Value("script").(*script) }

// serverLog keeps what the server wrote, and wakes who waits for a line.
type serverLog struct {
	mu    sync.Mutex
	text  bytes.Buffer  // guarded by mu
	grown chan struct{} // guarded by mu; closed when text grows
}

func (l *serverLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown != nil {
		close(l.grown)
		l.grown = nil
	}
	return l.text.Write(b)
}

// clear forgets what an earlier server wrote.
func (l *serverLog) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Reset()
}

func (l *serverLog) read() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown == nil {
		l.grown = make(chan struct{})
	}
	return l.text.String(), l.grown
}

// wait returns the first match in the log.
func (s *script) wait(ts *testscript.TestScript, re *regexp.Regexp) []string {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		text, grown := s.log.read()
		if m := re.FindStringSubmatch(text); m != nil {
			return m
		}
		select {
		case <-grown:
		case err := <-s.ended:
			s.ended <- err
			text, _ := s.log.read()
			if m := re.FindStringSubmatch(text); m != nil {
				return m
			}
			ts.Fatalf("the server ended (%v) and logged nothing like %v:\n%s", err, re, text)
		case <-late.C:
			ts.Fatalf("the server logged nothing like %v:\n%s", re, text)
		}
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits CODE ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec("longwire", args[1:]...); err != nil {
		var ee *exec.ExitError
		if !errors.As(err, &ee) {
			ts.Fatalf("longwire: %v", err)
		}
		got = ee.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	s.server = exec.Command("longwire", append([]string{"serve", "--addr", "127.0.0.1:0"}, args...)...)
	path, err := lookPath("longwire", ts.Getenv("PATH"))
	ts.Check(err)
	s.server.Path, s.server.Err = path, nil
	if limit := ts.Getenv("NOFILE"); limit != "" {
		s.server = exec.Command("sh", append([]string{"-c", "ulimit -n " + limit + ` && exec "$@"`}, s.server.Args...)...)
		s.server.Args = slices.Insert(s.server.Args, 3, "sh")
	}
	s.server.Dir = ts.MkAbs(".")
	s.server.Env = []string{"PATH=" + ts.Getenv("PATH"), "TMPDIR=" + ts.Getenv("TMPDIR")}
	for _, name := range envNames() {
		if v := ts.Getenv(name); v != "" {
			s.server.Env = append(s.server.Env, name+"="+v)
		}
	}
	s.log.clear()
	s.server.Stderr = &s.log
	s.ended = make(chan error, 1)
	ts.Check(s.server.Start())
	go func() { s.ended <- s.server.Wait() }()
	ts.Defer(func() {
		_ = s.server.Process.Kill()
		s.ended <- <-s.ended
	})
	ts.Setenv("ADDR", s.wait(ts, regexp.MustCompile(`msg"?[=:]"?listening"?[ ,]"?addr"?[=:]"?([0-9.:]+)`))[1])
	text, _ := s.log.read()
	if m := adminAddr.FindStringSubmatch(text); m != nil {
		ts.Setenv("ADMIN", m[1])
	}
}

var adminAddr = regexp.MustCompile(`msg"?[=:]"?admin"?[ ,]"?addr"?[=:]"?([0-9.:]+)`)

func lookPath(name, path string) (string, error) {
	for _, dir := range strings.Split(path, string(os.PathListSeparator)) {
		file := dir + string(os.PathSeparator) + name
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s is not in %s", name, path)
}

func envNames() []string {
	names := []string{config.EnvConfig, "LONGWIRE_TYPO"}
	for _, o := range config.Options() {
		names = append(names, config.EnvName(o.Name))
	}
	return names
}

func logged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: logged REGEXP")
	}
	of(ts).wait(ts, regexp.MustCompile(args[0]))
}

func get(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: get PATH [HEADER]")
	}
	fmt.Fprint(ts.Stdout(), fetch(ts, args[0], args[1:]...))
}

func fetch(ts *testscript.TestScript, path string, header ...string) string {
	r, err := http.NewRequest(http.MethodGet, "http://"+ts.Getenv("ADDR")+path, nil)
	ts.Check(err)
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	return exchange(ts, r)
}

// exchange is the answer to a request: status and body, a line each.
func exchange(ts *testscript.TestScript, r *http.Request) string {
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(r)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	return resp.Status + "\n" + string(body)
}

func post(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: post PATH BODY [HEADER]")
	}
	r, err := http.NewRequest(http.MethodPost, "http://"+ts.Getenv("ADDR")+args[0], strings.NewReader(args[1]))
	ts.Check(err)
	if len(args) == 3 {
		name, value, _ := strings.Cut(args[2], ": ")
		r.Header.Set(name, value)
	}
	fmt.Fprint(ts.Stdout(), exchange(ts, r))
}

func metric(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: metric SERIES VALUE")
	}
	late := time.Now().Add(patience)
	for {
		text := fetch(ts, "/metrics")
		if strings.Contains(text, "\n"+args[0]+" "+args[1]+"\n") {
			return
		}
		if time.Now().After(late) {
			ts.Fatalf("%s is never %s:\n%s", args[0], args[1], text)
		}
	}
}

func connect(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: connect PATH [ORIGIN]")
	}
	s := of(ts)
	c, err := net.Dial("tcp", ts.Getenv("ADDR"))
	ts.Check(err)
	ts.Defer(func() { _ = c.Close() })
	ts.Check(c.SetDeadline(time.Now().Add(patience)))
	d := ws.Dial{Host: ts.Getenv("ADDR"), Target: args[0]}
	if len(args) == 2 {
		d.Origin = args[1]
	}
	_, err = c.Write(ws.AppendRequest(nil, &d, [16]byte{}))
	ts.Check(err)
	s.conn, s.r = c, bufio.NewReader(c)
	upgraded := false
	for {
		line, err := s.r.ReadString('\n')
		ts.Check(err)
		if line == "\r\n" {
			break
		}
		upgraded = upgraded || strings.HasPrefix(line, "HTTP/1.1 101 ")
		fmt.Fprint(ts.Stdout(), strings.TrimSuffix(line, "\r\n")+"\n")
	}
	if !upgraded {
		ts.Check(c.Close())
	}
}

// frame reads one short frame of the server.
func (s *script) frame(ts *testscript.TestScript) (op ws.Opcode, payload []byte) {
	var head [2]byte
	_, err := io.ReadFull(s.r, head[:])
	ts.Check(err)
	if head[1] > 125 {
		ts.Fatalf("a frame with the length byte %d: want a short one", head[1])
	}
	payload = make([]byte, head[1])
	_, err = io.ReadFull(s.r, payload)
	ts.Check(err)
	return ws.Opcode(head[0] & 0x0f), payload
}

func say(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: say TEXT")
	}
	s := of(ts)
	_, err := s.conn.Write(ws.AppendFrame(nil, ws.Client, ws.OpText, []byte(args[0]), [4]byte{1, 2, 3, 4}))
	ts.Check(err)
	_, payload := s.frame(ts)
	fmt.Fprintf(ts.Stdout(), "%s\n", payload)
}

func hear(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: hear")
	}
	_, payload := of(ts).frame(ts)
	fmt.Fprintf(ts.Stdout(), "%s\n", payload)
}

func farewell(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: farewell CODE")
	}
	s := of(ts)
	op, payload := s.frame(ts)
	if op != ws.OpClose || len(payload) < 2 {
		ts.Fatalf("frame %v %q, want a close frame", op, payload)
	}
	if got := strconv.Itoa(int(payload[0])<<8 | int(payload[1])); got != args[0] {
		ts.Fatalf("close code %s, want %s", got, args[0])
	}
	_, err := s.conn.Write(ws.AppendFrame(nil, ws.Client, ws.OpClose, payload[:2], [4]byte{1, 2, 3, 4}))
	ts.Check(err)
	ts.Check(s.conn.Close())
}

func hangup(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: hangup")
	}
	ts.Check(of(ts).conn.Close())
}

func signalServer(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": os.Interrupt, "KILL": os.Kill}
	if neg || len(args) != 1 || signals[args[0]] == nil {
		ts.Fatalf("usage: signal TERM|INT|KILL")
	}
	ts.Check(of(ts).server.Process.Signal(signals[args[0]]))
}

func stopped(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: stopped CODE")
	}
	s := of(ts)
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case err := <-s.ended:
		s.ended <- err
	case <-late.C:
		text, _ := s.log.read()
		ts.Fatalf("the server does not end:\n%s", text)
	}
	text, _ := s.log.read()
	fmt.Fprint(ts.Stderr(), text)
	if got := strconv.Itoa(s.server.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit code %s, want %s:\n%s", got, args[0], text)
	}
}
