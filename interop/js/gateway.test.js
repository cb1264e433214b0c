// The client of Node's ws package against a gateway, whose address is in LONGWIRE_ADDR. interop/js_test.go runs it.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import WebSocket from 'ws';

const addr = process.env.LONGWIRE_ADDR;
assert.ok(addr, 'LONGWIRE_ADDR is not set: run it by go test');

async function open(path, options) {
  const ws = new WebSocket(`ws://${addr}${path}`, options);
  await once(ws, 'open');
  return ws;
}

async function exchange(ws, data, options) {
  const answer = once(ws, 'message');
  ws.send(data, options);
  const [got, isBinary] = await answer;
  assert.equal(isBinary, typeof data !== 'string');
  const want = Buffer.from(data);
  assert.ok(Buffer.compare(got, want) === 0, `an echo of ${got.length} bytes, not the same as the ${want.length} sent`);
}

async function close(ws, code, reason) {
  const closed = once(ws, 'close');
  ws.close(code, reason);
  const [gotCode] = await closed;
  assert.equal(gotCode, code ?? 1005);
}

function text(n) {
  let s = '';
  for (let k = 0; s.length < n; k++) s += `${k}-`;
  return s.slice(0, n);
}

const deflates = {
  'none': false,
  'defaults': true,
  'no takeover': { threshold: 0, clientNoContextTakeover: true, serverNoContextTakeover: true },
  'server takeover asked for': { threshold: 0, serverNoContextTakeover: false },
  'server window 9': { threshold: 0, serverMaxWindowBits: 9 },
  'server window 12': { threshold: 0, serverMaxWindowBits: 12, serverNoContextTakeover: true },
  'server window 15': { threshold: 0, serverMaxWindowBits: 15 },
  'client window 9': { threshold: 0, clientMaxWindowBits: 9 },
  'client window 15': { threshold: 0, clientMaxWindowBits: 15 },
  'both windows 10': { threshold: 0, clientMaxWindowBits: 10, serverMaxWindowBits: 10 },
};

for (const [name, perMessageDeflate] of Object.entries(deflates)) {
  test(`echo, permessage-deflate: ${name}`, async () => {
    const ws = await open('/echo', { perMessageDeflate });
    assert.equal(ws.extensions, perMessageDeflate ? 'permessage-deflate' : '');
    for (const n of [0, 1, 125, 126, 65535, 65536, 1 << 20]) {
      await exchange(ws, text(n));
      await exchange(ws, Buffer.from(text(n)));
    }
    await exchange(ws, 'not compressed', { compress: false });
    await exchange(ws, 'grüße, κόσμε, 👋');
    await close(ws, 1000, 'bye');
  });
}

test('messages in flight come back in order', async () => {
  const ws = await open('/echo', { perMessageDeflate: { threshold: 0 } });
  const n = 1000;
  const got = [];
  const all = new Promise((resolve, reject) => {
    ws.on('message', (data) => { if (got.push(String(data)) === n) resolve(); });
    ws.on('close', reject);
  });
  for (let k = 0; k < n; k++) ws.send(`message ${k}`);
  await all;
  assert.deepEqual(got, Array.from({ length: n }, (_, k) => `message ${k}`));
  ws.removeAllListeners('close');
  await close(ws, 1000);
});

// RFC 7692 section 7.1.1.2 lets a server ask for it unasked; a client that refuses has no connection, by its own will.
test('a client that insists on its context', async () => {
  const ws = new WebSocket(`ws://${addr}/echo`, { perMessageDeflate: { clientNoContextTakeover: false } });
  const [err] = await once(ws, 'error');
  assert.match(err.message, /Sec-WebSocket-Extensions/);
});

test('fragments', async () => {
  const ws = await open('/echo');
  const answer = once(ws, 'message');
  ws.send('one ', { fin: false });
  const pong = once(ws, 'pong');
  ws.ping('between');
  ws.send('two ', { fin: false });
  ws.send('three', { fin: true });
  assert.equal(String((await pong)[0]), 'between');
  assert.equal(String((await answer)[0]), 'one two three');
  await close(ws, 1000);
});

test('close codes and reasons', async () => {
  for (const code of [undefined, 1000, 1001, 1008, 1011, 3000, 4999]) {
    await close(await open('/echo'), code, code && 'é'.repeat(60));
  }
});

test('the plain protocol', async () => {
  const ws = await open('/ws');
  const answer = once(ws, 'message');
  ws.send('{"type":"ping","ts":1700000000000}');
  assert.deepEqual(JSON.parse((await answer)[0]), { type: 'pong', ts: 1700000000000 });
  const closed = once(ws, 'close');
  ws.send(Buffer.from([1, 2, 3]));
  const [code, reason] = await closed;
  assert.equal(code, 1003);
  assert.ok(String(reason).length > 0);
});

test('a message that is too large', async () => {
  const ws = await open('/ws', { perMessageDeflate: false });
  const closed = once(ws, 'close');
  ws.send('x'.repeat((1 << 20) + 1));
  assert.equal((await closed)[0], 1009);
});

test('refusals', async () => {
  for (const [path, options, status] of [
    ['/nowhere', {}, 404],
    ['/strict', { origin: 'https://evil.example' }, 403],
    ['/strict', { protocolVersion: 8 }, 426],
  ]) {
    const ws = new WebSocket(`ws://${addr}${path}`, options);
    const [req, resp] = await once(ws, 'unexpected-response');
    assert.equal(resp.statusCode, status);
    if (status === 426) assert.equal(resp.headers['sec-websocket-version'], '13');
    req.destroy();
  }
  await close(await open('/strict', { origin: `http://${addr}` }), 1000);
});

test('subprotocols', async () => {
  const ws = new WebSocket(`ws://${addr}/strict`, ['other', 'v1.example', 'v2.example']);
  await once(ws, 'open');
  assert.equal(ws.protocol, 'v2.example');
  await close(ws, 1000);
});
