package interop

import (
	"flag"
	"path/filepath"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/browsertest"
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
	b := browsertest.Start(t).Page(t)
	b.Driver(demoDriver)
	b.Navigate("http://" + g.Addr().String() + demo.Prefix)
	b.Want(`return document.title`, "Longwire: try it")
	for _, theme := range []string{"light", "dark"} {
		picture(b, "1-new", theme)
	}

	b.Want(`$('connect').click(); await shows('state', 'connected'); return $('client').textContent.length`, "36")
	b.Want(`$('subscribe').click(); await shows('messages', 'subscribed to news'); await shows('presence', 'this page'); return $('present-count').textContent`, "1")
	b.Want(`$('data').value = '{"text": "grüße, κόσμε"}'; $('publish').click(); await shows('messages', 'κόσμε');
		return $('messages').querySelector('li:has(.data)').innerText.split('\n').slice(0, 2).join(' ')`, `1 {"text":"grüße, κόσμε"}`)
	b.Want(`$('data').value = '{"text": '; $('publish').click(); await shows('problem', 'no JSON'); return document.querySelectorAll('#messages .data').length`, "1")
	b.Want(`$('data').value = '{"text": "hello"}'; $('clear-frames').click(); $('publish').click(); await shows('message-count', '2'); await shows('frames', '"publish":{}'); return $('problem').textContent`, "")

	// What another client publishes while the page is away comes back, in order and marked as such.
	b.Want(`$('cut').click(); await shows('state', 'connecting'); await shows('messages', 'recovered', '"missed":3'); await shows('state', 'connected');
		return [...document.querySelectorAll('#messages li:has(.mark)')].map((li) => li.querySelector('.offset').textContent + li.querySelector('.data').textContent).join(' ')`,
		`3{"missed":1} 4{"missed":2} 5{"missed":3}`)
	b.Want(`await shows('frames', '"recovered":true', 'closed: 4000'); return [...document.querySelectorAll('#frames .sent .what')].filter((e) => e.textContent.includes('"recover":true')).length`, "1")
	for _, theme := range []string{"light", "dark"} {
		picture(b, "2-used", theme)
	}

	// On a small screen nothing is wider than it.
	b.Size(400, 800)
	b.Want(`return document.documentElement.scrollWidth`, "400")
	for _, theme := range []string{"light", "dark"} {
		picture(b, "3-small", theme)
	}

	b.Want(`$('unsubscribe').click(); await shows('messages', 'unsubscribed from news'); await shows('present-count', '0'); return $('subscribe').disabled`, "false")
	b.Want(`$('channel').value = 'другой канал'; $('subscribe').click(); await shows('messages', 'subscribed to другой канал'); await shows('present-count', '1'); return $('publish').disabled`, "false")
	b.Want(`$('disconnect').click(); await shows('state', 'disconnected'); return $('connect').disabled`, "false")
	b.Want(`$('token').value = 'no token'; $('connect').click(); await shows('messages', 'invalid token'); return $('state-text').textContent`, "disconnected")
	b.Want(`return unlabelled().join(' ')`, "")
	b.Calm()
}

// demoDriver is what the test has in the page beside what the page has.
const demoDriver = `
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

// picture takes one if it is asked for.
func picture(p *browsertest.Page, name, theme string) {
	p.T.Helper()
	p.Theme(theme, "screen")
	if *screenshots != "" {
		p.Picture(filepath.Join(*screenshots, name+"-"+theme+".png"))
	}
}
