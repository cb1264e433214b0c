package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire/client"
	"github.com/longwire/longwire/ws"
)

var (
	screenshots = flag.String("screenshots", "", "directory for pictures of the page; empty takes none")
	picture     = flag.String("picture", "", "file for the README's picture; empty takes none")
)

// browser is a headless Chromium, by its debugging protocol. It and its tabs are for one goroutine.
type browser struct {
	t          *testing.T
	ctx        context.Context
	conn       *client.Conn
	id         int
	complaints []string // errors of pages, and what their policy forbids
}

// tab is one page of a browser.
type tab struct {
	*browser
	session string
}

func startBrowser(t *testing.T) *browser {
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
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-port=0", "about:blank")
	cmd.WaitDelay = 10 * time.Second
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	url := ""
	for url == "" {
		if !lines.Scan() {
			t.Fatalf("chromium ended: %v", lines.Err())
		}
		_, url, _ = strings.Cut(lines.Text(), "DevTools listening on ")
	}
	read := make(chan struct{})
	go func() { // it must not wait for a reader
		defer close(read)
		for lines.Scan() {
		}
	}()
	b := &browser{t: t, ctx: ctx}
	b.conn, err = client.Dial(ctx, url, &client.Options{Once: true, ReadLimit: 64 << 20, Heartbeat: client.Heartbeat{Mode: client.HeartbeatNone}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Killed, it would leave processes behind that still write to its directory.
		err := b.conn.Write(ctx, ws.OpText, fmt.Appendf(nil, `{"id":%d,"method":"Browser.close"}`, b.id+1))
		for err == nil {
			_, _, err = b.conn.Read(ctx)
		}
		_ = b.conn.Close(ctx, 0, "") // it has ended already
		<-read
		_ = cmd.Wait() // it was asked to end
	})
	return b
}

// open is a new tab, of a window of its own: what is behind another is not slowed down. name is what it is called in the
// room.
func (b *browser) open(url, name string) *tab {
	b.t.Helper()
	top := &tab{browser: b}
	var target struct{ TargetID string }
	top.call("Target.createTarget", map[string]any{"url": "about:blank", "newWindow": true}, &target)
	var attached struct{ SessionID string }
	top.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	p := &tab{b, attached.SessionID}
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		p.call(domain+".enable", nil, nil)
	}
	p.call("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": driver}, nil)
	p.size(1280, 860, false)
	p.call("Page.navigate", map[string]any{"url": url + "#" + name}, nil)
	p.want(`await loaded(); await shows('#present', '(you)'); await shows('#state-text', 'connected'); return document.title`, "Longwire chat: pull the cable")
	return p
}

// driver is what the test has in the page beside what the page has.
const driver = `
	const loaded = () => new Promise((resolve) => {
		if (document.readyState === 'complete') resolve(); else addEventListener('load', resolve);
	});
	// shows waits until what a selector finds has all of these, and no longer than for a gateway that is gone.
	const shows = (selector, ...texts) => new Promise((resolve, reject) => {
		const all = () => [...document.querySelectorAll(selector)].map((e) => e.textContent).join('\n');
		const end = setTimeout(() => { observer.disconnect(); reject(new Error(selector + ' shows no ' + texts + ' but ' + all() + '\n' + log())); }, 60_000);
		const look = () => {
			if (!texts.every((text) => all().includes(text))) return;
			observer.disconnect();
			clearTimeout(end);
			resolve();
		};
		const observer = new MutationObserver(look);
		observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
		look();
	});
	const click = (id) => document.getElementById(id).click();
	const say = (...texts) => { for (const text of texts) { document.getElementById('text').value = text; document.getElementById('say').requestSubmit(); } };
	const said = (selector = '#lines .line') => [...document.querySelectorAll(selector + ' .said')].map((e) => e.textContent).join(' ');
	const log = () => [...document.querySelectorAll('#log li > span')].map((e) => e.firstChild.textContent).join(', ');
	const tally = () => ['recovered', 'lost', 'doubled'].map((id) => document.getElementById(id).textContent).join(' ');
	// unlabelled are the controls without a name.
	const unlabelled = () => [...document.querySelectorAll('input, button')]
		.filter((e) => !(e.labels && e.labels.length > 0) && e.textContent.trim() === '').map((e) => e.outerHTML);
`

// call carries out one method of the debugging protocol.
func (p *tab) call(method string, params map[string]any, result any) {
	p.t.Helper()
	p.id++
	command := map[string]any{"id": p.id, "method": method}
	if params != nil {
		command["params"] = params
	}
	if p.session != "" {
		command["sessionId"] = p.session
	}
	b, err := json.Marshal(command)
	if err == nil {
		err = p.conn.Write(p.ctx, ws.OpText, b)
	}
	if err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
	for {
		var m struct {
			ID     int
			Method string
			Params json.RawMessage
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		_, b, err := p.conn.Read(p.ctx)
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil {
			p.t.Fatalf("%s: %v", method, err)
		}
		switch {
		case m.Method == "Log.entryAdded" && strings.Contains(string(m.Params), "WebSocket connection to '"):
			// That is how Chromium tells of an attempt that failed or was given up. There are to be some.
		case m.Method == "Runtime.exceptionThrown", m.Method == "Log.entryAdded", m.Method == "Runtime.consoleAPICalled":
			p.complaints = append(p.complaints, string(m.Params))
		case m.ID != p.id:
		case m.Error != nil:
			p.t.Fatalf("%s: %s", method, m.Error.Message)
		case result == nil:
			return
		default:
			if err := json.Unmarshal(m.Result, result); err != nil {
				p.t.Fatalf("%s: %v", method, err)
			}
			return
		}
	}
}

// want runs the body of an async function in the page, and compares what it returns, as text.
func (p *tab) want(body, want string) {
	p.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	p.call("Runtime.evaluate", map[string]any{"expression": "(async () => {" + body + "})()", "awaitPromise": true, "returnByValue": true}, &r)
	if got := fmt.Sprint(r.Result.Value); got != want || r.ExceptionDetails != nil {
		p.t.Fatalf("%s\n\tis %s, want %s %s", body, got, want, r.ExceptionDetails)
	}
}

func (p *tab) size(width, height int, mobile bool) {
	p.t.Helper()
	p.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}, nil)
}

