package cli

import (
	"context"
	"regexp"
	"testing"
	"time"

	"github.com/longwire/longwire/client"
	"github.com/longwire/longwire/internal/browsertest"
)

// TestConsoleTraced has the kernel's figures of a gateway on the console's diagram of TCP, and a drain that is paced, and then
// shortened.
func TestConsoleTraced(t *testing.T) {
	b := browsertest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var log serverLog
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, Process{Stderr: &log, Args: []string{"serve", "--trace", "--addr", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--max-conns", "1000", "--max-memory", "none", "--config", "testdata/console.yaml"},
			Environ: []string{"LONGWIRE_ADMIN_TOKEN=" + adminToken}})
	}()
	addr, admin := awaitLog(t, &log, listeningAt), awaitLog(t, &log, adminAt)
	if text, _ := log.read(); regexp.MustCompile(`a level of tracing is refused|connections are not traced`).MatchString(text) {
		cancel()
		<-ended
		t.Skipf("the kernel refuses probes: %s", text)
	}
	var clients []*client.Conn
	for range 5 {
		clients = append(clients, dial(t, ctx, addr, ""))
	}

	p := b.Page(t)
	p.Expected = []string{"status of 401"}
	p.Driver(consoleDriver + `
		const tcp = () => $('#main').querySelectorAll('section')[1];
		const figure = (name) => Number([...tcp().querySelectorAll('tr')].find((r) => r.querySelector('th').textContent === name)?.querySelector('td').textContent ?? 0);
		const drawn = (label) => [...tcp().querySelectorAll('.diagram .box')].find((b) => b.querySelector('text').textContent === label).querySelector('.count').textContent;
	`)
	p.Navigate("http://" + admin + "/")
	p.Eval(`await shows('.sign-in', 'Admin token'); submit('Admin token', '` + adminToken + `'); await until(() => tile('Connections') === '5')`)
	p.Eval(`await view('states'); await until(() => drawn('ESTABLISHED') === '5' && figure('ESTABLISHED') === 5)`)
	// One goes: its way is on an arrow as it goes, and its state counts one less.
	p.Eval(`window.went = until(() => figure('ESTABLISHED → FIN_WAIT1') + figure('ESTABLISHED → CLOSE_WAIT') > 0 && tcp().querySelector('.edge.moving')); window.went.catch(() => { })`)
	if err := clients[0].Close(ctx, 1000, ""); err != nil {
		t.Fatal(err)
	}
	p.Eval(`await window.went; await until(() => drawn('ESTABLISHED') === '4')`)
	p.Calm()

	// A drain of four connections over 20 s has closed some and not all at some time; then it is shortened.
	p.Expected = []string{"net::ERR_", "Failed to load resource"}
	p.Eval(`await view('node'); await until(() => tile('Connections') === '4'); labelled('Length').value = '20'; button('Drain').click(); await shows('dialog', '4 connections will be closed, spread evenly over 20 s'); button('Drain', $('dialog')).click()
		await until(() => /It drains: [123] connections? left/.test($('#main').innerText))`)
	p.Eval(`labelled('Length').value = '0'; button('Shorten').click(); await shows('dialog', 'It is under way'); button('Shorten it', $('dialog')).click()`)
	for i, c := range clients[1:] {
		var err error
		for err == nil {
			_, _, err = c.Read(ctx)
		}
		if ctx.Err() != nil {
			t.Errorf("client %d is still there", i+1)
		}
	}
	if code := <-ended; code != exitFine {
		text, _ := log.read()
		t.Errorf("exit code %d, log:\n%s", code, text)
	}
	if text, _ := log.read(); !regexp.MustCompile(`by hand: drain" .*over=20s under_way=false`).MatchString(text) || !regexp.MustCompile(`by hand: drain" .*over=0s under_way=true`).MatchString(text) {
		t.Errorf("the log tells of no drain over 20 s that was shortened:\n%s", text)
	}
}
