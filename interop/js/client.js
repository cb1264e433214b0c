// What the tests of the SDK share: clients of both formats, tokens, and the server API of the gateways under test,
// which interop/centrifuge_test.go starts.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { Centrifuge as JSONClient } from 'centrifuge';
import { Centrifuge as ProtobufClient } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';

// env is a variable that the Go test sets.
function env(name) {
  const v = process.env[name];
  assert.ok(v, `${name} is not set: run it by go test`);
  return v;
}

export const url = {
  open: env('LONGWIRE_OPEN'), // everybody may do everything
  strict: env('LONGWIRE_STRICT'), // tokens and rights; a ping every two seconds
};
const secret = env('LONGWIRE_SECRET');
const key = env('LONGWIRE_API_KEY');

const encoder = new TextEncoder();
const decoder = new TextDecoder();

// Applications of the Protobuf client send bytes; here they hold JSON, so that both formats run the same tests.
export const formats = {
  json: { Client: JSONClient, encode: (v) => v, decode: (v) => v },
  protobuf: {
    Client: ProtobufClient,
    encode: (v) => encoder.encode(JSON.stringify(v)),
    decode: (v) => JSON.parse(decoder.decode(v)),
  },
};

export { WebSocket };

// token is a JSON Web Token that the gateway under test accepts.
export function token(claims, key = secret) {
  const part = (v) => Buffer.from(JSON.stringify(v)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`;
}

// soon is a time in Unix seconds.
export const soon = (seconds) => Math.floor(Date.now() / 1000) + seconds;

let names = 0;

// unique is a channel that no other test uses.
export const unique = (prefix = '') => `${prefix}${process.pid}-${++names}`;

// call has the server API of every gateway do something: channels and users have names that no other test uses. A
// gateway that does not know a channel's namespace is not the one that was meant.
async function call(method, body) {
  const results = await Promise.all(Object.values(url).map(async (u) => {
    const r = await fetch(`${u.replace('ws:', 'http:').replace('/connection/websocket', '/api')}/${method}`, {
      method: 'POST', headers: { 'Content-Type': 'application/json', 'X-API-Key': key }, body: JSON.stringify(body),
    });
    const text = await r.text();
    assert.equal(r.status, 200, text);
    const answer = JSON.parse(text);
    return answer.replies ? answer.replies.flatMap((reply) => Object.values(reply)) : [answer];
  }));
  const errors = results.map((list) => list.map((a) => a.error).filter(Boolean));
  for (const e of errors.flat()) assert.equal(e.code, 102, JSON.stringify(errors));
  assert.ok(errors.some((list) => list.length === 0), `${method} ${JSON.stringify(body)}: no gateway knows the channel`);
}

// backend is what an application does.
export const backend = {
  // publish publishes each of data, in order.
  publish: (channel, ...data) => call('batch', { commands: data.map((d) => ({ publish: { channel, data: d } })) }),
  unsubscribe: (user, channel) => call('unsubscribe', { user, channel }),
  subscribe: (user, channel) => call('subscribe', { user, channel }),
  disconnect: (user, disconnect) => call('disconnect', { user, disconnect }),
};

// Peer is a client under test, with its sockets.
export class Peer {
  constructor(format, endpoint, options = {}) {
    const { Client, encode, decode } = formats[format];
    this.format = format;
    this.encode = encode;
    this.decode = decode;
    this.sockets = []; // every WebSocket that the client has opened
    const { sockets } = this;
    class Socket extends WebSocket {
      constructor(address, protocols) {
        super(address, protocols);
        sockets.push(this);
      }
    }
    this.client = new Client(endpoint, { websocket: Socket, minReconnectDelay: 1, maxReconnectDelay: 50, timeout: 10_000, ...options });
    this.errors = [];
    this.client.on('error', (ctx) => this.errors.push(ctx));
  }

  // connect resolves with what the client says once it is connected.
  async connect() {
    const connected = event(this.client, 'connected');
    this.client.connect();
    return connected;
  }

  // subscribe resolves with a subscription and what it said.
  async subscribe(channel, options = {}) {
    const sub = this.client.newSubscription(channel, { minResubscribeDelay: 1, maxResubscribeDelay: 50, ...options });
    const publications = new Inbox(sub, 'publication', (ctx) => ({ ...ctx, data: this.decode(ctx.data) }));
    const subscribed = outcome(sub, 'subscribed', 'unsubscribed');
    sub.subscribe();
    const [name, ctx] = await subscribed;
    assert.equal(name, 'subscribed', `${channel}: ${JSON.stringify(ctx)}`);
    return { sub, ctx, publications };
  }

  publish(channel, data) { return this.client.publish(channel, this.encode(data)); }

  // cut breaks the TCP connection, without a closing handshake.
  cut() { this.sockets.at(-1).terminate(); }

  async close() {
    if (this.client.state === 'disconnected') return;
    const gone = event(this.client, 'disconnected');
    this.client.disconnect();
    await gone;
  }
}

// event resolves with the next event of that name.
export const event = (emitter, name) => new Promise((resolve) => { emitter.once(name, resolve); });

// outcome resolves with whichever comes first: [name, context].
export const outcome = (emitter, ...names) => Promise.race(names.map(async (name) => [name, await event(emitter, name)]));

// Inbox keeps events in order until somebody takes them.
export class Inbox {
  constructor(emitter, name, map = (ctx) => ctx) {
    this.name = name;
    this.list = [];
    this.waiting = [];
    emitter.on(name, (ctx) => {
      this.list.push(map(ctx));
      this.wake();
    });
  }

  wake() {
    while (this.waiting.length > 0 && this.list.length >= this.waiting[0].n) {
      const { n, resolve } = this.waiting.shift();
      resolve(this.list.splice(0, n));
    }
  }

  // take resolves with the next n events.
  take(n) {
    return new Promise((resolve) => {
      this.waiting.push({ n, resolve });
      this.wake();
    });
  }

  async next() { return (await this.take(1))[0]; }
}

// failure resolves with the error of a promise that has to fail.
export async function failure(promise) {
  try {
    await promise;
  } catch (err) {
    return err;
  }
  assert.fail('it did not fail');
}
