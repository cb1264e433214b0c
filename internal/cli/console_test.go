package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire/client"
	"github.com/longwire/longwire/internal/browsertest"
	"github.com/longwire/longwire/internal/sys"
)

var (
	consolePictures = flag.String("console.pictures", "", "directory for the pictures of the README; empty takes none")
	consoleBinary   = flag.String("console.longwire", "", "the program whose pictures are taken")
	consoleSilent   = flag.Bool("console.silent", false, "without heartbeat: then the gateway has nothing to do but for the console")
	consoleConns    = flag.Int("console.conns", 3000, "connections that are open while pictures are taken")
)

// consoleDriver is what a test has in the console beside what the console has.
const consoleDriver = `
	const $ = (selector) => document.querySelector(selector);
	const until = (what) => new Promise((done, fail) => {
		const end = Date.now() + 60_000;
		const look = () => {
			let got;
			try { got = what(); } catch { }
			if (got) done(got); else if (Date.now() > end) fail(new Error('never ' + what + '\n' + document.body.innerText.slice(0, 1500))); else setTimeout(look, 20);
		};
		look();
	});
	const shows = (selector, ...texts) => until(() => texts.every((text) => $(selector).innerText.includes(text)));
	const view = async (name) => { $('nav a[href="#' + name + '"]').click(); await until(() => $('nav a[aria-current]').dataset.view === name); };
	const labelled = (text) => [...document.querySelectorAll('label')].find((l) => l.innerText.trim().startsWith(text)).querySelector('input, select, textarea');
	const submit = (text, value) => { const e = labelled(text); e.value = value; e.form.requestSubmit(); };
	const button = (text, within = document) => [...within.querySelectorAll('button')].find((b) => b.textContent.startsWith(text) && b.offsetParent);
	const tile = (label) => [...document.querySelectorAll('.tile')].find((t) => t.querySelector('dt').textContent === label)?.querySelector('b').textContent;
`

const adminToken = "only-for-this-test-0123456789"

// awaitLog returns the first match in a server's log.
func awaitLog(t *testing.T, l *serverLog, re string) string {
	t.Helper()
	pattern := regexp.MustCompile(re)
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		text, grown := l.read()
		if m := pattern.FindStringSubmatch(text); m != nil {
			return m[1]
		}
		select {
		case <-grown:
		case <-late.C:
			t.Fatalf("no %s in the log:\n%s", re, text)
		}
	}
}

const (
	listeningAt = `msg=listening addr=(\S+)`
	adminAt     = `msg=admin addr=(\S+)`
)

// dial opens a connection to a gateway, by the plain protocol, which ends with the test.
func dial(t *testing.T, ctx context.Context, addr, query string) *client.Conn {
	t.Helper()
	c, err := client.Dial(ctx, "ws://"+addr+"/ws"+query, &client.Options{Once: true, Heartbeat: client.Heartbeat{Mode: client.HeartbeatNone}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(ctx), 0, "") })
	return c
}

