package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/pprof/profile"
)

// TestBadTargets has every kind of target that is none, and wants a sentence and a hint for each.
func TestBadTargets(t *testing.T) {
	heap := func(w http.ResponseWriter) {
		fmt.Fprint(w, "heap profile: 0: 0 [0: 0] @ heap/1048576\n\n# runtime.MemStats\n# HeapAlloc = 1000\n# DebugGC = false\n")
	}
	closed := httptest.NewServer(http.NotFoundHandler())
	gone := closed.URL
	closed.Close()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	go func() {
		for {
			c, err := raw.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 16))
			_, _ = c.Write([]byte("SSH-2.0-OpenSSH\r\n"))
			_ = c.Close()
		}
	}()
	for _, c := range []struct {
		name    string
		target  string
		handler http.HandlerFunc
		want    string
		hint    string
	}{
		{"no URL", "ftp://x", nil, "want http or https", "give a URL"},
		{"nobody listens", gone, nil, "nobody listens on", "is the program running"},
		{"another protocol", "http://" + raw.Addr().String(), nil, "does not speak HTTP", "another protocol"},
		{"404", "", http.NotFound, "answers 404: there is no pprof there", "net/http/pprof"},
		{"403", "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "answers 403", "--header"},
		{"500", "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "answers 500", "log"},
		{"not Go", "", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>hello</html>") }, "not with the heap profile of a Go program", "a Go program"},
		{"endless", "", func(w http.ResponseWriter, r *http.Request) {
			b := bytes.Repeat([]byte("x"), 1<<20)
			for r.Context().Err() == nil {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}, "does not end: more than", "stream"},
		{"broken off", "", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, "heap profile: ")
		}, "broke off after 14 bytes", "try again"},
		{"statistics cut off", "", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "heap profile: 0: 0 [0: 0] @ heap/1\n") }, "cut off or damaged", ""},
		{"profile cut off", "", func(w http.ResponseWriter, r *http.Request) {
			if r.FormValue("debug") == "1" {
				heap(w)
				return
			}
			_, _ = w.Write([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00"))
		}, "cut off or damaged", ""},
		{"no such process", "999999999", nil, "there is no process 999999999", "in a container"},
		{"pid 0", "0", nil, "want more than 0", "pid"},
	} {
		target := c.target
		if c.handler != nil {
			s := httptest.NewServer(c.handler)
			defer s.Close()
			target = s.URL
		}
		_, err := (&Collector{Root: fstest.MapFS{}, For: time.Second}).Collect(t.Context(), target)
		var de *Error
		hint := ""
		if errors.As(err, &de) {
			hint = de.Hint
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint, c.hint) {
			t.Errorf("%s: error %v, hint %q; want %q, %q", c.name, err, hint, c.want, c.hint)
		}
	}
	if _, err := (&Collector{Root: fstest.MapFS{}, For: 2 * time.Hour}).Collect(t.Context(), "http://127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "1s to 1h") {
		t.Errorf("two hours: %v", err)
	}
}

// pprofServer serves this process's own profiles.
func pprofServer(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// TestCollectItself looks at this process, which leaks goroutines meanwhile.
func TestCollectItself(t *testing.T) {
	s := pprofServer(t)
	var said []string
	c := &Collector{Root: fstest.MapFS{}, For: time.Second, Say: func(s string) { said = append(said, s) }}
	e, err := c.Collect(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Heap) < 6 || len(e.Memory) != len(e.Heap) || len(e.Counts) != len(e.Heap) || len(e.Goroutines) < 3 || e.Took < time.Second {
		t.Errorf("%d heap profiles, %d statistics, %d counts, %d dumps in %v", len(e.Heap), len(e.Memory), len(e.Counts), len(e.Goroutines), e.Took)
	}
	if len(said) != 1 || !strings.Contains(said[0], "looks at heap and goroutines") {
		t.Errorf("said %q, want the cost before it", said)
	}
	p := e.places()
	if p.root == "" {
		t.Error("the standard library was not recognised")
	}
	if e.Memory[0].HeapAlloc == 0 || e.Heap[0].Rate <= 0 {
		t.Errorf("%+v", e.Memory[0])
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Collect(ctx, s.URL); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestCollectOwner finds the process behind a URL of this machine, and its source.
func TestCollectOwner(t *testing.T) {
	s := pprofServer(t)
	c := &Collector{Root: os.DirFS("/"), For: time.Second}
	e, err := c.Collect(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Process) == 0 {
		t.Skip("the process of a local URL cannot be found here")
	}
	if now, _ := last(e.Process); now.Resident == 0 || now.Descriptors["socket"] == 0 {
		t.Errorf("%+v", now)
	}
	if e.Source == nil {
		t.Error("the source of this process was not found")
	}
	if m, _ := last(e.Memory); m.HeapSys < m.HeapInuse+m.HeapReleased || m.Sys < m.HeapSys+m.StackInuse {
		t.Errorf("%+v", m)
	}
	if parts := partsText(memoryParts(e)); !strings.Contains(parts, "Go heap in use") || !strings.Contains(parts, "goroutine stacks") {
		t.Errorf("the memory's parts: %s", parts)
	}
	// By its pid the same is found.
	if e, err = c.Collect(t.Context(), strconv.Itoa(os.Getpid())); err != nil || len(e.Heap) == 0 {
		t.Errorf("by pid: %d heap profiles, %v", len(e.Heap), err)
	}
}

// TestCollectOther looks at a process that is not Go.
func TestCollectOther(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Skip("no program to look at:", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("there is no /proc")
	}
	e, err := (&Collector{Root: os.DirFS("/"), For: time.Second}).Collect(t.Context(), strconv.Itoa(cmd.Process.Pid))
	if err != nil || len(e.Process) < 6 {
		t.Fatalf("%d samples, %v", len(e.Process), err)
	}
	if notes := strings.Join(e.Notes, "\n"); !strings.Contains(notes, "is not a Go program") || !strings.Contains(notes, "net/http/pprof") {
		t.Errorf("notes:\n%s", notes)
	}
	if r := Examine(e); r.Found() {
		t.Errorf("%+v", r.Findings)
	}
}

// TestFiles makes a series of saved profiles, in any order.
func TestFiles(t *testing.T) {
	var files []File
	for i, h := range profileOf(func(i int) int { return 3000 * (i + 1) }, 10).Heap {
		fn := &profile.Function{ID: 1, Name: "main.add", Filename: "/src/main.go"}
		loc := &profile.Location{ID: 1, Address: 1, Line: []profile.Line{{Function: fn, Line: 7}}}
		p := &profile.Profile{
			PeriodType: &profile.ValueType{Type: "space", Unit: "bytes"}, Period: h.Rate, TimeNanos: int64(1e18) + int64(i)*int64(time.Second),
			SampleType: []*profile.ValueType{{Type: "alloc_objects"}, {Type: "alloc_space"}, {Type: "inuse_objects"}, {Type: "inuse_space"}},
			Function:   []*profile.Function{fn}, Location: []*profile.Location{loc},
			Sample: []*profile.Sample{{Location: []*profile.Location{loc}, Value: []int64{h.Sites[0].AllocObjects, h.Sites[0].AllocBytes, h.Sites[0].Objects, h.Sites[0].Bytes}}},
		}
		var b bytes.Buffer
		if err := p.Write(&b); err != nil {
			t.Fatal(err)
		}
		files = append([]File{{Name: fmt.Sprint(i), Data: b.Bytes()}}, files...)
	}
	files = append(files, File{Name: "dump", Data: []byte(dump)})
	c := &Collector{Root: fstest.MapFS{}}
	e, err := c.Files(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	r := Examine(e)
	if len(r.Findings) != 2 || r.Findings[0].Line.Line != 5 || r.Findings[1].Line.Line != 7 {
		t.Errorf("%+v, want the goroutine that the dump says is leaked, and the heap", r.Findings)
	}
	if _, err := c.Files(t.Context(), []File{{Name: "x.txt", Data: []byte("hello")}}); err == nil || !strings.Contains(err.Error(), "x.txt: it is no profile") {
		t.Errorf("another file: %v", err)
	}
	if _, err := c.Files(t.Context(), []File{{Name: "x.gz", Data: []byte("\x1f\x8b\x08broken")}}); err == nil || !strings.Contains(err.Error(), "x.gz") {
		t.Errorf("a damaged profile: %v", err)
	}
}
