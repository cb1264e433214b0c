// LongwireSocket over ws and real sockets: against the server of ws, the gateway of this repository, a server made with
// gorilla/websocket, and servers that misbehave.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHTTP } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { LongwireSocket } from '@longwire/socket';
import { enters, event, haveGo, listening, longwire, root } from './tools.js';

const quick = { WebSocket, heartbeat: { interval: 50, timeout: 40, minTimeout: 20 }, backoff: { min: 10, max: 50, spread: 20, stable: 5 } };

const cleanup = [];
after(() => Promise.all(cleanup.map((f) => f())));

async function serve(onConnection) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  server.on('connection', onConnection);
  const url = await listening(server);
  cleanup.push(() => {
    for (const c of server.clients) c.terminate();
    server.close();
  });
  return { url, server };
}

// raw answers every connection by f, which gets the head of the request.
async function raw(f) {
  const all = new Set();
  const server = createServer((c) => {
    all.add(c);
    c.on('error', () => {});
    c.once('data', (head) => f(c, String(head)));
  });
  server.listen(0, '127.0.0.1');
  const url = await listening(server);
  cleanup.push(() => {
    for (const c of all) c.destroy();
    server.close();
  });
  return { url, count: () => all.size };
}

async function accept(c, head) {
  const { createHash } = await import('node:crypto');
  const key = /sec-websocket-key: (\S+)/i.exec(head)[1];
  const answer = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  c.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${answer}\r\n\r\n`);
}

test('ws: messages of every kind, and a clean close', async () => {
  const { url } = await serve((c) => c.on('message', (d, binary) => c.send(d, { binary })));
  const s = new LongwireSocket(url, [], { WebSocket });
  s.send('queued');
  assert.equal((await event(s, 'message')).data, 'queued');
  s.send(new Uint8Array([1, 2, 3]));
  const { data } = await event(s, 'message');
  assert.ok(data instanceof Blob);
  assert.deepEqual([...new Uint8Array(await data.arrayBuffer())], [1, 2, 3]);
  s.binaryType = 'arraybuffer';
  s.send(new Blob(['blob']));
  assert.equal(new TextDecoder().decode((await event(s, 'message')).data), 'blob');
  s.close(3001, 'enough');
  const e = await event(s, 'close');
  assert.deepEqual([e.code, e.reason, e.wasClean], [3001, 'enough', true]);
});

test('ws: a server that dies and comes back', async () => {
  let { url, server } = await serve((c) => c.send('hello'));
  const s = new LongwireSocket(url, [], quick);
  await event(s, 'message');
  const { port } = server.address();
  for (const c of server.clients) c.terminate();
  server.close();
  await enters(s, 'backoff');
  s.send('kept');
  server = new WebSocketServer({ port, host: '127.0.0.1' });
  cleanup.push(() => server.close());
  const got = new Promise((r) => server.on('connection', (c) => c.on('message', (d) => r(String(d)))));
  assert.equal(await got, 'kept');
  s.close();
  await event(s, 'close');
});

test('ws: silence is found, the fuse opens, and the trial closes it', async () => {
  let deaf = true;
  const codes = [];
  const { url } = await serve((c) => {
    c.on('message', (d) => !deaf && c.send(String(d).replace('ping', 'pong')));
    c.on('close', (code) => codes.push(code));
  });
  const s = new LongwireSocket(url, [], { ...quick, fuse: { coolDown: 30 } });
  const path = [];
  s.addEventListener('state', (e) => path.push(e.to));
  await enters(s, 'melted');
  deaf = false;
  await enters(s, 'trial');
  await enters(s, 'idle');
  assert.deepEqual(path, ['idle', 'waiting-pong', 'retry-pending', 'backoff', 'connecting', 'retry-pending', 'melted', 'trial', 'trial', 'idle']);
  assert.deepEqual(codes, [4001, 4001]);
  s.close();
  await event(s, 'close');
});

test('ws: drain and advice', async () => {
  const reasons = ['', 'retry after 0 s'];
  const { url } = await serve((c) => (reasons.length ? c.close(1012, reasons.shift()) : c.send('at last')));
  const s = new LongwireSocket(url, [], quick);
  const due = [];
  s.addEventListener('state', (e) => e.to === 'backoff' && due.push(e.reason));
  assert.equal((await event(s, 'message')).data, 'at last');
  assert.deepEqual(due, ['close 1012', 'close 1012']);
  s.close();
  await event(s, 'close');
});

test('refused: 401, 403, 429 and 503 with Retry-After', async () => {
  const answers = [];
  const server = createHTTP();
  server.on('upgrade', (_, c) => c.end(answers.shift() ?? 'HTTP/1.1 403 Forbidden\r\n\r\n'));
  server.listen(0, '127.0.0.1');
  const url = await listening(server);
  cleanup.push(() => server.close());
  for (const [answer, wait] of [
    ['HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno', null],
    ['HTTP/1.1 403 Forbidden\r\n\r\n', null],
    ['HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\n\r\n', 2000],
    ['HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\n\r\n', 3000],
    [`HTTP/1.1 503 Service Unavailable\r\nRetry-After: ${new Date(60000).toUTCString()}\r\n\r\n`, 59000],
    ['HTTP/1.1 503 Service Unavailable\r\nRetry-After: soon\r\n\r\n', 0],
    ['HTTP/1.1 503 Service Unavailable\r\n\r\n', 0],
  ]) {
    answers.push(answer);
    const s = new LongwireSocket(url, [], { WebSocket, clock: { now: () => 1000, random: () => 0 } });
    if (wait === null) {
      const e = await event(s, 'close');
      assert.equal(e.code, 1006);
    } else {
      const e = await event(s, 'state');
      assert.equal(e.to, 'backoff');
      assert.equal(e.due, 1000 + wait, answer);
      s.close();
    }
  }
});

test('an upgrade that never comes', async () => {
  const { url, count } = await raw(() => {});
  const s = new LongwireSocket(url, [], { ...quick, connectTimeout: 30 });
  await enters(s, 'backoff');
  await enters(s, 'connecting');
  await enters(s, 'backoff');
  assert.ok(count() >= 2);
  s.close();
  assert.equal(s.readyState, 3);
});

test('half a frame, and then nothing', async () => {
  const { url } = await raw(async (c, head) => {
    await accept(c, head);
    c.write(Buffer.from([0x81, 100, 0x61, 0x62]));
  });
  const s = new LongwireSocket(url, [], quick);
  await enters(s, 'backoff');
  s.close();
  assert.equal(s.readyState, 3);
});

test('a flood', async () => {
  const { url } = await serve((c) => {
    for (let i = 0; i < 20000; i++) c.send(`{"type":"pong","ts":${i}}`);
    for (let i = 0; i < 20000; i++) c.send(`${i}`);
  });
  let set = 0;
  const s = new LongwireSocket(url, [], { WebSocket, clock: { setTimeout: (f, ms) => (set++, setTimeout(f, ms)) } });
  let n = 0;
  await new Promise((r) => s.addEventListener('message', (e) => (assert.equal(e.data, `${n}`), ++n === 20000 && r())));
  assert.equal(s.rtt, 0);
  assert.ok(set < 10, `${set} timers`);
  s.close();
  await event(s, 'close');
});

test('ws: 10,000 real connections come and go', async () => {
  const { url, server } = await serve(() => {});
  const timers = new Set();
  const clock = {
    setTimeout: (f, ms) => {
      const id = setTimeout(() => (timers.delete(id), f()), ms);
      timers.add(id);
      return id;
    },
    clearTimeout: (id) => (timers.delete(id), clearTimeout(id)),
  };
  const many = async (n) => {
    for (let i = 0; i < n; i++) {
      const s = new LongwireSocket(url, [], { WebSocket, clock });
      await event(s, 'open');
      s.close();
      await event(s, 'close');
    }
  };
  await Promise.all(Array.from({ length: 20 }, () => many(500)));
  assert.equal(timers.size, 0);
  while (server.clients.size) await new Promise((r) => setImmediate(r));
});

test('the gateway of this repository', { skip: !haveGo() && 'go is not installed' }, async (t) => {
  const gateway = await longwire();
  t.after(gateway.stop);
  const s = new LongwireSocket(`ws://${gateway.addr}/ws?subscribe=news`, [], quick);
  const got = [];
  s.addEventListener('message', (e) => got.push(JSON.parse(e.data)));
  await event(s, 'message');
  await enters(s, 'waiting-pong');
  await enters(s, 'idle');
  assert.ok(s.rtt > 0);
  s.send('{"type":"publish","id":1,"channel":"news","data":"hello"}');
  while (!got.some((m) => m.type === 'published')) await event(s, 'message');
  assert.deepEqual(got.map((m) => m.type).sort(), ['message', 'published', 'subscribed']);
  gateway.stop();
  await enters(s, 'backoff');
  s.close();
});

