// LongwireSocket over a WebSocket and a clock of the tests' own: its interface, its events, and what it leaves behind.
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { afterEach, test } from 'node:test';
import { WebSocket } from 'ws';
import { Bench } from './tools.js';

// A page of which the tests are the browser.
const page = new EventTarget();
for (const name of ['addEventListener', 'removeEventListener']) globalThis[name] = page[name].bind(page);
globalThis.document = Object.assign(new EventTarget(), { visibilityState: 'visible' });
const { LongwireSocket } = await import('@longwire/socket');

const listeners = () =>
  ['online', 'offline'].flatMap((t) => getEventListeners(page, t)).length +
  ['visibilitychange', 'resume'].flatMap((t) => getEventListeners(document, t)).length;

// Fake is the WebSocket underneath. The test plays its peer.
class Fake {
  static all = [];
  sent = [];
  bufferedAmount = 0;
  protocol = 'chat';
  extensions = 'permessage-deflate';
  readyState = 0;
  constructor(url, protocols) {
    if (!String(url).startsWith('ws')) throw new DOMException('bad address', 'SyntaxError');
    Object.assign(this, { url, protocols });
    Fake.all.push(this);
  }
  send(data) {
    this.sent.push(data);
  }
  close(code, reason) {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999)) throw new DOMException('code', 'InvalidAccessError');
    this.closed ??= [code, reason];
  }
  accept() {
    this.readyState = 1;
    this.onopen({});
  }
  say(data) {
    this.onmessage?.({ data, origin: 'ws://server' });
  }
  end(code, reason = '', wasClean = true) {
    this.onerror?.({});
    this.onclose?.({ code, reason, wasClean });
  }
}
const inner = () => Fake.all.at(-1);

let bench;
function open(options = {}) {
  bench = new Bench();
  const s = new LongwireSocket('ws://server/', ['chat'], { WebSocket: Fake, clock: bench.clock, ...options });
  s.log = [];
  for (const type of ['open', 'message', 'error', 'close', 'drop']) {
    s.addEventListener(type, (e) => s.log.push([type, e.data ?? e.code, e.reason].filter((v) => v !== undefined).join(' ')));
  }
  s.addEventListener('state', (e) => s.log.push(`${e.from} → ${e.to}: ${e.reason}`));
  return s;
}
const settle = () => new Promise((r) => setImmediate(r));

afterEach(() => {
  Fake.all = [];
  assert.equal(listeners(), 0, 'listeners are left');
  assert.equal(bench?.timers.size ?? 0, 0, 'timers are left');
});

test('the interface of WebSocket', async () => {
  for (const o of [LongwireSocket, LongwireSocket.prototype]) {
    assert.deepEqual([o.CONNECTING, o.OPEN, o.CLOSING, o.CLOSED], [0, 1, 2, 3]);
  }
  const s = open();
  assert.ok(s instanceof EventTarget);
  assert.equal(s.url, 'ws://server/');
  assert.deepEqual(inner().protocols, ['chat']);
  assert.equal(s.readyState, s.CONNECTING);
  assert.equal(s.binaryType, 'blob');
  s.binaryType = 'arraybuffer';
  assert.equal(inner().binaryType, 'arraybuffer');
  const heard = [];
  s.onopen = function (e) {
    heard.push(e.type, this === s);
  };
  s.onmessage = (e) => heard.push(e.data, e instanceof MessageEvent, e.origin, e.target === s);
  s.onclose = (e) => heard.push(e.code, e.reason, e.wasClean);
  inner().accept();
  assert.equal(s.readyState, 1);
  assert.equal(s.protocol, 'chat');
  assert.equal(s.extensions, 'permessage-deflate');
  inner().say('hello');
  s.send('world');
  assert.deepEqual(inner().sent, ['world']);
  inner().bufferedAmount = 7;
  assert.equal(s.bufferedAmount, 7);
  s.close(3000, 'bye');
  assert.equal(s.readyState, 2);
  assert.deepEqual(inner().closed, [3000, 'bye']);
  inner().say('late');
  inner().end(3000, 'bye');
  assert.equal(s.readyState, 3);
  await settle();
  assert.deepEqual(heard, ['open', true, 'hello', true, 'ws://server', true, 'late', true, 'ws://server', true, 3000, 'bye', true]);
});

test('what the constructor and close throw', () => {
  assert.throws(() => new LongwireSocket('bad', [], { WebSocket: Fake }), { name: 'SyntaxError' });
  assert.throws(() => new LongwireSocket('not an address', [], { WebSocket }), SyntaxError);
  const s = open();
  assert.throws(() => s.close(1001), { name: 'InvalidAccessError' });
  assert.equal(s.readyState, 0);
  s.close();
  inner().end(1006, '', false);
});

