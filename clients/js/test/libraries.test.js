// Libraries that bring their own protocol and their own way back take LongwireSocket in place of WebSocket.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, test } from 'node:test';
import { Aedes } from 'aedes';
import { Centrifuge } from 'centrifuge';
import { GraphQLObjectType, GraphQLSchema, GraphQLString } from 'graphql';
import { createClient } from 'graphql-ws';
import { useServer } from 'graphql-ws/use/ws';
import { createDecoder, readVarUint, readVarUint8Array } from 'lib0/decoding';
import { createEncoder, length, toUint8Array, writeVarUint, writeVarUint8Array } from 'lib0/encoding';
import mqtt from 'mqtt';
import { WebSocket, WebSocketServer, createWebSocketStream } from 'ws';
import { Awareness, applyAwarenessUpdate, encodeAwarenessUpdate } from 'y-protocols/awareness';
import { readSyncMessage, writeSyncStep1, writeUpdate } from 'y-protocols/sync';
import { WebsocketProvider } from 'y-websocket';
import * as Y from 'yjs';
import { LongwireSocket } from '@longwire/socket';
import { haveGo, listening, longwire } from './tools.js';

const cleanup = [];
after(() => Promise.all(cleanup.reverse().map((f) => f())));

// made is a class for a library, which remembers its sockets, and those underneath.
function made(options) {
  const all = [];
  const inner = [];
  class Inner extends WebSocket {
    constructor(...args) {
      super(...args);
      inner.push(this);
    }
  }
  cleanup.push(() => inner.forEach((s) => s.terminate())); // one that hears nothing does not hear of its end either
  const Base = LongwireSocket.with({ WebSocket: Inner, reconnect: false, ...options });
  class Socket extends Base {
    constructor(...args) {
      super(...args);
      all.push(this);
    }
  }
  return { Socket, all, inner };
}

// mute has a socket hear nothing more, as if the line were cut.
const mute = (s) => s._socket.pause();

const until = async (f) => {
  for (let i = 0; !f(); i++) {
    assert.ok(i < 3000, `not reached: ${f}`);
    await new Promise((r) => setTimeout(r, 5));
  }
};

async function server(options) {
  const http = createServer();
  const s = new WebSocketServer({ server: http, ...options });
  http.listen(0, '127.0.0.1');
  const url = await listening(http);
  cleanup.push(() => {
    for (const c of s.clients) c.terminate();
    http.close();
  });
  return { s, url };
}

test('centrifuge-js', { skip: !haveGo() && 'go is not installed' }, async () => {
  const gateway = await longwire();
  cleanup.push(gateway.stop);
  const { Socket, all, inner } = made({ heartbeat: { mode: 'traffic', interval: 300, timeout: 50 } });
  const client = new Centrifuge(`ws://${gateway.addr}/connection/websocket`, { websocket: Socket, minReconnectDelay: 10 });
  cleanup.push(() => client.disconnect());
  const sub = client.newSubscription('news');
  const got = [];
  sub.on('publication', (p) => got.push(p.data));
  sub.subscribe();
  client.connect();
  await sub.ready(10000);
  await sub.publish({ n: 1 });
  await until(() => got.length === 1);
  assert.deepEqual(got, [{ n: 1 }]);
  mute(inner[0]);
  await until(() => all.length > 1);
  await sub.ready(10000);
  await sub.publish({ n: 2 });
  await until(() => got.length === 2);
  assert.equal(all[0].state, 'closed');
});

test('mqtt.js', async () => {
  const broker = await Aedes.createBroker();
  cleanup.push(() => new Promise((r) => broker.close(r)));
  const { s, url } = await server({ handleProtocols: () => 'mqtt' });
  s.on('connection', (c, request) => {
    const stream = createWebSocketStream(c);
    stream.on('error', () => {});
    broker.handle(stream, request);
  });
  const { Socket, all, inner } = made({ heartbeat: { mode: 'traffic', interval: 1100, timeout: 50 } });
  const client = mqtt.connect(url, {
    createWebsocket: (address, protocols) => new Socket(address, protocols),
    forceNativeWebSocket: true, // what a page does
    keepalive: 1,
    reconnectPeriod: 10,
  });
  client.on('error', () => {});
  cleanup.push(() => client.endAsync(true));
  const got = [];
  client.on('message', (topic, payload) => got.push(`${topic} ${payload}`));
  await client.subscribeAsync('a/b', { qos: 1 });
  await client.publishAsync('a/b', 'one', { qos: 1 });
  await until(() => got.length === 1);
  assert.equal(all[0].protocol, 'mqtt');
  mute(inner[0]);
  await until(() => all.length > 1 && client.connected);
  await client.publishAsync('a/b', 'two', { qos: 1 });
  await until(() => got.includes('a/b two'));
  assert.equal(all[0].state, 'closed');
});