// TestConsole uses the console on a gateway with a few clients, from signing in to the drain.
func TestConsole(t *testing.T) {
	b := browsertest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var log serverLog
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, Process{Stderr: &log, Args: []string{"serve", "--addr", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--max-conns", "1000", "--max-memory", "none", "--config", "testdata/console.yaml"},
			Environ: []string{"LONGWIRE_ADMIN_TOKEN=" + adminToken}})
	}()
	addr, admin := awaitLog(t, &log, listeningAt), awaitLog(t, &log, adminAt)
	var clients []*client.Conn
	for range 3 {
		c := dial(t, ctx, addr, "?subscribe=news")
		if _, _, err := c.Read(ctx); err != nil { // that it is subscribed
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	gone, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(gone, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	if _, err := gone.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()

	p := b.Page(t)
	p.Expected = []string{"status of 401"}
	p.Driver(consoleDriver)
	p.Navigate("http://" + admin + "/")
	p.Eval(`await shows('.sign-in', 'Admin token'); submit('Admin token', 'not the token of this'.replaceAll(' ', '-')); await shows('.problem', 'not the admin token')`)
	p.Eval(`submit('Admin token', '` + adminToken + `'); await shows('#status', 'live'); await until(() => tile('Connections') === '3')`)
	p.Want(`await view('states'); await until(() => [...document.querySelectorAll('.count')].some((e) => e.textContent === '3')); await shows('#main', 'the kernel is not asked'); return document.querySelectorAll('.diagram')[0].querySelectorAll('.edge').length`, "8")
	p.Eval(`await view('ends'); await until(() => button('client fin') || button('reset')); (button('client fin') ?? button('reset')).click(); await shows('tbody .long', ' ')`)
	p.Want(`await view('sessions'); await shows('.outcome', '3 sessions of 3'); submit('Channel', 'news'); await shows('.outcome', '3 sessions looked at 3 of 3'); return document.querySelectorAll('tbody tr').length`, "3")
	p.Eval(`submit('Channel', 'none'); await shows('tbody', 'No session')`)
	p.Eval(`await view('channels'); await shows('tbody', 'news', '3'); labelled('Channel').value = 'news'; submit('Data', '{"text":"by hand"}'); await shows('.stack', 'Published')`)
	for _, c := range clients {
		if _, m, err := c.Read(ctx); err != nil || !strings.Contains(string(m), "by hand") {
			t.Errorf("a subscriber reads %s, %v", m, err)
		}
	}
	p.Eval(`await view('sessions'); button('Clear').click(); await until(() => document.querySelectorAll('tbody tr.opens').length === 3); $('tbody button').click()
		await shows('.sentence', 'It is open.'); await shows('.timeline', 'opened', 'subscribed', 'news'); await until(() => button('Disconnect'))`)
	p.Eval(`button('Disconnect').click(); submit('Code', '4001'); await shows('.sentence', 'Our application ended it with code 4001')`)
	p.Eval(`await view('node'); await until(() => tile('Connections') === '2'); labelled('Length').value = '0'; button('Drain').click(); await shows('dialog', '2 connections will be closed at once')`)
	p.Calm()
	p.Expected = []string{"net::ERR_", "Failed to load resource"}
	p.Eval(`button('Drain', $('dialog')).click()`)
	for i, c := range clients {
		for {
			if _, _, err := c.Read(ctx); err != nil {
				if ctx.Err() != nil {
					t.Errorf("client %d is still there", i)
				}
				break
			}
		}
	}
	if code := <-ended; code != exitFine {
		text, _ := log.read()
		t.Errorf("exit code %d, log:\n%s", code, text)
	}
	p.Eval(`await until(() => /^lost, trying again in \d+ s$/.test($('#status').innerText))`)
	p.Calm()
}

// TestConsolePictures takes the README's pictures, of a gateway with load on it, and prints how fast the console is there.
func TestConsolePictures(t *testing.T) {
	if *consolePictures == "" || *consoleBinary == "" {
		t.Skip("make screenshots takes pictures")
	}
	dir, err := filepath.Abs(*consolePictures)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	run := func(log *serverLog, args ...string) (pid int) {
		t.Helper()
		cmd := exec.CommandContext(ctx, *consoleBinary, args...)
		cmd.Env = append(os.Environ(), "LONGWIRE_ADMIN_TOKEN="+adminToken)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 20 * time.Second
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cancel(); _ = cmd.Wait() }) // it was interrupted
		return cmd.Process.Pid
	}
	var server, load, churn serverLog
	serve := []string{"serve", "--addr", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--max-conns", fmt.Sprint(max(20_000, *consoleConns*5/4)), "--max-memory", "none", "--config", "testdata/console.yaml", "--trace", "--drain", "0s"}
	if *consoleSilent {
		serve = append(serve, "--ping-after", "off", "--close-after", "off")
	}
	pid := run(&server, serve...)
	addr, admin := awaitLog(t, &server, listeningAt), awaitLog(t, &server, adminAt)
	hold := []string{"stress", "--target", "ws://" + addr + "/ws", "--max-conns", fmt.Sprint(*consoleConns), "--ramp-up", fmt.Sprintf("%ds", *consoleConns/8000), "--timeout", "30s", "--duration", "30m"}
	if *consoleConns <= 100_000 { // a publication to more keeps both ends busy for seconds
		hold = append(hold, "--protocol", "plain", "--scenario", "publish", "--channel", "news", "--rate", fmt.Sprint(6000/float64(*consoleConns)))
	}
	run(&load, hold...)
	run(&churn, "stress", "--target", "ws://"+addr+"/ws", "--max-conns", "200", "--duration", "30m", "--scenario", "churn", "--ramp-up", "4s", "--lifetime", "4s")

	awaitConns(t, ctx, admin, *consoleConns)

	p := browsertest.Start(t).Page(t)
	p.Driver(consoleDriver)
	p.Size(1280, 800)
	p.Expected = []string{"status of 401"}
	p.Navigate("http://" + admin + "/")
	p.Eval(fmt.Sprintf(`await shows('.sign-in', 'Admin token'); submit('Admin token', %q); await until(() => tile('Connections'))`, adminToken))
	p.Navigate("http://" + admin + "/")
	t.Log("figure: conns, and ms from the request to the first paint, to the first paint with content and to the first figures: " + p.Eval(`await until(() => /\d/.test(tile('Connections'))); const figures = performance.now(); await until(() => performance.getEntriesByType('paint').length === 2)
		return tile('Connections') + '; ' + performance.getEntriesByType('paint').map((e) => Math.round(e.startTime)).join(', ') + ', ' + Math.round(figures)`))
	t.Log("figure: ms between updates: " + p.Eval(`const at = []; const o = new MutationObserver(() => { if (!at.length || performance.now() - at.at(-1) > 100) at.push(performance.now()); }); o.observe($('.plots'), { subtree: true, attributes: true, attributeFilter: ['d'] });
		await until(() => at.length > 15); return at.slice(1).map((v, i) => Math.round(v - at[i])).join(' ')`))
	if *consoleConns >= 100_000 {
		consoleCost(t, ctx, p, admin, pid)
	}
	p.Navigate("http://" + admin + "/")
	// Plots of a minute are no beauty.
	p.Eval(`await new Promise((done) => setTimeout(done, 45_000))`)
	for _, c := range []struct {
		name, prepare string
		height        int
	}{
		{"node", `await view('node')`, 800},
		{"states", `await view('states')`, 1130},
		{"why", `await view('ends'); await until(() => $('table.bars button')); button('client').click(); await until(() => $('#main tr.opens .time')); $('.opens .time').click(); await shows('.timeline', 'ended')`, 620},
	} {
		for _, theme := range []string{"light", "dark"} {
			p.Size(1280, c.height)
			p.Theme(theme, "screen")
			p.Eval(`scrollTo(0, 0); ` + c.prepare)
			p.Drawn()
			picture(t, p, filepath.Join(dir, "console-"+c.name+"-"+theme+".png"))
		}
	}
	p.Calm()
}

// consoleCost prints what the console costs a gateway, and how long searches take.
func consoleCost(t *testing.T, ctx context.Context, p *browsertest.Page, admin string, pid int) {
	t.Helper()
	// The same time with it and without it, in turns.
	var with, without []string
	for range 3 {
		for _, c := range []struct {
			url  string
			took *[]string
		}{{"http://" + admin + "/", &with}, {"about:blank", &without}} {
			p.Navigate(c.url)
			begin := processorTime(t, pid)
			p.Eval(`await new Promise((done) => setTimeout(done, 20_000))`)
			*c.took = append(*c.took, fmt.Sprint((processorTime(t, pid) - begin).Milliseconds()))
		}
	}
	t.Logf("figure: ms of the gateway's processor time in 20 s: %s with the console open, %s without", strings.Join(with, ", "), strings.Join(without, ", "))
	var searches []string
	for range 10 {
		var found struct {
			Took    float64 `json:"took_ms"`
			Scanned int
		}
		adminCall(t, ctx, admin, "POST", "sessions", `{"address":"203.0.113.1"}`, &found)
		searches = append(searches, fmt.Sprintf("%.0f of %d", found.Took, found.Scanned))
	}
	t.Log("figure: ms of a search that finds nobody, and connections looked at: " + strings.Join(searches, ", "))
}

// awaitConns waits until a gateway has so many connections.
func awaitConns(t *testing.T, ctx context.Context, admin string, n int) {
	t.Helper()
	for seq := 0; ; {
		var live struct{ Seq, Conns int }
		adminCall(t, ctx, admin, "GET", fmt.Sprintf("live?after=%d", seq), "", &live)
		if live.Conns >= n {
			return
		}
		seq = live.Seq
	}
}

// adminCall asks the admin API and reads the answer into v.
func adminCall(t *testing.T, ctx context.Context, admin, method, call, body string, v any) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+admin+"/admin/v1/"+call, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	err = json.NewDecoder(resp.Body).Decode(v)
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
}

