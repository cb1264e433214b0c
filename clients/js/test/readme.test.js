// The first example of the README does what the README says.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { haveGo, longwire } from './tools.js';

test('the example', { skip: !haveGo() && 'go is not installed' }, async (t) => {
  const gateway = await longwire();
  t.after(gateway.stop);
  const [, code] = /```js\n(.*?)```/s.exec(readFileSync(new URL('../README.md', import.meta.url), 'utf8'));
  assert.ok(code.includes('localhost:8000'));
  const child = spawn(process.execPath, ['--input-type=module', '-e', code.replace('localhost:8000', gateway.addr)], {
    cwd: fileURLToPath(new URL('..', import.meta.url)),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill());
  const said = [];
  for await (const line of createInterface(child.stdout)) {
    said.push(line);
    if (line.includes('"type":"message"')) break;
  }
  assert.equal(said[0], 'connecting → idle: open');
  assert.match(said.at(-1), /"data":"hello"/);
});