test('one listener that throws does not stop the others, nor the machine', async () => {
  const s = open();
  const thrown = new Promise((r) => process.setUncaughtExceptionCaptureCallback(r));
  s.onopen = () => {
    throw new Error('mine');
  };
  inner().accept();
  assert.equal((await thrown).message, 'mine');
  process.setUncaughtExceptionCaptureCallback(null);
  assert.equal(s.state, 'idle');
  assert.equal(bench.timers.size, 1);
  s.close();
  inner().end(1000);
});

test('the heartbeat, and the socket that is left', async () => {
  const s = open();
  inner().accept();
  bench.pass(30000);
  const ts = bench.time;
  assert.deepEqual(inner().sent, [`{"type":"ping","ts":${ts}}`]);
  bench.pass(80);
  inner().say(` {"type": "pong", "ts": ${ts}}`);
  assert.equal(s.state, 'idle');
  assert.equal(s.rtt, 80);
  bench.pass(30000 + 1000 + 2000);
  const left = inner();
  assert.deepEqual(left.closed, [4001, 'no pong']);
  assert.equal(s.state, 'backoff');
  left.say('from the dead');
  left.end(1006);
  bench.pass(500);
  assert.notEqual(inner(), left);
  inner().accept();
  assert.equal(s.state, 'retry-pending');
  inner().say('{"type":"message","data":"pong"}');
  assert.equal(s.state, 'idle');
  assert.deepEqual(s.log, [
    'connecting → idle: open',
    'open',
    'idle → waiting-pong: interval',
    'waiting-pong → idle: pong',
    'idle → waiting-pong: interval',
    'waiting-pong → retry-pending: no pong',
    'retry-pending → backoff: no pong',
    'backoff → connecting: retry',
    'connecting → retry-pending: open',
    'open',
    'retry-pending → idle: message',
    'message {"type":"message","data":"pong"}',
  ]);
  s.close();
  inner().end(1000);
  await settle();
});

test('a heartbeat of the application', () => {
  let n = 0;
  const s = open({ heartbeat: { mode: 'custom', interval: 10, ping: () => `ping ${++n}`, pong: (d) => d === 'pong' } });
  inner().accept();
  bench.pass(10);
  assert.deepEqual(inner().sent, ['ping 1']);
  inner().say('pong');
  bench.pass(10);
  assert.deepEqual(inner().sent, ['ping 1', 'ping 2']);
  inner().say('{"type":"pong"}');
  assert.deepEqual(s.log.filter((l) => l.startsWith('message')), ['message {"type":"pong"}']);
  s.close();
  inner().end(1000);
});

test('messages wait, and what a listener of open sends goes first', () => {
  const s = open();
  const bytes = Buffer.from('abc');
  s.send('first');
  s.send(bytes);
  s.send(new Uint16Array([1, 2]).subarray(1));
  s.send(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + 3));
  bytes[0] = 0;
  assert.equal(s.bufferedAmount, 5 + 3 + 2 + 3);
  s.onopen = () => s.send('token');
  inner().accept();
  assert.equal(s.bufferedAmount, 0);
  assert.deepEqual(
    inner().sent.map((d) => (typeof d === 'string' ? d : [...new Uint8Array(d.buffer ?? d)])),
    ['token', 'first', [97, 98, 99], [2, 0], [97, 98, 99]],
  );
  s.close();
  inner().end(1000);
});

test('a full queue', async () => {
  const s = open({ queue: { limit: 1 } });
  s.send('a');
  assert.throws(() => s.send('b'), { name: 'InvalidStateError', message: 'full' });
  s.close();
  inner().end(1006, '', false);
  assert.deepEqual(s.log.slice(-2), ['closing → closed: close 1006', 'drop a closed']);
  await settle();
  assert.deepEqual(s.log.slice(-2), ['error', 'close 1006 ']);
  s.send('c');
  assert.equal(s.log.at(-1), 'drop c closed');
});

test('a queue that drops, and a message that is taken back', () => {
  const s = open({ queue: { limit: 2, policy: 'oldest' } });
  const controller = new AbortController();
  for (const m of ['a', 'b']) s.send(m);
  s.send('c', { signal: controller.signal });
  controller.abort();
  assert.deepEqual(s.log, ['drop a oldest', 'drop c cancel']);
  assert.throws(() => s.send('d', { signal: controller.signal }), { name: 'AbortError' });
  inner().accept();
  assert.deepEqual(inner().sent, ['b']);
  s.close();
  inner().end(1000);
});

test('an AbortSignal', async () => {
  for (const when of ['before', 'connecting', 'open', 'backoff']) {
    const controller = new AbortController();
    if (when === 'before') controller.abort();
    const s = open({ signal: controller.signal });
    if (when === 'before') assert.equal(Fake.all.length, 0);
    if (when === 'open') inner().accept();
    if (when === 'backoff') inner().end(1006);
    controller.abort();
    assert.equal(s.readyState, 3, when);
    assert.equal(s.state, 'closed');
    if (when !== 'before' && when !== 'backoff') assert.deepEqual(inner().closed, [1000, 'abort']);
    await settle();
    assert.equal(s.log.at(-1), 'close 1000 abort');
    assert.equal(getEventListeners(controller.signal, 'abort').length, 0, when);
    Fake.all = [];
  }
});

