package longwire

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/longwire/longwire/internal/waittest"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// childVariable makes this binary a gateway with few descriptors instead of a test.
const childVariable = "LONGWIRE_TEST_CHILD"

// child serves echoes in one shared table, and does what its standard input says: it wastes descriptors and
// frees them, and reports. It is a process of its own because its parent is the client, and keeps its descriptors.
func child() int {
	g, err := New(Config{
		Addr: "127.0.0.1:0", Loops: 1, Tables: TablesShared, MaxConns: 100, MaxMemory: -1,
		Endpoints: []Endpoint{echo("/echo")}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err == nil {
		err = g.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(g.Addr())
	var wasted []*os.File
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "waste":
			for {
				f, err := os.Open(os.DevNull)
				if err != nil {
					break
				}
				wasted = append(wasted, f)
			}
			fmt.Println(len(wasted))
		case "free":
			for _, f := range wasted {
				_ = f.Close()
			}
			wasted = nil
			fmt.Println("freed")
		case "stats":
			s := g.Stats()
			iterations := uint64(0)
			for _, n := range s.Iterations {
				iterations += n
			}
			fmt.Println(s.Conns, s.Shed, iterations)
		}
	}
	if err := g.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Without descriptors a gateway pauses accepting and says so: it does not spin, those who are connected notice
// nothing, and who waits is served when there are descriptors again.
func TestDescriptorsExhausted(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell to lower the limit of descriptors with")
	}
	cmd := exec.Command(shell, "-c", `ulimit -n 1500 && exec "$0"`, exe)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	log := new(waittest.Log)
	cmd.Stderr = log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewScanner(stdout)
	line := func() string {
		t.Helper()
		if !out.Scan() {
			t.Fatalf("the gateway's process ended: %v\n%s", out.Err(), log)
		}
		return out.Text()
	}
	ask := func(what string) string {
		t.Helper()
		if _, err := io.WriteString(stdin, what+"\n"); err != nil {
			t.Fatal(err)
		}
		return line()
	}
	stats := func() (conns, shed, iterations int) {
		t.Helper()
		if _, err := fmt.Sscan(ask("stats"), &conns, &shed, &iterations); err != nil {
			t.Fatal(err)
		}
		return conns, shed, iterations
	}
	addr := line()
	a := wstest.Dial(t, addr, "/echo", ws.Dial{})
	a.Echoes()
	if n, err := strconv.Atoi(ask("waste")); err != nil || n < 100 {
		t.Fatalf("%d descriptors could be wasted, %v", n, err)
	}
	var waiting []*wstest.Client
	for range 10 {
		c := dialTCP(t, addr, requestFor("/echo", ws.Dial{}))
		waiting = append(waiting, wstest.On(t, c))
	}
	log.Want(t, "accepting pauses", "too many open files")
	_, shed, iterations := stats()
	const echoes = 200
	for range echoes {
		a.Echoes()
	}
	// It tries again every half second, and each try may find several listeners' worth of trouble.
	waittest.Until(t, "another try to accept", func() bool { _, n, _ := stats(); return n > shed })
	conns, shed2, iterations2 := stats()
	if conns != 1 {
		t.Errorf("%d conns, want 1", conns)
	}
	if shed2-shed > 20 {
		t.Errorf("%d tries to accept", shed2-shed)
	}
	if n := iterations2 - iterations; n > 2*echoes+200 {
		t.Errorf("%d iterations of the loop for %d echoes: it spins", n, echoes)
	}
	if got := ask("free"); got != "freed" {
		t.Fatal(got)
	}
	for _, c := range waiting {
		c.Handshake(ws.Dial{})
		c.Echoes()
	}
	a.Echoes()
	if n := strings.Count(log.String(), "accepting pauses"); n > shed2+5 {
		t.Errorf("%d log lines", n)
	}
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the gateway's process: %v\n%s", err, log)
	}
}
