// Clients that lose their connections and come back: the official SDK, the SDK on LongwireSocket, and LongwireSocket by itself
// with the plain protocol. interop/comeback_test.go runs it, and reads what happens to them as lines of JSON.
import { createHmac } from 'node:crypto';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';
import { LongwireSocket } from '../../clients/js/dist/index.js';

const [addr, secret, each] = process.argv.slice(2);

const say = (line) => process.stdout.write(`${JSON.stringify({ ...line, at: Date.now() })}\n`);

function token(claims) {
  const part = (v) => Buffer.from(JSON.stringify(v)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

function sdk(client, websocket) {
  const c = new Centrifuge(`ws://${addr}/connection/websocket`, { websocket, token: token({ sub: 'ann' }) });
  const sub = c.newSubscription('news');
  sub.on('subscribed', () => say({ client, event: 'up' }));
  sub.on('publication', (p) => say({ client, event: 'got', text: p.data }));
  c.on('connecting', ({ code, reason }) => say({ client, event: 'down', code, text: reason }));
  c.on('disconnected', ({ code, reason }) => say({ client, event: 'gone', code, text: reason }));
  c.on('error', () => {}); // a refused connect, and it tries again
  sub.subscribe();
  c.connect();
}

function plain(client) {
  let words = ''; // LongwireSocket tells of a close by its state; the reason is its inner socket's
  class Listening extends WebSocket {
    constructor(...args) {
      super(...args);
      this.on('close', (_, reason) => { words = String(reason); });
    }
  }
  const s = new LongwireSocket(`ws://${addr}/ws`, undefined, { WebSocket: Listening });
  s.addEventListener('open', () => s.send('{"type":"subscribe","channel":"news"}'));
  s.addEventListener('message', ({ data }) => {
    const m = JSON.parse(data);
    if (m.type === 'subscribed') say({ client, event: 'up' });
    if (m.type === 'message') say({ client, event: 'got', text: m.data });
  });
  s.addEventListener('state', ({ reason }) => {
    const code = /^close (\d+)$/.exec(reason);
    if (code) say({ client, event: 'down', code: Number(code[1]), text: words });
  });
  s.addEventListener('close', ({ code, reason }) => say({ client, event: 'gone', code, text: reason }));
}

for (let k = 0; k < Number(each); k++) {
  sdk(`sdk-${k}`, WebSocket);
  sdk(`ours-below-the-sdk-${k}`, LongwireSocket.with({ WebSocket, reconnect: false, heartbeat: { mode: 'traffic' } }));
  plain(`ours-plain-${k}`);
}
