package doctor

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startPostgres runs a PostgreSQL server of the test's own, on a socket in a directory of its own, and returns its address.
func startPostgres(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Skip("PostgreSQL is not installed (Debian: postgresql)")
	}
	slices.Sort(found)
	bin := filepath.Dir(found[len(found)-1])
	dir, err := os.MkdirTemp("", "pg") // short: the name of a socket may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	run := func(name string, args ...string) error {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir = dir
		if os.Getuid() == 0 { // it does not run as root
			u, err := user.Lookup("postgres")
			if err != nil {
				t.Skip("there is no user postgres for it:", err)
			}
			uid, _ := strconv.ParseUint(u.Uid, 10, 32)
			gid, _ := strconv.ParseUint(u.Gid, 10, 32)
			if err := os.Chown(dir, int(uid), int(gid)); err != nil {
				t.Fatal(err)
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.WaitDelay = time.Second // the server keeps what it inherits
		if err := cmd.Run(); err != nil && err != exec.ErrWaitDelay {
			t.Errorf("%s: %v\n%s", name, err, &out)
			return err
		}
		return nil
	}
	data := filepath.Join(dir, "data")
	if run("initdb", "-D", data, "-U", "tester", "-A", "trust", "--no-sync") != nil {
		t.FailNow()
	}
	if run("pg_ctl", "-D", data, "-w", "-l", filepath.Join(dir, "log"), "-o", "-k "+dir+" -c listen_addresses= -c fsync=off -c shared_buffers=16MB", "start") != nil {
		t.FailNow()
	}
	t.Cleanup(func() { _ = run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop") })
	return "host=" + dir + " user=tester dbname=postgres sslmode=disable"
}

// TestPostgres has services use pools on a real database, well and badly.
func TestPostgres(t *testing.T) {
	t.Parallel()
	source := startPostgres(t)
	exe := filepath.Join(t.TempDir(), "dbpool")
	buildModule(t, "testdata/dbpool", exe)
	text, err := os.ReadFile("testdata/dbpool/main.go")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for service, want := range map[string]string{
		"rows":    "taken and not given back: 8 in use",
		"acquire": "taken and not given back: 6 in use",
		"slow":    "longer than a statement may run (300ms)",
		"quick":   "",
	} {
		wg.Go(func() {
			r, err := examineService(t, exe, service, source)
			if err != nil {
				t.Errorf("%s: %v", service, err)
				return
			}
			var b bytes.Buffer
			_ = r.WriteText(&b)
			if want == "" {
				if r.Found() {
					t.Errorf("%s: is well\n%s", service, &b)
				}
				return
			}
			if !strings.Contains(b.String(), want) || !strings.HasSuffix(r.Findings[0].Line.File, "main.go") {
				t.Errorf("%s: want %q\n%s", service, want, &b)
				return
			}
			line := strings.Split(string(text), "\n")[r.Findings[0].Line.Line-1]
			if !strings.Contains(line, "// LEAK "+service) {
				t.Errorf("%s: names %q first\n%s", service, line, &b)
			}
		})
	}
	wg.Wait()
}

// examineService runs one service and looks at it.
func examineService(t *testing.T, exe string, args ...string) (*Report, error) {
	cmd := exec.CommandContext(t.Context(), exe, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}()
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, err
	}
	e, err := (&Collector{Root: os.DirFS("/"), For: *corpusFor}).Collect(t.Context(), "http://"+strings.TrimSpace(addr))
	if err != nil {
		return nil, err
	}
	return Examine(e), nil
}
