// Package browsertest drives pages in a headless Chromium, for tests. It speaks the browser's debugging protocol over a pair
// of pipes, so that nothing listens on a port.
package browsertest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

// patience bounds each thing that a browser does.
const patience = 2 * time.Minute

// Browser is one Chromium. It is for one goroutine at a time, that of the test that started it or of one below it, and ends
// with the test that started it.
type Browser struct {
	in    *os.File
	pipe  *os.File // what out reads
	out   *bufio.Reader
	id    int
	pages map[string]*Page // by session
}

// Start starts a browser. It skips the test where none is installed.
func Start(t *testing.T) *Browser {
	t.Helper()
	name := ""
	for _, n := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(n); err == nil {
			name = p
			break
		}
	}
	if name == "" {
		t.Skip("chromium is not installed: make setup")
	}
	theirs, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirsOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	// A page is never slowed down because another stands before it.
	cmd := exec.CommandContext(ctx, name, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{theirs, theirsOut} // descriptors 3 and 4, as that flag wants them
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	_, _ = theirs.Close(), theirsOut.Close()
	b := &Browser{in: in, pipe: out, out: bufio.NewReaderSize(out, 1<<20), pages: make(map[string]*Page)}
	t.Cleanup(func() {
		// Killed, it would leave processes behind that still write to its directory.
		_ = out.SetReadDeadline(time.Now().Add(patience))
		_, err := in.WriteString(`{"id":0,"method":"Browser.close"}` + "\x00")
		for err == nil {
			_, err = b.out.ReadBytes(0)
		}
		_, _ = in.Close(), out.Close()
		if !errors.Is(err, io.EOF) {
			cancel() // it does not end by itself
		}
		_ = cmd.Wait() // it was asked to end
		cancel()
	})
	return b
}

// call carries out one method of the debugging protocol, of a page's session or of the browser (""), and decodes its result
// into result, unless that is nil. What pages tell meanwhile goes to them.
func (b *Browser) call(t *testing.T, session, method string, params map[string]any, result any) {
	t.Helper()
	_ = b.pipe.SetReadDeadline(time.Now().Add(patience))
	b.id++
	command := map[string]any{"id": b.id, "method": method}
	if params != nil {
		command["params"] = params
	}
	if session != "" {
		command["sessionId"] = session
	}
	j, err := json.Marshal(command)
	if err == nil {
		_, err = b.in.Write(append(j, 0))
	}
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	for {
		raw, err := b.out.ReadBytes(0)
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		var m struct {
			ID        int
			SessionID string
			Method    string
			Params    json.RawMessage
			Result    json.RawMessage
			Error     *struct{ Message string }
		}
		if err := json.Unmarshal(raw[:len(raw)-1], &m); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		switch {
		case m.Method != "":
			if p := b.pages[m.SessionID]; p != nil {
				p.told(m.Method, m.Params)
			}
		case m.ID != b.id:
		case m.Error != nil:
			t.Fatalf("%s: %s", method, m.Error.Message)
		case result == nil:
			return
		default:
			if err := json.Unmarshal(m.Result, result); err != nil {
				t.Fatalf("%s: %v", method, err)
			}
			return
		}
	}
}

// Page is a new page, empty, in a window of its own, until t ends.
func (b *Browser) Page(t *testing.T) *Page {
	t.Helper()
	var target struct{ TargetID string }
	b.call(t, "", "Target.createTarget", map[string]any{"url": "about:blank", "newWindow": true}, &target)
	var attached struct{ SessionID string }
	b.call(t, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	p := &Page{T: t, b: b, session: attached.SessionID}
	b.pages[p.session] = p
	t.Cleanup(func() {
		if !t.Failed() { // else the browser may not answer any more
			b.call(t, "", "Target.closeTarget", map[string]any{"targetId": target.TargetID}, nil)
		}
		delete(b.pages, p.session)
	})
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		p.Call(domain+".enable", nil, nil)
	}
	p.Size(1200, 1000)
	return p
}
