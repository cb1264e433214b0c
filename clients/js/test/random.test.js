// Throws events at the policy in any order, and looks whether what must always hold does.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { policy, memory } from '@longwire/socket/policy';
import { generator } from './tools.js';

const timed = new Set(['connecting', 'waiting-pong', 'retry-pending', 'backoff', 'melted', 'trial', 'closing']);

test('whatever happens', () => {
  let steps = 0;
  const seen = new Set();
  for (let seed = 1; seed <= 3000; seed++) {
    const random = generator(seed);
    const pick = (list) => list[Math.floor(random() * list.length)];
    const mode = pick(['json', 'custom', 'traffic', 'none']);
    const machine = policy(
      {
        reconnect: random() < 0.8,
        resend: random() < 0.5,
        heartbeat: { mode },
        fuse: { trials: pick([0, 1, 3]), failures: pick([2, 10]) },
        queue: { policy: pick(['reject', 'oldest', 'newest']), limit: 3, bytes: 100 },
      },
      random,
      memory(),
    );
    let at = Math.floor(random() * 1e6);
    let armed, due;
    let dialled = 0; // sockets that were made and have not ended
    let alive = new Set(); // messages that wait, were written, or were given back
    let ended = 0;
    const take = (event) => {
      const was = machine.state;
      const actions = machine.step({ at, ...event });
      steps++;
      for (const [what, a, b] of actions) {
        if (what === 'clear') {
          assert.equal(a, armed);
          armed = undefined;
        } else if (what === 'timer') {
          assert.equal(armed, undefined);
          assert.ok(Number.isInteger(b) && b >= at, `${a} at ${b}, now ${at}`);
          armed = a;
          due = b;
        } else if (what === 'connect') dialled = 1;
        else if (what === 'close') dialled = 0;
        else if (what === 'write') assert.ok(machine.up || dialled);
        else if (what === 'emit' && a === 'close') ended++;
        if (what === 'drop' || what === 'reject') alive.delete(a);
      }
      if (!machine.up && !['connecting', 'trial', 'closing'].includes(machine.state)) dialled = 0;
      seen.add(`${was} → ${machine.state}`);
      if (machine.state !== was || was === 'connecting') {
        if (timed.has(machine.state)) assert.ok(armed, `${machine.state} without a timer, from ${was}`);
      }
      if (machine.state === 'idle') assert.equal(armed, mode === 'none' ? undefined : 'ping');
      if (machine.state === 'closed' || machine.state === 'offline') assert.equal(armed, undefined);
      assert.ok(machine.queued >= 0 && machine.queued <= 100);
      if (machine.state === 'closed') assert.equal(machine.queued, 0);
    };
    take({ event: 'start' });
    for (let i = 0; i < 60; i++) {
      at += Math.floor(random() ** 4 * 50000);
      if (armed && at > due && random() < 0.9) {
        at = Math.max(due, at - Math.floor(random() * 3000));
        const name = armed;
        armed = undefined; // it has fired
        take({ event: 'timer', name });
        continue;
      }
      const kind = pick(['open', 'open', 'message', 'pong', 'error', 'close', 'close', 'refused', 'timer', 'send', 'send', 'cancel', 'online', 'offline', 'visible', 'hidden', 'wake', 'advice', random() < 0.1 ? 'shut' : 'message', random() < 0.1 ? 'abort' : 'pong']);
      const message = { bytes: Math.floor(random() * 120) };
      if (kind === 'send') alive.add(message);
      take(
        {
          pong: { event: kind, ts: pick([undefined, at, at - 50, at + 50]) },
          close: { event: kind, code: pick([1000, 1001, 1006, 1011, 3500]), reason: pick(['', 'retry after 3 s']), clean: random() < 0.5 },
          refused: { event: kind, status: pick([401, 404, 429, 503]), after: pick([undefined, 0, 5000]) },
          timer: { event: kind, name: pick(['ping', 'pong', 'retry', 'cool', 'close', 'connect'].filter((n) => n !== armed)) },
          send: { event: kind, message },
          cancel: { event: kind, message: pick([...alive, message]) },
        }[kind] ?? { event: kind },
      );
    }
    at += 1;
    take({ event: 'abort' });
    assert.equal(machine.state, 'closed');
    assert.equal(armed, undefined);
    assert.equal(ended, 1, 'a socket ends once');
  }
  console.log(`${steps} events, ${seen.size} kinds of transition`);
  assert.ok(seen.size > 40, [...seen].join('\n'));
});
