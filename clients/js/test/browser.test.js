// LongwireSocket in pages and a worker of a headless Chromium, against the gateway.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { build } from 'esbuild';
import { Browser, findChromium } from './chromium.js';
import { haveGo, listening, longwire } from './tools.js';

const program = findChromium();
const skip = (!program && 'chromium is not installed: make setup') || (!haveGo() && 'go is not installed');

let gateway, browser, pages, site;
before(async () => {
  if (skip) return;
  const script = async (name) => {
    const { outputFiles } = await build({
      entryPoints: [fileURLToPath(new URL(`testdata/${name}`, import.meta.url))],
      bundle: true,
      format: 'esm',
      target: 'es2020',
      write: false,
    });
    return outputFiles[0].text;
  };
  const files = { '/page.js': await script('page.js'), '/worker.js': await script('worker.js') };
  pages = createServer((request, response) => {
    const js = files[request.url];
    response.setHeader('Content-Type', js ? 'text/javascript' : 'text/html');
    response.end(js ?? '<!doctype html><title>page</title><script type="module" src="/page.js"></script>');
  });
  pages.listen(0, '127.0.0.1');
  site = (await listening(pages)).replace('ws', 'http');
  gateway = await longwire();
  browser = await Browser.launch(program);
});
after(async () => {
  if (skip) return;
  pages.close();
  pages.closeAllConnections();
  await Promise.all([browser?.close(), gateway?.stop()]);
});

const ws = () => JSON.stringify(`ws://${gateway.addr}/ws`);

async function page(options) {
  const tab = await browser.open(`${site}/`);
  await tab.until('window.ready');
  if (options) {
    await tab.run(`connect(${ws()}, ${JSON.stringify(options)})`);
    await tab.until('s.readyState === WebSocket.OPEN');
  }
  return tab;
}

const offline = (tab, offline) => tab.call('Network.emulateNetworkConditions', { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });

test('a page', { skip }, async () => {
  const tab = await page({ heartbeat: { interval: 100 } });
  await tab.until('s.rtt > 0');
  await tab.run(`s.send('{"type":"subscribe","id":1,"channel":"page"}')`);
  await tab.until(`log.some((l) => l.startsWith('{"type":"subscribed","id":1,'))`);
  await tab.run('s.close()');
  await tab.until(`log.at(-1) === 'close 1005, true'`);
});

test('offline and back', { skip }, async () => {
  const tab = await page({ heartbeat: { interval: 200, timeout: 500 }, backoff: { min: 50 } });
  await tab.until('s.rtt > 0');
  await tab.call('Network.enable');
  await offline(tab, true);
  await tab.until('navigator.onLine === false');
  await tab.until(`s.state === 'offline'`);
  await tab.run(`s.send('{"type":"subscribe","id":7,"channel":"page"}')`);
  assert.equal(await tab.run('s.state'), 'offline');
  assert.ok((await tab.run('s.bufferedAmount')) > 0);
  await offline(tab, false);
  await tab.until(`log.some((l) => l.startsWith('{"type":"subscribed","id":7,'))`);
  assert.equal(await tab.run('s.readyState'), 1);
  assert.equal(await tab.run('s.bufferedAmount'), 0);
  await tab.run('s.close()');
});

test('a page that is frozen and goes on', { skip }, async () => {
  const tab = await page({ heartbeat: { interval: 300, timeout: 200, minTimeout: 200, late: 100 } });
  await tab.until('s.rtt > 0');
  await tab.call('Page.enable');
  await tab.call('Page.setWebLifecycleState', { state: 'frozen' });
  await new Promise((r) => setTimeout(r, 1500)); // the time that the page does not see
  await tab.call('Page.setWebLifecycleState', { state: 'active' });
  // Chromium may have taken the connection away meanwhile, and says so. What it took in time is no miss.
  await tab.until(`log.some((l) => l.endsWith(' → waiting-pong: wake'))`);
  await tab.until(`s.state === 'idle' && s.readyState === 1`);
  assert.deepEqual(await tab.run(`log.filter((l) => l.endsWith('no pong'))`), []);
  await tab.run('s.close()');
});

test('two tabs, one of them in the background', { skip }, async () => {
  const options = { heartbeat: { interval: 1000, timeout: 300, minTimeout: 300 } };
  const behind = await page(options);
  await behind.run(`window.seen = []; document.addEventListener('visibilitychange', () => seen.push(document.visibilityState))`);
  const front = await page(options);
  await front.call('Page.bringToFront');
  await behind.until(`document.visibilityState === 'hidden'`);
  await behind.run('log.length = 0');
  await behind.until(`log.filter((l) => l === 'waiting-pong → idle: pong').length >= 3`);
  for (const tab of [behind, front]) {
    assert.deepEqual(await tab.run(`log.filter((l) => /retry|backoff/.test(l))`), []);
  }
  await behind.run(`s.send('{"type":"subscribe","id":1,"channel":"tabs"}')`);
  await behind.until(`log.some((l) => l.includes('"subscribed"'))`);
  await front.run(`s.send('{"type":"publish","id":1,"channel":"tabs","data":"hello"}')`);
  await behind.until(`log.some((l) => l.includes('"data":"hello"'))`);
  await behind.call('Page.bringToFront');
  await behind.until(`document.visibilityState === 'visible'`);
  await behind.run('s.close()');
  await front.run('s.close()');
});

test('a worker', { skip }, async () => {
  const tab = await page();
  const [data, code] = await tab.run(`inWorker(${ws()})`);
  assert.equal(JSON.parse(data).type, 'subscribed');
  assert.equal(code, 1005);
});

test('centrifuge-js in a page', { skip }, async () => {
  const tab = await page();
  const got = await tab.run(`(async () => {
    const Socket = LongwireSocket.with({ reconnect: false, heartbeat: { mode: 'traffic' } });
    const client = new Centrifuge('ws://${gateway.addr}/connection/websocket', { websocket: Socket });
    const sub = client.newSubscription('page');
    const got = new Promise((r) => sub.on('publication', (p) => r(p.data)));
    sub.subscribe();
    client.connect();
    await sub.ready(10000);
    await sub.publish('hello');
    const data = await got;
    client.disconnect();
    return data;
  })()`);
  assert.equal(got, 'hello');
});
