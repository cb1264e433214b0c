package main

import (
	"flag"
	"path/filepath"
	"testing"

	"github.com/longwire/longwire/internal/browsertest"
)

var (
	screenshots = flag.String("screenshots", "", "directory for pictures of the page; empty takes none")
	picture     = flag.String("picture", "", "file for the README's picture; empty takes none")
)

// open is a new page. name is what it is called in the room.
func open(t *testing.T, b *browsertest.Browser, url, name string) *browsertest.Page {
	t.Helper()
	p := b.Page(t)
	// That is how Chromium tells of an attempt to connect that failed or was given up. There are to be some.
	p.Expected = []string{"WebSocket connection to '"}
	p.Driver(driver)
	p.Size(1280, 860)
	p.Navigate(url + "#" + name)
	p.Want(`await shows('#present', '(you)'); await shows('#state-text', 'connected'); return document.title`, "Longwire chat: pull the cable")
	return p
}

// driver is what the test has in the page beside what the page has.
const driver = `
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

// photograph takes a picture in light and one in dark, if it is asked for.
func photograph(p *browsertest.Page, name string, whole bool) {
	p.T.Helper()
	for _, theme := range []string{"light", "dark"} {
		p.Theme(theme, "screen")
		if *screenshots != "" {
			p.Capture(filepath.Join(*screenshots, name+"-"+theme+".png"), map[string]any{"captureBeyondViewport": whole})
		}
	}
}

// TestPage plays windows against each other, as people would.
func TestPage(t *testing.T) {
	addr, stop := start(t, "")
	site := "http://" + addr + "/"
	b := browsertest.Start(t)
	// The cable of this window is out until the end: the others do not notice.
	three := open(t, b, site, "Lynx")
	three.Want(`click('pull'); await shows('#cable-text', 'out:'); return document.getElementById('pull').disabled`, "true")
	one, two := open(t, b, site, "Otter"), open(t, b, site, "Heron")
	photograph(one, "1-new", false)

	one.Want(`say('hello', 'grüße, κόσμε'); await shows('#lines .own', 'κόσμε'); return said('#pending')`, "")
	two.Want(`await shows('#lines .line:not(.own)', 'hello', 'κόσμε'); return said()`, "hello grüße, κόσμε")
	two.Want(`await shows('#present', 'Otter', 'Heron (you)'); return document.getElementById('present').className`, "")

	// Cut is no doubt at all. Slow is slow, and no reason for any.
	two.Want(`click('cut'); await shows('#log', '→ backoff', 'backoff → connecting'); click('slow'); await shows('#cable-text', 'slow'); return tally()`, "0 0 0")

	// The cable is pulled: doubt, more doubt, and the line is given up. What both say meanwhile is there when it is back,
	// what was sent into the silence too.
	one.Want(`document.getElementById('pull').focus(); click('pull'); await shows('#cable-text', 'out:'); say('mine, 0'); return document.activeElement.id`, "plug")
	one.Want(`await shows('#log', 'idle → waiting-pong', 'waiting-pong → retry-pending', 'retry-pending → backoff'); return tally()`, "0 0 0")
	one.Want(`say('mine, 1', 'mine, 2'); return said('#pending .waits')`, "mine, 0 mine, 1 mine, 2")
	two.Want(`say('missed 1', 'missed 2', 'missed 3'); await shows('#lines .own', 'missed 3'); return tally()`, "0 0 0")
	photograph(one, "2-out", false)
	one.Want(`click('plug'); await shows('#lines .divider', 'recovered 3'); await shows('#lines .own', 'mine, 2'); return said('#lines .recovered')`, "missed 1 missed 2 missed 3")
	one.Want(`await shows('#state-text', 'connected'); return said() + ' | ' + said('#pending') + '| ' + tally()`, "hello grüße, κόσμε missed 1 missed 2 missed 3 mine, 0 mine, 1 mine, 2 | | 3 0 0")
	two.Want(`await shows('#lines', 'mine, 2'); return said() + ' | ' + tally()`, "hello grüße, κόσμε missed 1 missed 2 missed 3 mine, 0 mine, 1 mine, 2 | 0 0 0")
	photograph(one, "3-back", false)

	// Out for long: the fuse opens, and closes by a trial.
	three.Want(`await shows('#log', 'connecting → melted'); return tally()`, "0 0 0")
	photograph(three, "4-melted", false)
	three.Want(`click('plug'); await shows('#log', 'melted → trial', 'trial → idle'); await shows('#lines .divider', 'recovered 8'); return said('#lines .recovered') + ' | ' + tally()`,
		"hello grüße, κόσμε missed 1 missed 2 missed 3 mine, 0 mine, 1 mine, 2 | 8 0 0")
	photograph(three, "5-trial", false)
	if *picture != "" {
		three.Theme("light", "screen")
		three.Capture(*picture, map[string]any{"format": "webp", "quality": 80})
	}

	// A page that comes later sees what was said before. On a small screen nothing is wider than it.
	late := open(t, b, site, "Newt")
	late.Size(390, 844)
	late.Want(`await shows('#lines', 'mine, 2'); return said()`, "hello grüße, κόσμε missed 1 missed 2 missed 3 mine, 0 mine, 1 mine, 2")
	late.Want(`return document.documentElement.scrollWidth`, "390")
	late.Want(`return unlabelled().join(' ')`, "")
	photograph(late, "6-small", true)

	// Another gateway has no memory of the one before, and the page says so; what is said from then on is all there.
	stop()
	start(t, addr)
	late.Want(`await shows('#lines .divider.bad', 'gone'); say('anew'); await shows('#lines .own', 'anew'); return said('#pending') + tally()`, "0 0 0")
	two.Want(`await shows('#lines', 'anew'); return tally()`, "0 0 0")
	for _, p := range []*browsertest.Page{one, two, three, late} {
		p.Calm()
	}
}
