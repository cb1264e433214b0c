// Package reporttest opens pages in a headless Chromium, for tests of what package report makes.
package reporttest

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience bounds everything that a browser does for one test.
const patience = 2 * time.Minute

// Browser is one Chromium with one page, driven over a pair of pipes by its debugging protocol. It belongs to the
// goroutine of the test that started it, and ends with the test.
type Browser struct {
	// Complaints are errors of the page, what it wrote to its console, and what its policy forbade.
	Complaints []string
	// Requests are the addresses that the page asked for, its own file among them.
	Requests []string

	t       *testing.T
	in      *os.File
	out     *bufio.Reader
	session string
	id      int
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
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	cmd := exec.CommandContext(ctx, name, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{theirs, theirsOut} // descriptors 3 and 4, as that flag wants them
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	_, _ = theirs.Close(), theirsOut.Close()
	_ = out.SetReadDeadline(time.Now().Add(patience))
	b := &Browser{t: t, in: in, out: bufio.NewReaderSize(out, 1<<20)}
	t.Cleanup(func() {
		// Killed, it would leave processes behind that still write to its directory.
		_, _ = in.WriteString(`{"id":0,"method":"Browser.close"}` + "\x00")
		for err == nil {
			_, err = b.out.ReadBytes(0)
		}
		_, _ = in.Close(), out.Close()
		_ = cmd.Wait() // it was asked to end
		cancel()
	})
	var target struct{ TargetID string }
	b.Call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.Call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.Call(domain+".enable", nil, nil)
	}
	b.Size(1200, 1000)
	return b
}

// Call carries out one method of the debugging protocol, and decodes its result into result, unless that is nil.
func (b *Browser) Call(method string, params map[string]any, result any) {
	b.t.Helper()
	b.id++
	command := map[string]any{"id": b.id, "method": method}
	if params != nil {
		command["params"] = params
	}
	if b.session != "" {
		command["sessionId"] = b.session
	}
	j, err := json.Marshal(command)
	if err == nil {
		_, err = b.in.Write(append(j, 0))
	}
	if err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		raw, err := b.out.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		var m struct {
			ID     int
			Method string
			Params json.RawMessage
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(raw[:len(raw)-1], &m); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		switch {
		case m.Method == "Runtime.exceptionThrown", m.Method == "Runtime.consoleAPICalled", m.Method == "Log.entryAdded":
			b.Complaints = append(b.Complaints, string(m.Params))
		case m.Method == "Network.requestWillBeSent":
			var p struct{ Request struct{ URL string } }
			if err := json.Unmarshal(m.Params, &p); err != nil {
				b.t.Fatal(err)
			}
			b.Requests = append(b.Requests, p.Request.URL)
		case m.ID != b.id:
		case m.Error != nil:
			b.t.Fatalf("%s: %s", method, m.Error.Message)
		case result == nil:
			return
		default:
			if err := json.Unmarshal(m.Result, result); err != nil {
				b.t.Fatalf("%s: %v", method, err)
			}
			return
		}
	}
}

// Open opens a file, as a double-click on it would, and waits until the page has drawn its charts.
func (b *Browser) Open(file string) {
	b.t.Helper()
	abs, err := filepath.Abs(file)
	if err != nil {
		b.t.Fatal(err)
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(abs)}
	b.Requests, b.Complaints = nil, nil
	b.Call("Page.navigate", map[string]any{"url": u.String()}, nil)
	b.Eval(`await new Promise((done) => { if (document.readyState === 'complete') done(); else addEventListener('load', done); });
		await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))`)
}

// Eval runs the body of an async function in the page and returns what it returns, as text.
func (b *Browser) Eval(body string) string {
	b.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.Call("Runtime.evaluate", map[string]any{"expression": "(async () => {" + body + "})()", "awaitPromise": true, "returnByValue": true}, &r)
	if r.ExceptionDetails != nil {
		b.t.Errorf("%s\n\tthrows %s", body, r.ExceptionDetails)
	}
	return fmt.Sprint(r.Result.Value)
}

// Want fails the test unless Eval returns want.
func (b *Browser) Want(body, want string) {
	b.t.Helper()
	if got := b.Eval(body); got != want {
		b.t.Errorf("%s\n\tis %s, want %s", body, got, want)
	}
}

// Size is the size of the window, in CSS pixels.
func (b *Browser) Size(width, height int) {
	b.t.Helper()
	b.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
}

// Theme sets the color scheme that the reader prefers, "light" or "dark", and the medium, "screen" or "print".
func (b *Browser) Theme(scheme, medium string) {
	b.t.Helper()
	b.Call("Emulation.setEmulatedMedia", map[string]any{"media": medium, "features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.Eval(`await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))`)
}

// Picture writes a picture of the whole page to file.
func (b *Browser) Picture(file string) {
	b.t.Helper()
	var r struct{ Data string }
	b.Call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &r)
	png, err := base64.StdEncoding.DecodeString(r.Data)
	if err == nil {
		err = os.WriteFile(file, png, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// painted counts, for each chart, the pixels of its canvas that the curves have colored: those that are no shade of gray.
const painted = `return [...document.querySelectorAll('.chart canvas')].map((c) => {
	const copy = document.createElement('canvas'); // reading it back shall not change how the page's own is drawn
	[copy.width, copy.height] = [c.width, c.height];
	const context = copy.getContext('2d', { willReadFrequently: true });
	context.drawImage(c, 0, 0);
	const d = context.getImageData(0, 0, c.width, c.height).data;
	let n = 0;
	for (let i = 0; i < d.length; i += 4) {
		if (d[i + 3] > 128 && Math.max(d[i], d[i + 1], d[i + 2]) - Math.min(d[i], d[i + 1], d[i + 2]) > 40) n++;
	}
	return n;
}).join(' ')`

// Check fails the test if the page is not whole: if it asked for anything but its file, wrote to its console, has another
// number of charts than charts, one without at least pixels colored pixels, or a control without a name.
func (b *Browser) Check(charts, pixels int) {
	b.t.Helper()
	if len(b.Requests) != 1 || !strings.HasPrefix(b.Requests[0], "file://") {
		b.t.Errorf("the page asks for %q, want its own file alone", b.Requests)
	}
	counts := strings.Fields(b.Eval(painted))
	if len(counts) != charts {
		b.t.Errorf("%d canvases, want %d", len(counts), charts)
	}
	for i, c := range counts {
		var n int
		if _, err := fmt.Sscan(c, &n); err != nil || n < pixels {
			b.t.Errorf("chart %d has %s colored pixels, want at least %d", i, c, pixels)
		}
	}
	b.Want(`return document.documentElement.dataset.drawn`, fmt.Sprint(charts))
	b.Want(`return [...document.querySelectorAll('button, [tabindex], summary')].filter((e) => !e.textContent.trim() && !e.ariaLabel).length`, "0")
	if len(b.Complaints) > 0 {
		b.t.Errorf("the browser complains:\n%s", strings.Join(b.Complaints, "\n"))
	}
}
