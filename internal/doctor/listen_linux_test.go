package doctor

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

var childDoes = flag.String("child", "", "what TestChild does for other tests: serve=ADDR or look=PID")

// TestChild is what other tests run as a process of its own.
func TestChild(t *testing.T) {
	switch verb, what, _ := strings.Cut(*childDoes, "="); verb {
	case "serve": // pprof at an address, which it prints, until its input ends
		ln, err := net.Listen("tcp", what)
		if err != nil {
			fmt.Println("error", err)
			return
		}
		mux := http.NewServeMux()
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		s := &http.Server{Handler: mux}
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(ln) }()
		fmt.Println(ln.Addr())
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = s.Close()
		<-ended
	case "look": // at a process, and print what came of it
		e, err := (&Collector{Root: os.DirFS("/"), For: time.Second, NoTrace: true, Say: func(s string) { fmt.Println("said:", s) }}).Collect(t.Context(), what)
		var de *Error
		if errors.As(err, &de) {
			fmt.Println("error:", err, "hint:", de.Hint)
		} else if err != nil {
			fmt.Println("error:", err)
		} else {
			fmt.Println("heap profiles:", len(e.Heap), "descriptors:", len(e.Process) > 0 && e.Process[0].Descriptors != nil)
			fmt.Println(strings.Join(e.Notes, "\n"))
		}
	default:
		t.Skip("other tests run it")
	}
}

// child is this test's program once more, as somebody else where nobody is true.
func child(does string, nobody bool) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestChild$", "-child="+does) // not by its name: its directory may be closed to others
	if nobody {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	return cmd
}

// serving starts a program that serves pprof, in a network namespace or here where that is nil.
func serving(t *testing.T, n *sys.Network, addr string, nobody bool) (pid int, at netip.AddrPort) {
	t.Helper()
	cmd := child("serve="+addr, nobody)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	begin := cmd.Start
	if n != nil {
		begin = func() error { return n.Do(cmd.Start) }
	}
	if err := begin(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // its end is all that is wanted
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if at, err = netip.ParseAddrPort(strings.TrimSpace(line)); err != nil {
		t.Skipf("it cannot listen on %s here: %s", addr, line)
	}
	return cmd.Process.Pid, at
}

// another serves pprof on a port of 127.0.0.1 in this process, and counts who asks; nil where the port is taken.
func another(t *testing.T, port uint16) (asked *atomic.Int64, at netip.AddrPort) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(int(port)))
	if err != nil {
		t.Log(err)
		return nil, at
	}
	asked = new(atomic.Int64)
	s := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		pprof.Index(w, r)
	})}}
	s.Start()
	t.Cleanup(s.Close)
	return asked, ln.Addr().(*net.TCPAddr).AddrPort()
}

// TestContainer looks at a program in a network namespace of its own, as in a container, and at another that has the same port here.
func TestContainer(t *testing.T) {
	n, err := sys.NewNetwork()
	if err != nil {
		t.Skipf("a network namespace takes root: %v", err)
	}
	defer func() { _ = n.Close() }()
	asked, at := another(t, 0)
	if asked == nil {
		t.FailNow()
	}
	pid, inside := serving(t, n, at.String(), true)
	if inside != at {
		t.Fatalf("it listens on %s, want %s", inside, at)
	}
	e, err := (&Collector{Root: os.DirFS("/"), For: time.Second, NoTrace: true}).Collect(t.Context(), strconv.Itoa(pid))
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Heap) == 0 || len(e.Process) == 0 || asked.Load() > 0 {
		t.Errorf("%d heap profiles, %d samples; the other program on that port was asked %d times, want it left alone; notes %q", len(e.Heap), len(e.Process), asked.Load(), e.Notes)
	}

	// Who may not enter is told what to do, and gets what /proc has.
	out, err := child("look="+strconv.Itoa(pid), true).CombinedOutput()
	for _, want := range []string{"said: process " + strconv.Itoa(pid) + " is in a network namespace of its own", "Run the doctor as root, or inside (nsenter -t ", "heap profiles: 0 descriptors: true"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("nobody's look (%v) has no %q:\n%s", err, want, out)
		}
	}
	if strings.Contains(string(out), "no port of the process serves") || asked.Load() > 0 {
		t.Errorf("it was not asked, and that is what is to be said; the other was asked %d times:\n%s", asked.Load(), out)
	}
}

