// What the tests of the SDK share: clients of both formats, tokens, and the doors of the gateway under test, which
// interop/centrifuge_test.go opens.
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
const doors = env('LONGWIRE_DOORS');

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

// ask has the Go side do something.
async function ask(door, body) {
  const r = await fetch(`${doors}/${door}`, { method: 'POST', body: JSON.stringify(body) });
  const text = await r.text();
  assert.equal(r.status, 200, text);
  return text === '' ? undefined : JSON.parse(text);
}

export const backend = {
  // publish publishes each of data, as an application would.
  publish: (channel, ...data) => ask('publish', { channel, data }),
  unsubscribe: (user, channel) => ask('unsubscribe', { user, channel }),
  subscribe: (user, channel) => ask('subscribe', { user, channel }),
  disconnect: (user, code = 0, reason = '') => ask('disconnect', { user, code, reason }),
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
