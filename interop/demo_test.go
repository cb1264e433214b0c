package interop

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

	gws "github.com/gorilla/websocket"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/demo"
)

var screenshots = flag.String("screenshots", "", "directory for pictures of the demo page; empty takes none")

// demoChannels are what --dev makes of channels, so that the page has something to show.
var demoChannels = longwire.ChannelOptions{SubscribeForClient: true, SubscribeForAnonymous: true, PublishForClient: true,
	PublishForAnonymous: true, Presence: true, JoinLeave: true, HistorySize: 100, HistoryTTL: 5 * time.Minute, AllowRecovery: true}

// TestDemo drives the page of internal/demo in Chromium as a person would.
func TestDemo(t *testing.T) {
	g := serve(t, longwire.Config{HTTP: demo.Handler(), Endpoints: []longwire.Endpoint{longwire.Centrifuge(centrifugePath)},
		Channels: demoChannels, Sessions: longwire.Sessions{Insecure: true}})
	b := startBrowser(t)
	b.call("Page.enable", nil, nil)
	b.call("Runtime.enable", nil, nil)
	b.call("Log.enable", nil, nil)
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": 1200, "height": 1000, "deviceScaleFactor": 1, "mobile": false}, nil)
	b.call("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": demoDriver}, nil)
	b.call("Page.navigate", map[string]any{"url": "http://" + g.Addr().String() + demo.Prefix}, nil)
	b.want(`await loaded(); return document.title`, "Longwire: try it")
	for _, theme := range []string{"light", "dark"} {
		b.picture("1-new", theme)
	}

	b.want(`$('connect').click(); await shows('state', 'connected'); return $('client').textContent.length`, "36")
	b.want(`$('subscribe').click(); await shows('messages', 'subscribed to news'); await shows('presence', 'this page'); return $('present-count').textContent`, "1")
	b.want(`$('data').value = '{"text": "grüße, κόσμε"}'; $('publish').click(); await shows('messages', 'κόσμε');
		return $('messages').querySelector('li:has(.data)').innerText.split('\n').slice(0, 2).join(' ')`, `1 {"text":"grüße, κόσμε"}`)
	b.want(`$('data').value = '{"text": '; $('publish').click(); await shows('problem', 'no JSON'); return document.querySelectorAll('#messages .data').length`, "1")
	b.want(`$('data').value = '{"text": "hello"}'; $('clear-frames').click(); $('publish').click(); await shows('message-count', '2'); await shows('frames', '"publish":{}'); return $('problem').textContent`, "")

	// What another client publishes while the page is away comes back, in order and marked as such.
	b.want(`$('cut').click(); await shows('state', 'connecting'); await shows('messages', 'recovered', '"missed":3'); await shows('state', 'connected');
		return [...document.querySelectorAll('#messages li:has(.mark)')].map((li) => li.querySelector('.offset').textContent + li.querySelector('.data').textContent).join(' ')`,
		`3{"missed":1} 4{"missed":2} 5{"missed":3}`)
	b.want(`await shows('frames', '"recovered":true', 'closed: 4000'); return [...document.querySelectorAll('#frames .sent .what')].filter((e) => e.textContent.includes('"recover":true')).length`, "1")
	for _, theme := range []string{"light", "dark"} {
		b.picture("2-used", theme)
	}

	// On a small screen nothing is wider than it.
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": true}, nil)
	b.want(`return document.documentElement.scrollWidth`, "400")
	for _, theme := range []string{"light", "dark"} {
		b.picture("3-small", theme)
	}

	b.want(`$('unsubscribe').click(); await shows('messages', 'unsubscribed from news'); await shows('present-count', '0'); return $('subscribe').disabled`, "false")
	b.want(`$('channel').value = 'другой канал'; $('subscribe').click(); await shows('messages', 'subscribed to другой канал'); await shows('present-count', '1'); return $('publish').disabled`, "false")
	b.want(`$('disconnect').click(); await shows('state', 'disconnected'); return $('connect').disabled`, "false")
	b.want(`$('token').value = 'no token'; $('connect').click(); await shows('messages', 'invalid token'); return $('state-text').textContent`, "disconnected")
	b.want(`return unlabelled().join(' ')`, "")
	if len(b.complaints) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(b.complaints, "\n"))
	}
}

