package console_test

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/browsertest"
)

var screenshots = flag.String("screenshots", "", "directory for pictures of the console; empty takes none")

// driver is what a test has in the page beside what the page has.
const driver = `
	const $ = (selector) => document.querySelector(selector);
	// until waits for something that the page does, and no longer than for a gateway that is gone.
	const until = (what) => new Promise((done, fail) => {
		const end = Date.now() + 30_000;
		const look = () => {
			let got;
			try { got = what(); } catch { }
			if (got) done(got); else if (Date.now() > end) fail(new Error('never ' + what + '\n' + document.body.innerText.slice(0, 1500))); else setTimeout(look, 20);
		};
		look();
	});
	const shows = (selector, ...texts) => until(() => texts.every((text) => ($(selector).innerText ?? $(selector).textContent).includes(text)));
	const view = async (name) => {
		$('nav a[href="#' + name + '"]').click();
		await until(() => $('nav a[aria-current]').dataset.view === name);
	};
	const labelled = (text) => [...document.querySelectorAll('label')].find((l) => l.innerText.trim().startsWith(text)).querySelector('input, select, textarea');
	const fill = (text, value) => { const e = labelled(text); e.value = value; e.dispatchEvent(new Event('input', { bubbles: true })); return e; };
	const button = (text, within = document) => [...within.querySelectorAll('button')].find((b) => b.textContent.startsWith(text) && b.offsetParent);
	const submit = (text, value) => fill(text, value).form.requestSubmit();
	// unlabelled are the controls without a name.
	const unlabelled = () => [...document.querySelectorAll('input, select, textarea, button, [tabindex="0"]')]
		.filter((e) => !(e.labels && e.labels.length > 0) && e.textContent.trim() === '' && !e.ariaLabel).map((e) => e.outerHTML).join();
	// faint are texts whose contrast is below 4.5, which WCAG asks for at level AA.
	const faint = () => {
		const parse = (c) => { const n = (c.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number); return { rgb: n.slice(0, 3), a: n[3] ?? 1 }; };
		const light = (rgb) => { const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
		const out = [];
		for (const e of document.querySelectorAll('body *')) {
			if (!e.checkVisibility() || e.closest(':disabled, .hidden, .skip') || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
			let behind;
			for (let p = e; p; p = p.parentElement) { const c = parse(getComputedStyle(p).backgroundColor); if (c.a === 1) { behind = c.rgb; break; } }
			if (e instanceof SVGElement && e.closest('.box')) { const c = parse(getComputedStyle(e.closest('.box').querySelector('rect')).fill); if (c.a === 1) behind = c.rgb; }
			const style = getComputedStyle(e);
			const front = parse(e instanceof SVGElement ? style.fill : style.color).rgb;
			const [a, b] = [light(front), light(behind)].sort((x, y) => y - x);
			const ratio = (a + 0.05) / (b + 0.05);
			if (ratio < 4.5) out.push(e.textContent.trim().slice(0, 30) + ' ' + ratio.toFixed(2));
		}
		return out.join();
	};
`

// TestPage uses the page in one browser.
func TestPage(t *testing.T) {
	b := browsertest.Start(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *browsertest.Browser)
	}{
		{"looks", looks}, {"sign in", signIn}, {"lost", lost}, {"sessions", sessions}, {"why", why}, {"by hand", byHand}, {"quiet updates", quietUpdates}, {"keys", keys},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, b) })
	}
}

// views are all of them, with a text that each shows when it has its figures.
var views = []struct{ name, selector, text string }{
	{"node", ".tiles", "1,000"}, {"states", ".diagram", "990"}, {"ends", "table.bars", "heartbeat timeout"}, {"sessions", "#main tbody", "client-0000000"},
	{"why", "#main", "Find"}, {"channels", "#main tbody", "news"}, {"about", "#main", "1.2.3"},
}

// open opens the console of m, which lets everybody in.
func open(t *testing.T, b *browsertest.Browser, m *mock) *browsertest.Page {
	t.Helper()
	p := b.Page(t)
	p.Driver(driver)
	p.Size(1280, 900)
	p.Navigate(m.URL + "/")
	p.Eval(`await shows('#status', 'live')`)
	return p
}

