// A headless Chromium, driven over the DevTools protocol.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { WebSocket } from 'ws';

const names = ['chromium', 'chromium-browser', 'google-chrome'];

/** findChromium is the program's name, or undefined. */
export const findChromium = () => names.find((n) => spawnSync(n, ['--version']).status === 0);

/** Browser is one process of Chromium with a profile of its own. */
export class Browser {
  static async launch(program) {
    const b = new Browser();
    b.dir = mkdtempSync(join(tmpdir(), 'chromium-'));
    b.child = spawn(
      program,
      ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', `--user-data-dir=${b.dir}`, '--remote-debugging-port=0', 'about:blank'],
      { stdio: ['ignore', 'ignore', 'pipe'], detached: true }, // a process group of its own
    );
    b.exited = once(b.child, 'exit');
    const said = [];
    for await (const line of createInterface(b.child.stderr)) {
      said.push(line);
      const url = /DevTools listening on (ws:\S+)/.exec(line)?.[1];
      if (url) {
        b.child.stderr.resume();
        b.socket = new WebSocket(url);
        await once(b.socket, 'open');
        b.socket.on('message', (d) => b.hear(JSON.parse(d)));
        return b;
      }
    }
    throw new Error(`chromium does not come up:\n${said.join('\n')}`);
  }

  id = 0;
  waiting = new Map();

  hear({ id, result, error }) {
    const w = this.waiting.get(id);
    this.waiting.delete(id);
    if (error) w?.reject(new Error(`${w.method}: ${error.message}`));
    else w?.resolve(result);
  }

  call(method, params = {}, sessionId) {
    const id = ++this.id;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, method });
      this.socket.send(JSON.stringify({ id, method, params, sessionId }));
    });
  }

  /** open is a new tab. */
  async open(url) {
    const { targetId } = await this.call('Target.createTarget', { url });
    const { sessionId } = await this.call('Target.attachToTarget', { targetId, flatten: true });
    return new Tab(this, targetId, sessionId);
  }

  async close() {
    this.socket.terminate();
    process.kill(-this.child.pid, 'SIGKILL'); // its children too, which write to the profile
    await this.exited;
    try {
      rmSync(this.dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    } catch {
      // A profile that is left among the system's temporary files is no failure of what was tested.
    }
  }
}

class Tab {
  constructor(browser, targetId, session) {
    Object.assign(this, { browser, targetId, session });
  }

  call(method, params) {
    return this.browser.call(method, params, this.session);
  }

  /** run evaluates an expression in the page, waits for its promise, and returns its value. */
  async run(expression) {
    const { result, exceptionDetails } = await this.call('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  }

  /** until waits until an expression is true in the page. */
  async until(expression) {
    for (let i = 0; i < 1000; i++) {
      if (await this.run(expression)) return;
      await new Promise((r) => setTimeout(r, 20));
    }
    throw new Error(`not reached: ${expression}\n${JSON.stringify(await this.run('window.log?.slice(-20)'))}`);
  }
}
