import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerOf, problemOf } from '../.test/api.js';
import { demoAddress } from '../.test/demo.js';
import { border, curve, weight } from '../.test/diagram.js';
import { jsonFlaw } from '../.test/json.js';
import { tcpNarrow, tcpWide, websocketNarrow, websocketWide } from '../.test/machines.js';
import { Pages, tidy } from '../.test/pages.js';
import { domain, nearest, path, ticks, top } from '../.test/scale.js';
import { flaw } from '../.test/token.js';
import { order } from '../.test/views/ends.js';
import { evidenceRows, kernelRows } from '../.test/views/why.js';

test('errors of the API', () => {
  const body = (message) => JSON.stringify({ error: { code: 'x', message } });
  for (const [p, kind, message, after] of [
    [problemOf(401, null, body('no token')), 'unauthorized', 'no token', 0],
    [problemOf(429, '7', ''), 'throttled', 'Too many wrong tokens.', 7],
    [problemOf(503, '5', body('256 watch')), 'busy', '256 watch', 5],
    [problemOf(502, 'Wed, 21 Oct 2026 07:28:00 GMT', '<html>'), 'lost', 'Something between answered with 502: the gateway cannot be reached.', 0],
    [problemOf(500, '-3', 'null'), 'refused', 'The gateway answered with 500.', 0],
    [problemOf(400, '99999999', '{"error":{"message":7}}'), 'refused', 'The gateway answered with 400.', 3600],
  ]) assert.deepEqual([p.kind, p.message, p.retryAfter], [kind, message, after]);
  assert.deepEqual(answerOf({ result: { offset: 1 } }), { offset: 1 });
  assert.deepEqual(answerOf({ seq: 1 }), { seq: 1 });
  assert.throws(() => answerOf({ error: { code: 108, message: 'not available' } }), /not available/);
});

test('axes', () => {
  for (const [max, want] of [[0, 1], [NaN, 1], [0.7, 0.8], [1, 1], [9, 10], [11, 20], [1_000_000, 1_000_000], [83_200_000, 100_000_000], [2.4, 2.5]]) assert.ok(Math.abs(top(max) - want) < 1e-9 * want, `top(${max}) = ${top(max)}`);
  assert.deepEqual(ticks(1000), [0, 200, 400, 600, 800, 1000]);
  assert.deepEqual(ticks(20), [0, 5, 10, 15, 20]);
  assert.deepEqual(domain([1000, 2000]), [-118_000, 2000]);
  assert.deepEqual(domain([0, 300_000]), [0, 300_000]);
  const id = (v) => v;
  assert.equal(path([0, 1, 2, 3, 4], [1, 2, null, 3, 4], id, id), 'M0 1L1 2M3 3L4 4');
  assert.equal(path([0, 1, 2], [null, 5, null], id, id), 'M1 5h1');
  assert.equal(nearest([0, 10, 20], [[1, null, 3]], 11), 2);
  assert.equal(nearest([], [[]], 11), -1);
});

test('arrows', () => {
  assert.deepEqual([undefined, 0, 9, 1e9].map(weight), [1, 1, 2.75, 9]);
  assert.deepEqual(border({ name: 'a', x: 0, y: 0, w: 100 }, { x: 200, y: 0 }), { x: 50, y: 0 });
  assert.deepEqual(border({ name: 'a', x: 0, y: 0, w: 100 }, { x: 0, y: 0 }), { x: 0, y: 0 });
  const c = curve({ name: 'a', x: 0, y: 0, w: 100 }, { name: 'b', x: 200, y: 0, w: 100 }, { from: 'a', to: 'b', side: 10 });
  assert.deepEqual(c, { d: 'M50 0L143 0', label: { x: 96.5, y: -10 } });
  for (const l of [websocketWide, websocketNarrow, tcpWide, tcpNarrow]) {
    const names = l.boxes.map((b) => b.name);
    for (const a of l.arrows) assert.ok(names.includes(a.from) && names.includes(a.to), a.from + '>' + a.to);
    for (const b of l.boxes) assert.ok(b.x - (b.w ?? 118) / 2 >= 0 && b.x + (b.w ?? 118) / 2 <= l.width && b.y + 23 <= l.height, b.name);
  }
  const edges = (l) => l.arrows.map((a) => a.from + '>' + a.to).sort();
  assert.deepEqual(edges(websocketWide), edges(websocketNarrow));
  assert.deepEqual(edges(websocketWide), ['accept>handshake', 'closing>closed', 'handshake>http', 'handshake>open', 'handshake>refused', 'handshake>timeout', 'open>closed', 'open>closing']);
});