// processorTime is what a process has used so far.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	p, err := sys.ReadProcess(os.DirFS("/"), pid)
	if err != nil {
		t.Fatal(err)
	}
	return p.CPU
}

// picture writes what the window shows as a small PNG: with the 256 colors that are most of it.
func picture(t *testing.T, p *browsertest.Page, file string) {
	t.Helper()
	p.Capture(file, nil)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(f)
	_ = f.Close()
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[color.Color]int)
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			count[img.At(x, y)]++
		}
	}
	often := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int { return cmp.Compare(count[b], count[a]) })
	few := image.NewPaletted(img.Bounds(), often[:min(256, len(often))])
	nearest := make(map[color.Color]uint8)
	for c := range count {
		nearest[c] = uint8(few.Palette.Index(c))
	}
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			few.SetColorIndex(x, y, nearest[img.At(x, y)])
		}
	}
	if f, err = os.Create(file); err != nil {
		t.Fatal(err)
	}
	e := png.Encoder{CompressionLevel: png.BestCompression}
	if err := e.Encode(f, few); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDevConsole has the console on the gateway's own port with --dev, without a token, and the demo page beside it.
func TestDevConsole(t *testing.T) {
	b := browsertest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log serverLog
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, Process{Stderr: &log, Args: []string{"serve", "--dev", "--addr", "127.0.0.1:0", "--max-conns", "1000", "--max-memory", "none", "--drain", "0s"}})
	}()
	site := "http://" + awaitLog(t, &log, listeningAt) + "/"
	p := b.Page(t)
	p.Driver(consoleDriver)
	p.Navigate(site)
	p.Want(`await shows('#status', 'live'); await view('about'); return getComputedStyle($('#sign-out')).display + [...document.querySelectorAll('#main a')].map((a) => a.href).join()`, "none"+site+"demo/")
	p.Want(`$('#main a').click(); return 'gone'`, "gone")
	p.Calm()
	resp, err := http.Get(site + "demo/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%sdemo/: %s", site, resp.Status)
	}
	cancel()
	<-ended
}