test('the page', () => {
  const s = open();
  inner().accept();
  page.dispatchEvent(new Event('offline'));
  assert.equal(s.state, 'offline');
  page.dispatchEvent(new Event('online'));
  assert.equal(s.state, 'waiting-pong');
  inner().say('{"type":"pong"}');
  document.visibilityState = 'hidden';
  document.dispatchEvent(new Event('visibilitychange'));
  bench.pass(10000);
  document.visibilityState = 'visible';
  document.dispatchEvent(new Event('visibilitychange'));
  assert.equal(s.log.at(-1), 'idle → waiting-pong: visible');
  inner().say('{"type":"pong"}');
  document.dispatchEvent(new Event('resume'));
  assert.equal(s.log.at(-1), 'idle → waiting-pong: wake');
  s.close();
  inner().end(1000);
});

test('a system that is offline', () => {
  const kept = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  Object.defineProperty(globalThis, 'navigator', { value: { onLine: false }, configurable: true });
  try {
    const s = open();
    inner().end(1006);
    assert.equal(s.state, 'offline');
    page.dispatchEvent(new Event('online'));
    assert.equal(s.state, 'backoff');
    s.close();
  } finally {
    if (kept) Object.defineProperty(globalThis, 'navigator', kept);
    else delete globalThis.navigator;
  }
});

test('a clock that is set back', () => {
  const s = open();
  inner().accept();
  bench.time -= 3_600_000;
  for (const t of bench.timers.values()) t.due -= 3_600_000; // setTimeout does not care
  bench.pass(30000);
  assert.equal(s.state, 'waiting-pong');
  inner().say('{"type":"pong"}');
  inner().end(1006);
  bench.pass(1000);
  assert.equal(s.state, 'connecting');
  s.close();
  inner().end(1006);
});

test('asked to go and come back', () => {
  const s = open();
  inner().accept();
  s.reconnect(1000);
  assert.deepEqual(inner().closed, [1000, 'advice']);
  assert.equal(s.state, 'backoff');
  bench.pass(2000);
  assert.equal(Fake.all.length, 2);
  s.close();
  inner().end(1006);
});

test('sockets of one class share what they learn', async () => {
  bench = new Bench();
  const Shared = LongwireSocket.with({ WebSocket: Fake, clock: bench.clock, reconnect: false });
  const codes = [];
  const make = () => {
    const s = new Shared('ws://server/');
    s.onclose = (e) => codes.push(e.code);
    return s;
  };
  assert.equal(Shared.OPEN, 1);
  make();
  inner().accept();
  bench.pass(40000);
  const second = make();
  inner().accept();
  assert.equal(second.state, 'retry-pending');
  bench.pass(5000);
  const third = make();
  assert.equal(third.state, 'melted');
  assert.throws(() => third.send('x'), { name: 'InvalidStateError' });
  assert.equal(Fake.all.length, 2);
  const before = bench.time;
  while (Fake.all.length < 3 && bench.time < before + 60000) bench.pass(100);
  assert.equal(Fake.all.length, 3);
  assert.ok(bench.time >= before + 30000);
  inner().accept();
  assert.equal(third.state, 'trial');
  inner().say('hello');
  assert.equal(third.state, 'idle');
  third.close();
  inner().end(1000);
  await settle();
  assert.deepEqual(codes, [4001, 4001, 1000]);
});

test('10,000 sockets come and go', async () => {
  bench = new Bench();
  const controller = new AbortController(); // one for all
  const random = bench.clock.random;
  for (let i = 0; i < 10000; i++) {
    const s = new LongwireSocket('ws://server/', [], { WebSocket: Fake, clock: bench.clock, signal: controller.signal });
    const mine = new AbortController();
    if (random() < 0.5) s.send('x', { signal: mine.signal });
    const how = Math.floor(random() * 6);
    if (how > 0) inner().accept();
    if (how === 1) bench.pass(30000);
    if (how === 2) bench.pass(41000);
    if (how === 3) inner().end(1006);
    if (how === 4) s.send('y', { signal: mine.signal });
    s.close();
    if (how === 5) bench.pass(5000);
    else inner().onclose?.({ code: 1000, reason: '', wasClean: true });
    assert.equal(s.readyState, 3);
    assert.equal(bench.timers.size, 0);
    assert.equal(getEventListeners(mine.signal, 'abort').length, 0);
    Fake.all = [];
  }
  assert.equal(getEventListeners(controller.signal, 'abort').length, 0);
  assert.equal(listeners(), 0);
  console.log(`10000 cycles: ${bench.set} timers set, ${bench.timers.size} left, ${listeners()} listeners left`);
  assert.ok(bench.set > 20000);
  await settle();
});