test('pages', () => {
  const p = new Pages();
  assert.deepEqual([p.cursor, p.number, p.hasNext, p.hasPrevious], [undefined, 1, false, false]);
  p.forward(); // leads nowhere
  p.got('b');
  p.forward();
  assert.deepEqual([p.cursor, p.number, p.hasNext, p.hasPrevious], ['b', 2, false, true]);
  p.got('');
  assert.equal(p.hasNext, false);
  p.back();
  p.back();
  assert.deepEqual([p.cursor, p.number], [undefined, 1]);
  assert.deepEqual(tidy({ a: ' x ', b: '', c: false, d: true, e: undefined, f: '  ' }), { a: 'x', d: true });
});

test('what is no JSON', () => {
  const good = ['{"n": 12345678901234567890}', '0', '-1.5e+10', 'null', '[]', '{}', ' [1, {"a": [true, false, "\\u00e9 \\n \\" 👋"]}, {}, []]\n', '""'];
  const bad = ['', ' ', '{', '[', '[1', '[1,', '[1,]', '{"a"', '{"a":', '{"a":1', '{"a":1,}', '{a:1}', '{\'a\':1}', '01', '1.', '+1', '.5', 'NaN', 'tru', 'true false', '1 2', '"', '"\\x"', '"\\u12"', '"a\nb"', '}', ']', '[}', '{]', '[1}', '{"a":1]', ',', ':', '[,]', '{,}', '\ufeff1'];
  for (const text of good) {
    JSON.parse(text);
    assert.equal(jsonFlaw(text), '', text);
  }
  for (const text of bad) {
    assert.throws(() => JSON.parse(text), text);
    assert.notEqual(jsonFlaw(text), '', text);
  }
  assert.equal(jsonFlaw('{\n"a": }'), 'No JSON: line 2, column 6: want a value, found "}"');
  assert.equal(jsonFlaw('[1'), 'No JSON: line 1, column 3: want a comma or ], it ends there');
  // What the browser takes is good here, and nothing else, whatever is done to it.
  const pieces = ['{', '}', '[', ']', ',', ':', '"a"', '"\\n"', '"', '1', '-', '0.5', 'e3', 'true', ' ', '\n', 'x', '{"a":1}', '[1]'];
  let seed = 1;
  const random = (n) => { seed = (seed * 48271) % 2147483647; return seed % n; };
  for (let i = 0; i < 20_000; i++) {
    const text = Array.from({ length: 1 + random(6) }, () => pieces[random(pieces.length)]).join('');
    let is = true;
    try { JSON.parse(text); } catch { is = false; }
    assert.equal(jsonFlaw(text) === '', is, text);
  }
});

test('small things', () => {
  assert.equal(flaw('a-good-token'), '');
  assert.match(flaw(''), /Enter/);
  assert.match(flaw('a b'), /no spaces/);
  assert.match(flaw('naïve'), /ASCII/);
  assert.equal(demoAddress('http://127.0.0.1:8000/#about', '127.0.0.1:8000'), 'http://127.0.0.1:8000/demo/');
  assert.equal(demoAddress('http://ops.example:9000/x/', ':8000'), 'http://ops.example:8000/demo/');
  assert.equal(demoAddress('https://ops.example/lw/', ''), 'https://ops.example/lw/demo/');
  assert.deepEqual(order([{ name: 'b', total: 1, rate: 0 }, { name: 'c', total: 0, rate: 0 }, { name: 'a', total: 1, rate: 0 }, { name: 'd', total: 9, rate: 1 }]), ['d', 'a', 'b']);
  const e = { age_ms: 1000, silent_ms: 500, pinged_ms: -1, queue_bytes: 0, rtt_us: -1, unacked_bytes: -1, timeouts: -1, retransmits: -1, last_ack_ms: -1, pong_ms: -1, close_sent: -1, close_received: -1 };
  assert.deepEqual(evidenceRows(e), [['open for', '1.0 s'], ['silent for', '500 ms'], ['waiting for its socket', '0 B']]);
  assert.equal(evidenceRows({ ...e, unacked_bytes: 5, timeouts: 5, retransmits: 6, rtt_us: 48_200 }).at(-1)[1], '48.2 ms');
  assert.deepEqual(evidenceRows({ ...e, pong_ms: 500, close_sent: 1001, close_received: -1 }).slice(2, 4), [['last pong', '500 ms before the end'], ['close frames', "ours 1001, the client's none"]]);
  assert.equal(evidenceRows({ ...e, close_sent: 1005, close_received: 4000 })[2][1], "ours without a code, the client's 4000");
  const k = { level: 'errno', verdict: 'x', path: [], rtt_us: -1, unacked_bytes: 0, retransmits: 1 };
  assert.deepEqual(kernelRows(k), [['seen by', 'errno'], ['never acknowledged', '0 B'], ['sent again in all', '1 segment']]);
  assert.deepEqual(kernelRows({ ...k, level: 'bpf', path: ['ESTABLISHED', 'CLOSE'], error: 'ECONNRESET', rtt_us: 48_200 }).map(([, v]) => v), ['bpf', 'ESTABLISHED → CLOSE', 'ECONNRESET', '0 B', '1 segment', '48.2 ms']);
});
