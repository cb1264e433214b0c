import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoff, keepFor, Live, merge, points } from '../.test/live.js';
import { Problem } from '../.test/api.js';

const at = (seq, ms, more) => ({ seq, time: new Date(Date.UTC(2026, 10, 22) + ms).toISOString(), ...more });

test('backoff doubles up to half a minute, and spreads', () => {
  assert.deepEqual([1, 2, 3, 4, 5, 6, 7, 100].map((n) => backoff(n, 0.5)), [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  assert.equal(backoff(1, 0), 750);
  assert.equal(backoff(1, 1), 1250);
});

test('merge adds what is new, forgets what is old, and begins anew with another process', () => {
  const first = [at(1, 0), at(2, 1000)];
  assert.deepEqual(merge(first, [at(2, 1000), at(3, 2000)]).map((s) => s.seq), [1, 2, 3]);
  assert.deepEqual(merge(first, [at(3, keepFor + 500)]).map((s) => s.seq), [2, 3]);
  assert.deepEqual(merge(first, [at(1, 60_000), at(2, 61_000)]).map((s) => s.seq), [1, 2]);
  assert.deepEqual(merge(first, [at(1, 60_000)]).map((s) => s.time), [at(1, 60_000).time]);
  assert.deepEqual(merge([], []), []);
});

test('points break a curve where nothing was heard', () => {
  const p = points([at(1, 0, { conns: 1 }), at(2, 1000, { conns: 2 }), at(3, 9000, { conns: 3 }), at(4, 10_000)], [(s) => s.conns]);
  assert.deepEqual(p.values, [[1, 2, null, 3, null]]);
  assert.equal(p.times.length, 5);
  assert.equal(p.times[2] - p.times[0], 5000);
});

// A gateway of answers, one for each question; the last question has none, and waits until it is given up.
function gateway(answers) {
  const asked = [];
  const signals = [];
  return {
    asked,
    signals,
    get: (path, signal) => {
      asked.push(path);
      signals.push(signal);
      const a = answers.shift();
      if (a instanceof Error) return Promise.reject(a);
      if (a) return Promise.resolve(a);
      return new Promise((_, fail) => signal.addEventListener('abort', () => fail(signal.reason)));
    },
  };
}

async function play(answers, questions) {
  const api = gateway(answers);
  const told = [];
  let live;
  const done = new Promise((resolve) => {
    const check = () => { if (api.asked.length >= questions && answers.length === 0) setImmediate(resolve); };
    live = new Live(api, {
      snapshot: (s) => { told.push('snapshot ' + s.seq); },
      status: (s) => { told.push(s.kind + (s.draining ? ' draining' : '')); if (s.again) setImmediate(() => live.now()); check(); if (s.kind === 'denied') resolve(); },
      restarted: () => { told.push('restarted'); },
    });
  });
  live.start();
  live.start(); // once is enough
  await done;
  live.stop({ kind: 'paused' });
  assert.ok(api.signals.at(-1).aborted, 'the question that waits is not given up');
  return { asked: api.asked, told, live };
}

test('live asks for what is newer, and begins with the history after a loss', async () => {
  const r = await play([at(5, 5000, { history: [at(4, 4000), at(5, 5000)] }), at(6, 6000), new Problem('lost', 'gone'), at(7, 9000, { history: [at(6, 6000), at(7, 9000)], draining: true })], 4);
  assert.deepEqual(r.asked.slice(0, 4), ['live?history=1', 'live?after=5', 'live?after=6', 'live?history=1']);
  assert.deepEqual(r.told.filter((t) => !t.startsWith('live')), ['snapshot 5', 'snapshot 6', 'lost', 'restarted', 'snapshot 7', 'paused']);
  assert.equal(r.told.at(-2), 'live draining');
  assert.deepEqual(r.live.history.map((s) => s.seq), [4, 5, 6, 7]);
});

test('live ends with a token that is not good', async () => {
  const r = await play([at(1, 0), new Problem('unauthorized', 'no')], 2);
  assert.deepEqual(r.told, ['snapshot 1', 'live', 'denied', 'paused']);
});

test('live says when too many watch', async () => {
  const r = await play([new Problem('busy', 'too many', 5), at(1, 0)], 2);
  assert.deepEqual(r.told.slice(0, 3), ['busy', 'restarted', 'snapshot 1']);
});