test('gorilla', { skip: !haveGo() && 'go is not installed' }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'gorilla-'));
  const program = join(dir, 'gorilla');
  t.after(() => rmSync(dir, { recursive: true }));
  execFileSync('go', ['build', '-o', program, join(root, 'clients/js/test/testdata/gorilla.go')], { cwd: join(root, 'interop') });
  const child = spawn(program, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill());
  const [addr] = await once(createInterface(child.stdout), 'line');
  const s = new LongwireSocket(`ws://${addr}/ws`, [], quick);
  s.send('echo');
  assert.equal((await event(s, 'message')).data, 'echo');
  await enters(s, 'waiting-pong');
  await enters(s, 'idle');
  assert.ok(s.rtt > 0);
  s.close();
  assert.equal((await event(s, 'close')).wasClean, true);

  const drained = new LongwireSocket(`ws://${addr}/drain`, [], { ...quick, clock: { random: () => 0 } });
  const before = Date.now();
  drained.send('x');
  while (drained.state !== 'backoff') {
    const e = await event(drained, 'state');
    if (e.to === 'backoff') assert.ok(e.due >= before + 1000, 'the advice is kept');
  }
  drained.close();

  const silent = new LongwireSocket(`ws://${addr}/silent`, [], quick);
  await enters(silent, 'melted');
  silent.close();
});