// asked fails the test unless the mock was asked for exactly these since the last time.
func asked(t *testing.T, m *mock, want ...string) {
	t.Helper()
	got := m.questions()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("asked for\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// push has the next snapshot be sent.
func push(t *testing.T, m *mock) {
	t.Helper()
	select {
	case m.pushed <- struct{}{}:
	case <-time.After(time.Minute):
		t.Fatal("the page asks for no newer snapshot")
	}
}

// looks has every view in both themes and three widths: nothing is wider than the page, too faint, or without a name.
func looks(t *testing.T, b *browsertest.Browser) {
	m := newMock(t)
	m.set(func() {
		m.snapshot["tcp"] = map[string]any{"available": true, "states": map[string]any{"ESTABLISHED": 990}, "edges": map[string]any{
			"SYN_RECV>ESTABLISHED": 12.5, "ESTABLISHED>FIN_WAIT1": 3210, "FIN_WAIT1>FIN_WAIT2": 3210, "FIN_WAIT1>CLOSING": 1, "FIN_WAIT2>TIME_WAIT": 5, "CLOSING>TIME_WAIT": 1, "TIME_WAIT>CLOSE": 0,
			"FIN_WAIT2>CLOSE": 3210, "ESTABLISHED>CLOSE_WAIT": 77, "CLOSE_WAIT>LAST_ACK": 77, "LAST_ACK>CLOSE": 77, "ESTABLISHED>CLOSE": 0.2, "FIN_WAIT1>CLOSE": 4}}
		for name := range m.snapshot["ws"].(map[string]any)["edges"].(map[string]any) {
			m.snapshot["ws"].(map[string]any)["edges"].(map[string]any)[name] = 1234.5
		}
	})
	p := open(t, b, m)
	for _, theme := range []string{"light", "dark"} {
		p.Theme(theme, "screen")
		for _, width := range map[string][]int{"light": {1280, 700, 360}, "dark": {1280}}[theme] {
			p.Size(width, 900)
			for _, v := range views {
				p.Eval(fmt.Sprintf(`await view(%q); await shows(%q, %q)`, v.name, v.selector, v.text))
				p.Drawn()
				what := fmt.Sprintf("%s, %s, %d px", v.name, theme, width)
				if got := p.Eval(`const e = document.documentElement; return e.scrollWidth - e.clientWidth`); got != "0" {
					t.Errorf("%s: the page is %s px too wide", what, got)
				}
				if got := p.Eval(`return faint()`); got != "" {
					t.Errorf("%s: faint: %s", what, got)
				}
				if got := p.Eval(`return unlabelled()`); got != "" {
					t.Errorf("%s: without a name: %s", what, got)
				}
				if *screenshots != "" {
					p.Picture(filepath.Join(*screenshots, fmt.Sprintf("%s-%s-%d.png", v.name, theme, width)))
				}
			}
		}
	}
	// The switch goes before what the system prefers, and is remembered.
	ground := `return getComputedStyle(document.body).backgroundColor`
	dark := p.Eval(ground)
	p.Eval(`const s = $('#theme'); s.value = 'light'; s.dispatchEvent(new Event('change'))`)
	if got := p.Eval(ground); got == dark {
		t.Errorf("with the switch at light the ground is %s", got)
	}
	p.Navigate(m.URL + "/")
	if got := p.Eval(ground); got == dark {
		t.Errorf("after a reload with the switch at light the ground is %s", got)
	}
	p.Calm()
}

// signIn asks for the token, and says what is wrong with a wrong one.
func signIn(t *testing.T, b *browsertest.Browser) {
	m := newMock(t)
	m.set(func() { m.token = "a-token-of-the-admin" })
	p := b.Page(t)
	p.Expected = []string{"status of 401", "status of 429"} // as Chromium tells of any such answer
	p.Driver(driver)
	p.Navigate(m.URL + "/#sessions")
	p.Want(`await shows('.sign-in', 'Admin token'); return document.activeElement === labelled('Admin token')`, "true")
	p.Want(`return getComputedStyle($('#sign-out')).display + $('nav').innerText`, "none")
	p.Want(`submit('Admin token', 'no good'); await shows('.sign-in .problem', 'no spaces'); return sessionStorage.length`, "0")
	p.Want(`submit('Admin token', 'wrong'); await shows('.sign-in .problem', 'not the admin token'); return sessionStorage.length`, "0")
	m.set(func() { m.throttle = true })
	p.Want(`submit('Admin token', 'wrong'); await shows('.sign-in .problem', 'Too many wrong tokens'); return button('Sign in').disabled`, "true")
	p.Want(`return /in [12] s/.test(button('Sign in').textContent)`, "true")
	p.Eval(`await until(() => !button('Sign in').disabled)`)
	if *screenshots != "" {
		p.Picture(filepath.Join(*screenshots, "sign-in.png"))
	}
	p.Eval(`submit('Admin token', 'a-token-of-the-admin'); await shows('#main tbody', 'client-0000000'); await shows('#status', 'live')`)
	p.Want(`return [sessionStorage.length, localStorage.length, document.cookie].join()`, "1,0,")
	for _, r := range p.Requests {
		if strings.Contains(r, "token") {
			t.Errorf("the page asks for %s", r)
		}
	}
	// The tab keeps it, and forgets it when told to, with everything that was shown.
	p.Navigate(m.URL + "/#sessions")
	p.Eval(`await shows('#main tbody', 'client-0000000')`)
	p.Want(`$('#sign-out').click(); await shows('.sign-in', 'Admin token'); return [sessionStorage.length, document.body.innerHTML.includes('client-0'), $('nav').innerText].join()`, "0,false,")
	// A token that was changed ends the page that has the old one.
	p.Eval(`submit('Admin token', 'a-token-of-the-admin'); await shows('#status', 'live')`)
	m.set(func() { m.token, m.throttle = "another", false })
	p.Want(`await shows('.sign-in .problem', 'not good any more'); return sessionStorage.length`, "0")
	p.Calm()
}

// lost has the gateway go away and come back.
func lost(t *testing.T, b *browsertest.Browser) {
	m := newMock(t)
	p := open(t, b, m)
	p.Expected = []string{"status of 503", "status of 502"}
	m.set(func() { m.status = 502 })
	p.Eval(`await until(() => /^lost, trying again in \d+ s$/.test($('#status').innerText))`)
	p.Want(`return $('#said').textContent + $('#status').title`, "Something between answered with 502: the gateway cannot be reached.Something between answered with 502: the gateway cannot be reached.")
	if *screenshots != "" {
		p.Picture(filepath.Join(*screenshots, "lost.png"))
	}
	m.set(func() { m.status = 503 })
	p.Eval(`button('Try now').click(); await until(() => /^busy, trying again in [1-5] s$/.test($('#status').innerText))`)
	m.set(func() { m.status = 0; m.snapshot["conns"] = 4321 })
	p.Eval(`button('Try now').click(); await shows('#status', 'live'); await shows('.tiles', '4,321')`)
	p.Want(`return $('#said').textContent + $('#try-now').checkVisibility()`, "The gateway answers again.false")
	// Nobody looks: nothing is asked for. A page that goes on would soon wait for the next snapshot again.
	p.Eval(`Object.defineProperty(document, 'visibilityState', { configurable: true, value: 'hidden' }); document.dispatchEvent(new Event('visibilitychange')); await shows('#status', 'paused')`)
	for deadline := time.Now().Add(20 * time.Second); ; {
		m.mu.Lock()
		held := m.held
		m.mu.Unlock()
		if held == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a hidden page waits for the next snapshot")
		}
		p.Drawn()
	}
	p.Eval(`delete document.visibilityState; document.dispatchEvent(new Event('visibilitychange')); await shows('#status', 'live')`)
	p.Calm()
}

// sessions pages through a million, and opens one.
func sessions(t *testing.T, b *browsertest.Browser) {
	m := newMock(t)
	m.set(func() { m.users = hostile })
	p := open(t, b, m)
	p.Eval(`await view('sessions'); await shows('.outcome', '50 sessions of 1,000,000')`)
	p.Want(`return document.querySelectorAll('tbody tr').length`, "50")
	p.Want(`button('Next →').click(); await shows('tbody', 'client-0000050'); button('Next →').click(); await shows('tbody', 'client-0000100'); await shows('.outcome', 'page 3'); return document.querySelectorAll('tbody tr').length`, "50")
	p.Eval(`button('← Previous').click(); await shows('tbody', 'client-0000050'); await shows('.outcome', 'page 2')`)
	asked(t, m, "node", `sessions {"limit":50}`, `sessions {"limit":50,"cursor":"1"}`, `sessions {"limit":50,"cursor":"2"}`, `sessions {"limit":50,"cursor":"1"}`)
	p.Eval(`fill('Channel', 'news'); fill('Endpoint', '/ws'); labelled('slow').click(); submit('User', ' ann '); await shows('.outcome', 'looked at 50 of 1,000,000')`)
	asked(t, m, `sessions {"user":"ann","channel":"news","endpoint":"/ws","slow":true,"limit":50}`)
	// By the keyboard: a row opens.
	p.Eval(`button('client-0000003').focus()`)
	p.Key("Enter")
	p.Want(`await shows('h1', 'Why'); await shows('.timeline', 'connected'); await shows('#main', 'Now', 'subscriptions'); return document.activeElement.tagName + location.href.includes('client') + document.querySelectorAll('img').length`, "H1false1")
	asked(t, m, `why {"client":"client-0000003","limit":1}`, `sessions {"client":"client-0000003","limit":1}`)
	p.Eval(`button('Disconnect').click(); await shows('dialog', 'Disconnect this client?')`)
	p.Want(`return document.activeElement.textContent`, "Cancel")
	p.Eval(`fill('Code', '12'); button('Disconnect', $('dialog')).click(); await until(() => !labelled('Code').validity.valid)`)
	asked(t, m)
	p.Eval(`fill('Code', '4000'); submit('Reason', 'by "hand"'); await until(() => !$('dialog'))`)
	if got := m.questions(); len(got) == 0 || got[0] != `disconnect {"client":"client-0000003","code":4000,"reason":"by \"hand\""}` {
		t.Errorf("asked for %q", got)
	}
	// The focus is never lost, though what had it is made anew.
	p.Want(`return document.activeElement.tagName`, "H1")
	p.Want(`button('Look again').focus(); document.activeElement.click(); return 'clicked'`, "clicked")
	p.Want(`await until(() => document.activeElement.textContent.startsWith('Disconnect')); return document.activeElement.isConnected`, "true")
	// Back is where one came from.
	p.Want(`history.back(); await shows('h1', 'Sessions'); return labelled('User').value`, " ann ")
	p.Calm()
}

// why tells of a cause's connections, and of one that has no record.
func why(t *testing.T, b *browsertest.Browser) {
	m := newMock(t)
	p := open(t, b, m)
	p.Expected = []string{"status of 409"}
	p.Eval(`await view('ends'); await shows('table.bars', 'client close')`)
	p.Want(`return [...document.querySelectorAll('table.bars')[0].querySelectorAll('tbody tr')].map((r) => r.innerText.trim().replace(/\s+/g, ' ')).join()`, "client close 70 0,heartbeat timeout 7 0")
	m.questions()
	p.Eval(`button('heartbeat timeout').click(); await shows('#main', 'Ended by heartbeat timeout', 'The network went silent', 'the record begins 2026-11-22')`)
	asked(t, m, `why {"cause":"heartbeat_timeout","limit":50}`)
	p.Eval(`button('client-0000007').click(); await shows('.sentence', 'never acknowledged'); await shows('#main', 'Evidence', '5 timeouts in a row', '+250 ms', 'ours 3012', 'SYN_RECV → ESTABLISHED → CLOSE')`)
	if *screenshots != "" {
		p.Picture(filepath.Join(*screenshots, "why-ended.png"))
	}
	m.questions()
	p.Eval(`fill('By', 'user'); submit('Is', 'ann'); await shows('.outcome', '3 connections; the record begins')`)
	asked(t, m, `why {"user":"ann","limit":50}`)
	// Without a record an open session is there all the same.
	m.set(func() { m.recorder = false })
	p.Eval(`await view('sessions'); await shows('tbody', 'client-0000001'); button('client-0000001').click(); await shows('.notice', 'records nothing'); await shows('#main', '1 min 1 s')`)
	p.Eval(`await view('why'); submit('Is', 'x'); await shows('.outcome', 'records nothing')`)
	p.Calm()
}

// byHand publishes and drains.
func byHand(t *testing.T, b *browsertest.Browser) {
	m := newMock(t)
	p := open(t, b, m)
	p.Eval(`await view('channels'); await shows('tbody', 'news'); button('Publish', $('tbody')).click()`)
	p.Want(`return labelled('Channel').value + document.activeElement.tagName`, "newsTEXTAREA")
	m.questions()
	p.Eval(`fill('Data', '{\n"a": }'); await shows('.stack', 'line 2, column 6'); labelled('Data').form.requestSubmit()`)
	asked(t, m)
	// Numbers that a browser cannot hold go as they were typed.
	p.Eval(`submit('Data', '{"n": 12345678901234567890}'); await shows('.stack', 'Published at offset 7.')`)
	asked(t, m, `publish {"channel":"news","data":{"n": 12345678901234567890}}`)
	p.Want(`button('Sessions', $('tbody')).click(); await shows('h1', 'Sessions'); await shows('tbody', 'client-0000001'); return labelled('Channel').value`, "news")

	m.questions()
	p.Eval(`await view('node'); await shows('.tiles', '1,000'); fill('Length', '30'); button('Drain').click()
		await shows('dialog', 'Drain this node?', '1,000 connections will be closed, spread evenly over 30 s', 'cannot be taken back')`)
	p.Key("Escape")
	p.Eval(`await until(() => !$('dialog'))`)
	asked(t, m)
	p.Eval(`button('Drain').click(); button('Drain', $('dialog')).click(); await until(() => !$('dialog'))`)
	asked(t, m, `drain {"length_s":30}`)
	m.set(func() { m.snapshot["draining"] = true; m.snapshot["conns"] = 12 })
	p.Want(`await shows('#status', 'draining'); await shows('#main', 'It drains: 12 connections left.'); return button('Shorten').textContent`, "Shorten…")
	p.Calm()
}

// quietUpdates has figures change greatly: nothing on the page moves, and a screen reader is told nothing.
func quietUpdates(t *testing.T, b *browsertest.Browser) {
	m := newMock(t)
	p := open(t, b, m)
	for _, v := range []string{"node", "states", "ends"} {
		p.Eval(fmt.Sprintf(`await view(%q); await until(() => $('#main').innerText.length > 100)`, v))
		p.Drawn()
		p.Eval(`globalThis.moved = []; globalThis.note = (list) => { for (const e of list) for (const s of e.sources) moved.push(s.node?.parentElement?.outerHTML?.slice(0, 200) ?? s.node?.textContent); };
			globalThis.watch = new PerformanceObserver((list) => note(list.getEntries())); watch.observe({ type: 'layout-shift' })`)
		for i := range 3 {
			m.set(func() {
				rates := map[string]any{}
				for name := range m.snapshot["rates"].(map[string]any) {
					rates[name] = []float64{0.3, 98_765.4, 7, 12_345_678}[i]
				}
				m.snapshot["rates"] = rates
				m.snapshot["conns"], m.snapshot["rss_bytes"] = []int{1_000_000, 7, 99_999, 100}[i], 83_200_000*(i+1)
				m.snapshot["ws"].(map[string]any)["edges"].(map[string]any)["accept>handshake"] = rates["accepted"]
				m.snapshot["causes"].([]any)[0].(map[string]any)["rate"] = rates["closed"]
			})
			push(t, m) // the page asks for the next when it has shown the one before
			p.Drawn()
		}
		if got := p.Eval(`note(watch.takeRecords()); return [...new Set(moved)].join('\n')`); got != "" {
			t.Errorf("%s: parts of the page moved:\n%s", v, got)
		}
	}
	p.Want(`return $('#said').textContent`, "")
	p.Calm()
}

// keys goes through the page by the keyboard alone.
func keys(t *testing.T, b *browsertest.Browser) {
	m := newMock(t)
	p := open(t, b, m)
	p.Key("Tab")
	p.Want(`return document.activeElement.textContent + (document.activeElement.getBoundingClientRect().left >= 0)`, "Skip to the contenttrue")
	p.Key("Enter")
	p.Want(`return document.activeElement.id + location.hash`, "main")
	// The first plot takes the focus next, and its cursor goes back in time, in all plots.
	p.Key("Tab")
	p.Want(`return document.activeElement.className + getComputedStyle(document.activeElement).outlineStyle`, "plotsolid")
	p.Key("ArrowLeft")
	p.Key("ArrowLeft")
	p.Want(`return [...document.querySelectorAll('.when')].every((e) => e.textContent.endsWith('ago'))`, "true")
	p.Key("Escape")
	p.Want(`return [...document.querySelectorAll('.when')].every((e) => e.textContent === '')`, "true")
	p.Calm()
}
