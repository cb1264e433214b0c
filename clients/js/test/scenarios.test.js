// Runs the scenarios that this implementation of the policy shares with the one in Go: docs/client-policy.md has their
// format.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { policy } from '@longwire/socket/policy';

const folder = new URL('../../../testdata/heartbeat/', import.meta.url);
const files = readdirSync(folder).filter((f) => f.endsWith('.json'));
const nothing = { misses: 0, failures: 0, trials: 0, until: 0, hold: 0 };

function run({ options = {}, random = [], memory, steps, after }) {
  const chances = [...random];
  const record = { ...nothing, ...memory };
  const machine = policy(options, () => {
    assert.ok(chances.length > 0, 'out of random numbers');
    return chances.shift();
  }, record);
  const messages = new Map();
  let armed; // the one timer, as a driver would keep it
  let at = 0;
  for (const { expect, ...event } of steps) {
    assert.ok(event.at >= at, 'the table runs backwards');
    at = event.at;
    if (event.message) {
      const { id } = event.message;
      if (!messages.has(id)) messages.set(id, event.message);
      event.message = messages.get(id);
    }
    const before = { ...event };
    if (event.event === 'timer' && event.name === armed) armed = undefined;
    const actions = machine.step(event);
    assert.deepEqual(event, before, 'the event was changed');
    assert.deepEqual(
      { state: machine.state, actions: actions.map((a) => a.map((v) => (messages.has(v?.id) ? v.id : (v ?? null)))) },
      expect,
      `at ${at}: ${event.event}`,
    );
    for (const [what, name] of actions) {
      if (what === 'clear') {
        assert.equal(name, armed, `at ${at}: cleared a timer that is not there`);
        armed = undefined;
      }
      if (what === 'timer') {
        assert.equal(armed, undefined, `at ${at}: a second timer`);
        armed = name;
      }
    }
    if (machine.state === 'closed') assert.equal(armed, undefined, `at ${at}: closed with a timer`);
  }
  assert.deepEqual({ memory: record, rtt: machine.rtt, queued: machine.queued }, after);
  assert.deepEqual(chances, [], 'random numbers that nobody drew');
}

test('the table is there', () => {
  const n = files.reduce((n, f) => n + JSON.parse(readFileSync(new URL(f, folder))).length, 0);
  assert.ok(n >= 120, `${n} scenarios`);
});

for (const f of files) {
  test(f, async (t) => {
    for (const s of JSON.parse(readFileSync(new URL(f, folder)))) await t.test(s.name, () => run(s));
  });
}
