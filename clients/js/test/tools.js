// What the tests share.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** generator gives the same numbers from 0 up to 1 for the same seed (mulberry32). */
export function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Bench is a clock that stands still until it is moved, and counts what is set and not cleared. */
export class Bench {
  constructor(seed = 1) {
    this.time = 1_000_000;
    this.timers = new Map();
    this.set = 0;
    let id = 0;
    this.clock = {
      now: () => this.time,
      random: generator(seed),
      setTimeout: (f, ms) => {
        this.timers.set(++id, { f, due: this.time + ms });
        this.set++;
        return id;
      },
      clearTimeout: (id) => void this.timers.delete(id),
    };
  }

  /** pass moves the clock, and fires what is due on the way. */
  pass(ms) {
    const end = this.time + ms;
    for (;;) {
      let next;
      for (const [id, t] of this.timers) if (t.due <= end && !(next?.[1].due <= t.due)) next = [id, t];
      if (!next) break;
      this.timers.delete(next[0]);
      this.time = Math.max(this.time, next[1].due);
      next[1].f();
    }
    this.time = end;
  }
}

/** event waits for one event of a socket, and fails with what came instead. */
export function event(socket, type, ms = 20000) {
  return new Promise((resolve, reject) => {
    const controller = new AbortController();
    const { signal } = controller;
    const timeout = setTimeout(() => done(reject, new Error(`no ${type} for ${ms} ms: ${socket.state}`)), ms);
    const done = (f, v) => {
      clearTimeout(timeout);
      controller.abort();
      f(v);
    };
    socket.addEventListener(type, (e) => done(resolve, e), { signal });
    if (type !== 'close') {
      socket.addEventListener('close', (e) => done(reject, new Error(`close ${e.code} ${e.reason} instead of ${type}`)), { signal });
    }
  });
}

/** enters waits until a socket is in a state. */
export async function enters(socket, state) {
  while (socket.state !== state) await event(socket, 'state');
}

/** listening is the address of a server that listens on a port of its own choosing. */
export async function listening(server) {
  if (!server.address()) await once(server, 'listening');
  const { port } = server.address();
  assert.ok(port > 0);
  return `ws://127.0.0.1:${port}`;
}

export const root = fileURLToPath(new URL('../../../', import.meta.url));

/** haveGo says whether there is a Go toolchain to build servers with. */
export const haveGo = () => spawnSync('go', ['version']).status === 0;

/** longwire builds the gateway of this repository and serves it on a port of its own choosing. */
export async function longwire(...flags) {
  const dir = mkdtempSync(join(tmpdir(), 'longwire-'));
  const program = join(dir, 'longwire');
  execFileSync('go', ['build', '-o', program, './cmd/longwire'], { cwd: root });
  const child = spawn(program, ['serve', '--dev', '--addr', '127.0.0.1:0', ...flags], { stdio: ['ignore', 'ignore', 'pipe'] });
  const exited = once(child, 'exit');
  const stop = () => {
    child.kill('SIGKILL');
    return exited.then(() => rmSync(dir, { recursive: true, force: true }));
  };
  const said = [];
  for await (const line of createInterface(child.stderr)) {
    said.push(line);
    const addr = / msg=listening addr=(\S+)/.exec(line)?.[1];
    if (addr) {
      child.stderr.resume();
      return { addr, stop };
    }
  }
  throw new Error(`longwire does not listen:\n${said.join('\n')}`);
}
