package browsertest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// Page is one page of a browser, for the goroutine of its test.
type Page struct {
	// T is the test that the page belongs to.
	T *testing.T
	// Complaints are errors of the page, what it wrote to its console, and what its policy forbade, but for what has one of
	// Expected in it.
	Complaints []string
	// Expected are parts of complaints that the test brings about.
	Expected []string
	// Requests are the addresses that the page asked for, its own among them.
	Requests []string

	b       *Browser
	session string
}

// told is called with each event of the debugging protocol.
func (p *Page) told(method string, params json.RawMessage) {
	switch method {
	case "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded":
		for _, e := range p.Expected {
			if strings.Contains(string(params), e) {
				return
			}
		}
		p.Complaints = append(p.Complaints, string(params))
	case "Network.requestWillBeSent":
		var r struct{ Request struct{ URL string } }
		if err := json.Unmarshal(params, &r); err != nil {
			p.T.Fatal(err)
		}
		p.Requests = append(p.Requests, r.Request.URL)
	}
}

// Call carries out one method of the debugging protocol, and decodes its result into result, unless that is nil.
func (p *Page) Call(method string, params map[string]any, result any) {
	p.T.Helper()
	p.b.call(p.T, p.session, method, params, result)
}

// Driver is a script that each document has from now on before its own, for what a test has in the page.
func (p *Page) Driver(source string) {
	p.T.Helper()
	p.Call("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": source}, nil)
}

// Navigate goes to an address, and returns when what belongs to it is loaded and was drawn. Complaints and requests of
// before are forgotten.
func (p *Page) Navigate(url string) {
	p.T.Helper()
	p.Requests, p.Complaints = nil, nil
	var r struct{ ErrorText string }
	p.Call("Page.navigate", map[string]any{"url": url}, &r)
	if r.ErrorText != "" {
		p.T.Fatalf("%s: %s", url, r.ErrorText)
	}
	p.Eval(`await new Promise((done) => { if (document.readyState === 'complete') done(); else addEventListener('load', done); });` + drawn)
}

// drawn waits until what was changed is drawn.
const drawn = `await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));`

// Drawn waits until what was changed is drawn.
func (p *Page) Drawn() {
	p.T.Helper()
	p.Eval(drawn)
}

// Eval runs the body of an async function in the page and returns what it returns, as text. What it throws ends the test.
func (p *Page) Eval(body string) string {
	p.T.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	p.Call("Runtime.evaluate", map[string]any{"expression": "(async () => {" + body + "})()", "awaitPromise": true, "returnByValue": true}, &r)
	if e := r.ExceptionDetails; e != nil {
		p.T.Fatalf("%s\n\tthrows: %s %s", body, e.Text, e.Exception.Description)
	}
	return fmt.Sprint(r.Result.Value)
}

// Want ends the test unless Eval returns want.
func (p *Page) Want(body, want string) {
	p.T.Helper()
	if got := p.Eval(body); got != want {
		p.T.Fatalf("%s\n\tis %s, want %s", body, got, want)
	}
}

// Size is the size of the window, in CSS pixels.
func (p *Page) Size(width, height int) {
	p.T.Helper()
	p.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
}

// Theme sets the color scheme that the reader prefers, "light" or "dark", and the medium, "screen" or "print".
func (p *Page) Theme(scheme, medium string) {
	p.T.Helper()
	p.Call("Emulation.setEmulatedMedia", map[string]any{"media": medium, "features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	p.Drawn()
}

// Key presses a key of the keyboard and lets it go: "Tab", "Enter", "Escape", "ArrowLeft".
func (p *Page) Key(key string) {
	p.T.Helper()
	code := map[string]int{"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}[key]
	down := map[string]any{"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code}
	if key == "Enter" {
		down["text"] = "\r"
	}
	p.Call("Input.dispatchKeyEvent", down, nil)
	p.Call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code}, nil)
}

// Picture writes a picture of the whole page to file.
func (p *Page) Picture(file string) {
	p.T.Helper()
	p.Capture(file, map[string]any{"captureBeyondViewport": true})
}

// Capture writes a picture to file, as params of Page.captureScreenshot say.
func (p *Page) Capture(file string, params map[string]any) {
	p.T.Helper()
	var r struct{ Data string }
	p.Call("Page.captureScreenshot", params, &r)
	b, err := base64.StdEncoding.DecodeString(r.Data)
	if err == nil {
		err = os.WriteFile(file, b, 0o644)
	}
	if err != nil {
		p.T.Error(err)
	}
}

// Calm fails the test if the browser complained of the page.
func (p *Page) Calm() {
	p.T.Helper()
	if len(p.Complaints) > 0 {
		p.T.Errorf("the browser complains:\n%s", strings.Join(p.Complaints, "\n"))
	}
}