// TestListensElsewhere looks at programs that do not listen on 127.0.0.1, of which one shares its port with another program that does.
func TestListensElsewhere(t *testing.T) {
	for _, addr := range []string{"127.0.0.2:0", "[::1]:0", "[::]:0"} {
		t.Run(addr, func(t *testing.T) {
			t.Parallel()
			pid, at := serving(t, nil, addr, false)
			asked := new(atomic.Int64)
			if !at.Addr().IsUnspecified() {
				asked, _ = another(t, at.Port())
				for range 9 { // a client's connection may have it
					if asked != nil {
						break
					}
					pid, at = serving(t, nil, addr, false)
					asked, _ = another(t, at.Port())
				}
			}
			if asked == nil {
				t.Fatal("there is no free port")
			}
			e, err := (&Collector{Root: os.DirFS("/"), For: time.Second, NoTrace: true}).Collect(t.Context(), strconv.Itoa(pid))
			if err != nil {
				t.Fatal(err)
			}
			if len(e.Heap) == 0 || asked.Load() > 0 {
				t.Errorf("%d heap profiles of the program at %s; the other was asked %d times; notes %q", len(e.Heap), at, asked.Load(), e.Notes)
			}
			// By its URL the process is found that serves that address, and not the other on the port.
			if u, err := parseTarget(at.String()); err != nil || !at.Addr().IsUnspecified() && (&Collector{Root: os.DirFS("/")}).owner(u) != pid {
				t.Errorf("the owner of %s is not process %d (%v)", at, pid, err)
			}
		})
	}
}

// TestOtherUser looks at a process of root's as nobody.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becoming somebody else takes root")
	}
	pid := strconv.Itoa(os.Getpid())
	out, err := child("look="+pid, true).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"error: process " + pid + " may not be looked into: it is user 0's, and the doctor runs as user 65534", "hint: run the doctor as that user or as root", "give the URL of its /debug/pprof"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q:\n%s", want, out)
		}
	}
}

// TestAnswering has several listeners on a port.
func TestAnswering(t *testing.T) {
	var all []sys.Listener
	for i, a := range []string{"127.0.0.1:80", "0.0.0.0:80", "[::]:80", "[::1]:80", "[::]:81", "10.0.0.1:82", "127.0.0.1:83", "127.0.0.1:83"} {
		all = append(all, sys.Listener{Addr: netip.MustParseAddrPort(a), Inode: uint32(i)})
	}
	for at, want := range map[string][]uint32{
		"127.0.0.1:80": {0}, "127.0.0.2:80": {1}, "[::1]:80": {3}, "[::2]:80": {2}, "127.0.0.1:81": {4}, "[::1]:81": {4}, "127.0.0.1:82": nil, "127.0.0.1:83": {6, 7},
	} {
		var got []uint32
		for _, l := range answering(all, netip.MustParseAddrPort(at)) {
			got = append(got, l.Inode)
		}
		if !slices.Equal(got, want) {
			t.Errorf("at %s: %v, want %v", at, got, want)
		}
	}

	// Two processes share a port, and a third has one by itself: who would answer must be the one that is meant.
	root := fstest.MapFS{}
	for name, target := range map[string]string{"7/fd/3": "socket:[6]", "8/fd/3": "socket:[7]", "9/fd/3": "socket:[4]"} {
		root["proc/"+name] = &fstest.MapFile{Data: []byte(target), Mode: 0o777 | fs.ModeSymlink}
	}
	c := &Collector{Root: root}
	for pid, own := range map[int]uint32{7: 6, 8: 7, 9: 4} {
		at := netip.MustParseAddrPort("127.0.0.1:83")
		if pid == 9 {
			at = netip.MustParseAddrPort("127.0.0.1:81")
		}
		if got, want := c.answers(pid, all, map[uint32]bool{own: true}, at), pid == 9; got != want {
			t.Errorf("process %d answers at %s: %t, want %t", pid, at, got, want)
		}
	}
	for text, want := range map[string]string{
		"0100007F:1F90": "127.0.0.1:8080", "00000000:0050": "0.0.0.0:80", "00000000000000000000000001000000:0050": "[::1]:80", "0000000000000000FFFF00000100007F:0050": "127.0.0.1:80", "0100:50": "", "x": "", "0100007F": "",
	} {
		if at, ok := parseSocketAddr(text); ok != (want != "") || ok && at.String() != want {
			t.Errorf("%s is %v, %v; want %s", text, at, ok, want)
		}
	}
}