// demoDriver is what the test has in the page beside what the page has.
const demoDriver = `
	const loaded = () => new Promise((resolve) => {
		if (document.readyState === 'complete') resolve(); else addEventListener('load', resolve);
	});
	// shows waits until an element's text has all of these, and no longer than for a server that is gone.
	const shows = (id, ...texts) => new Promise((resolve, reject) => {
		const e = document.getElementById(id);
		setTimeout(() => reject(new Error(id + ' shows no ' + texts + ' but ' + e.textContent)), 30_000);
		const look = () => {
			if (!texts.every((text) => e.textContent.includes(text))) return false;
			observer.disconnect();
			resolve();
			return true;
		};
		const observer = new MutationObserver(look);
		if (!look()) observer.observe(e, { subtree: true, childList: true, characterData: true });
	});
	// unlabelled are the controls without a name.
	const unlabelled = () => [...document.querySelectorAll('input, textarea, button')]
		.filter((e) => !(e.labels && e.labels.length > 0) && e.textContent.trim() === '').map((e) => e.outerHTML);
`

// browser is one page of Chromium, by its debugging protocol. It is for one goroutine.
type browser struct {
	t          *testing.T
	ws         *gws.Conn
	session    string
	id         int
	complaints []string // errors of the page, and what its policy forbids
}

func startBrowser(t *testing.T) *browser {
	t.Helper()
	name := findBrowser(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	cmd := exec.CommandContext(ctx, name, append(browserFlags, "--user-data-dir="+t.TempDir(), "--remote-debugging-port=0", "about:blank")...)
	cmd.WaitDelay = 10 * time.Second
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	lines := bufio.NewScanner(stderr)
	url := ""
	for url == "" {
		if !lines.Scan() {
			t.Fatalf("chromium ended: %v", lines.Err())
		}
		_, url, _ = strings.Cut(lines.Text(), "DevTools listening on ")
	}
	go func() { // it must not wait for a reader
		for lines.Scan() {
		}
	}()
	b := &browser{t: t}
	if b.ws, _, err = gws.DefaultDialer.Dial(url, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Killed, it would leave processes behind that still write to its directory.
		_ = b.ws.WriteJSON(map[string]any{"id": b.id + 1, "method": "Browser.close"})
		for err == nil {
			_, _, err = b.ws.ReadMessage()
		}
		_ = b.ws.Close()
		_ = cmd.Wait() // it was asked to end
		cancel()
	})
	_ = b.ws.SetReadDeadline(time.Now().Add(2 * time.Minute))
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	return b
}

// call carries out one method of the debugging protocol.
func (b *browser) call(method string, params map[string]any, result any) {
	b.t.Helper()
	b.id++
	command := map[string]any{"id": b.id, "method": method, "params": params}
	if params == nil {
		delete(command, "params")
	}
	if b.session != "" {
		command["sessionId"] = b.session
	}
	if err := b.ws.WriteJSON(command); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		var m struct {
			ID     int
			Method string
			Params json.RawMessage
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := b.ws.ReadJSON(&m); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		switch {
		case m.Method == "Runtime.exceptionThrown", m.Method == "Log.entryAdded":
			b.complaints = append(b.complaints, string(m.Params))
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

// want runs the body of an async function in the page, and compares what it returns, as text.
func (b *browser) want(body, want string) {
	b.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": "(async () => {" + body + "})()", "awaitPromise": true, "returnByValue": true}, &r)
	if got := fmt.Sprint(r.Result.Value); got != want || r.ExceptionDetails != nil {
		b.t.Errorf("%s\n\tis %s, want %s %s", body, got, want, r.ExceptionDetails)
	}
}

// picture takes one if it is asked for.
func (b *browser) picture(name, theme string) {
	b.t.Helper()
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": theme}}}, nil)
	if *screenshots == "" {
		return
	}
	var r struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &r)
	png, err := base64.StdEncoding.DecodeString(r.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(*screenshots, name+"-"+theme+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}