// picture takes one in light and one in dark, if it is asked for.
func (p *tab) picture(name string, whole bool) {
	p.t.Helper()
	for _, theme := range []string{"light", "dark"} {
		p.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": theme}}}, nil)
		if *screenshots == "" {
			continue
		}
		p.capture(filepath.Join(*screenshots, name+"-"+theme+".png"), map[string]any{"captureBeyondViewport": whole})
	}
}

func (p *tab) capture(file string, params map[string]any) {
	p.t.Helper()
	var r struct{ Data string }
	p.call("Page.captureScreenshot", params, &r)
	b, err := base64.StdEncoding.DecodeString(r.Data)
	if err == nil {
		err = os.WriteFile(file, b, 0o644)
	}
	if err != nil {
		p.t.Error(err)
	}
}

// TestPage plays windows against each other, as people would.
func TestPage(t *testing.T) {
	addr, stop := start(t, "")
	site := "http://" + addr + "/"
	b := startBrowser(t)
	// The cable of this window is out until the end: the others do not notice.
	three := b.open(site, "Lynx")
	three.want(`click('pull'); await shows('#cable-text', 'out:'); return document.getElementById('pull').disabled`, "true")
	one, two := b.open(site, "Otter"), b.open(site, "Heron")
	one.picture("1-new", false)

	one.want(`say('hello', 'grüße, κόσμε'); await shows('#lines .own', 'κόσμε'); return said('#pending')`, "")
	two.want(`await shows('#lines .line:not(.own)', 'hello', 'κόσμε'); return said()`, "hello grüße, κόσμε")
	two.want(`await shows('#present', 'Otter', 'Heron (you)'); return document.getElementById('present').className`, "")

	// Cut is no doubt at all. Slow is slow, and no reason for any.
	two.want(`click('cut'); await shows('#log', '→ backoff', 'backoff → connecting'); click('slow'); await shows('#cable-text', 'slow'); return tally()`, "0 0 0")

	// The cable is pulled: doubt, more doubt, and the line is given up. What both say meanwhile is there when it is back,
	// what was sent into the silence too.
	one.want(`document.getElementById('pull').focus(); click('pull'); await shows('#cable-text', 'out:'); say('mine, 0'); return document.activeElement.id`, "plug")
	one.want(`await shows('#log', 'idle → waiting-pong', 'waiting-pong → retry-pending', 'retry-pending → backoff'); return tally()`, "0 0 0")
	one.want(`say('mine, 1', 'mine, 2'); return said('#pending .waits')`, "mine, 0 mine, 1 mine, 2")
	two.want(`say('missed 1', 'missed 2', 'missed 3'); await shows('#lines .own', 'missed 3'); return tally()`, "0 0 0")
	one.picture("2-out", false)
	one.want(`click('plug'); await shows('#lines .divider', 'recovered 3'); await shows('#lines .own', 'mine, 2'); return said('#lines .recovered')`, "missed 1 missed 2 missed 3")
	one.want(`await shows('#state-text', 'connected'); return said() + ' | ' + said('#pending') + '| ' + tally()`, "hello grüße, κόσμε missed 1 missed 2 missed 3 mine, 0 mine, 1 mine, 2 | | 3 0 0")
	two.want(`await shows('#lines', 'mine, 2'); return said() + ' | ' + tally()`, "hello grüße, κόσμε missed 1 missed 2 missed 3 mine, 0 mine, 1 mine, 2 | 0 0 0")
	one.picture("3-back", false)

	// Out for long: the fuse opens, and closes by a trial.
	three.want(`await shows('#log', 'connecting → melted'); return tally()`, "0 0 0")
	three.picture("4-melted", false)
	three.want(`click('plug'); await shows('#log', 'melted → trial', 'trial → idle'); await shows('#lines .divider', 'recovered 8'); return said('#lines .recovered') + ' | ' + tally()`,
		"hello grüße, κόσμε missed 1 missed 2 missed 3 mine, 0 mine, 1 mine, 2 | 8 0 0")
	three.picture("5-trial", false)
	if *picture != "" {
		three.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": "light"}}}, nil)
		three.capture(*picture, map[string]any{"format": "webp", "quality": 80})
	}

	// A page that comes later sees what was said before. On a small screen nothing is wider than it.
	late := b.open(site, "Newt")
	late.size(390, 844, true)
	late.want(`await shows('#lines', 'mine, 2'); return said()`, "hello grüße, κόσμε missed 1 missed 2 missed 3 mine, 0 mine, 1 mine, 2")
	late.want(`return document.documentElement.scrollWidth`, "390")
	late.want(`return unlabelled().join(' ')`, "")
	late.picture("6-small", true)

	// Another gateway has no memory of the one before, and the page says so; what is said from then on is all there.
	stop()
	start(t, addr)
	late.want(`await shows('#lines .divider.bad', 'gone'); say('anew'); await shows('#lines .own', 'anew'); return said('#pending') + tally()`, "0 0 0")
	two.want(`await shows('#lines', 'anew'); return tally()`, "0 0 0")
	if len(b.complaints) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(b.complaints, "\n"))
	}
}