// relay is a y-websocket server of one document: what a client sends goes to all, itself included.
function relay(s) {
  const doc = new Y.Doc();
  const awareness = new Awareness(doc);
  awareness.setLocalState(null);
  cleanup.push(() => doc.destroy());
  const message = (type, write) => {
    const e = createEncoder();
    writeVarUint(e, type);
    write(e);
    return toUint8Array(e);
  };
  const all = (b) => s.clients.forEach((c) => c.send(b));
  doc.on('update', (u) => all(message(0, (e) => writeUpdate(e, u))));
  awareness.on('update', ({ added, updated, removed }) => {
    all(message(1, (e) => writeVarUint8Array(e, encodeAwarenessUpdate(awareness, [...added, ...updated, ...removed]))));
  });
  s.on('connection', (c) => {
    c.on('message', (b) => {
      const d = createDecoder(new Uint8Array(b));
      if (readVarUint(d) === 1) return applyAwarenessUpdate(awareness, readVarUint8Array(d), c);
      const e = createEncoder();
      writeVarUint(e, 0);
      readSyncMessage(d, e, doc, c);
      if (length(e) > 1) c.send(toUint8Array(e));
    });
    c.send(message(0, (e) => writeSyncStep1(e, doc)));
  });
}

test('y-websocket', async () => {
  const { s, url } = await server();
  relay(s);
  const { Socket, all, inner } = made({ heartbeat: { mode: 'traffic', interval: 400, timeout: 50 } });
  const docs = [new Y.Doc(), new Y.Doc()];
  const providers = docs.map((doc) => {
    const p = new WebsocketProvider(url, 'room', doc, { WebSocketPolyfill: Socket, disableBc: true, maxBackoffTime: 20 });
    cleanup.push(() => doc.destroy()); // and with it the provider's awareness, which has a timer
    cleanup.push(() => p.destroy());
    return p;
  });
  // The provider renews its state every 15 s; here it does ten times a second, so that the test does not take minutes.
  const renew = setInterval(() => providers.forEach((p) => p.awareness.setLocalState({ t: performance.now() })), 100);
  cleanup.push(() => clearInterval(renew));
  await until(() => providers.every((p) => p.synced));
  docs[0].getText('t').insert(0, 'hello');
  await until(() => docs[1].getText('t').toString() === 'hello');
  assert.equal(all.length, 2);
  mute(inner[0]);
  docs[1].getText('t').insert(5, ' world');
  await until(() => all.length > 2);
  await until(() => docs[0].getText('t').toString() === 'hello world');
  assert.equal(all[0].state, 'closed');
  assert.equal(all[1].state, 'idle');
});

test('graphql-ws', async () => {
  const { s, url } = await server({ handleProtocols: (set) => set.has('graphql-transport-ws') && 'graphql-transport-ws' });
  async function* numbers() {
    for (let n = 1; ; n++) {
      yield { number: `${n}` };
      await new Promise((r) => setTimeout(r, 20));
    }
  }
  const schema = new GraphQLSchema({
    query: new GraphQLObjectType({ name: 'Query', fields: { hello: { type: GraphQLString, resolve: () => 'world' } } }),
    subscription: new GraphQLObjectType({ name: 'Subscription', fields: { number: { type: GraphQLString, subscribe: numbers } } }),
  });
  useServer({ schema }, s);
  const { Socket, all, inner } = made({
    heartbeat: {
      mode: 'custom',
      interval: 200,
      timeout: 50,
      ping: '{"type":"ping"}',
      pong: (d) => typeof d === 'string' && d.includes('"type":"pong"'),
    },
  });
  const client = createClient({ url, webSocketImpl: Socket, retryAttempts: 10, retryWait: async () => {}, shouldRetry: () => true });
  cleanup.push(() => client.dispose());
  const results = [];
  for await (const r of client.iterate({ query: '{ hello }' })) results.push(r.data.hello);
  assert.deepEqual(results, ['world']);

  const got = [];
  const stop = client.subscribe({ query: 'subscription { number }' }, { next: (r) => got.push(r.data.number), error: (e) => got.push(e), complete() {} });
  await until(() => got.length >= 3);
  assert.deepEqual(got.slice(0, 3), ['1', '2', '3']);
  const n = all.length;
  mute(inner.at(-1));
  await until(() => all.length > n);
  const from = got.length;
  await until(() => got.length > from + 2);
  assert.ok(got.every((v) => typeof v === 'string'), `${got}`);
  assert.equal(all[n - 1].state, 'closed');
  assert.equal(all[0].protocol, 'graphql-transport-ws');
  stop();
});
