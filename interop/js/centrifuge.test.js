// The official JavaScript SDK against a gateway, in both formats. interop/centrifuge_test.go runs it.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { backend, event, failure, formats, Inbox, outcome, Peer, soon, token, unique, url, WebSocket } from './client.js';

// Most tests wait most of the time, so that several run at once.
const tests = [];
const one = (name, body) => tests.push([name, body]);

// each makes a test for both formats. Its peers are closed behind it.
function each(name, body) {
  for (const format of Object.keys(formats)) {
    one(`${format}: ${name}`, async (t) => {
      const peers = [];
      t.after(() => Promise.all(peers.map((p) => p.close())));
      await body((endpoint, options) => {
        const p = new Peer(format, endpoint, options);
        peers.push(p);
        return p;
      }, format);
    });
  }
}

const numbers = (n, from = 1) => Array.from({ length: n }, (_, k) => from + k);
const user = () => unique('user-');

// Connecting.

each('connects without a token and disconnects', async (peer) => {
  const p = peer(url.open);
  const ctx = await p.connect();
  assert.match(ctx.client, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  assert.equal(ctx.transport, 'websocket');
  const gone = event(p.client, 'disconnected');
  p.client.disconnect();
  assert.equal((await gone).code, 0);
});

each('connects and disconnects in a loop', async (peer) => {
  const p = peer(url.open);
  const gone = event(p.client, 'disconnected');
  for (let k = 0; k < 10; k++) {
    p.client.connect();
    p.client.disconnect();
  }
  assert.equal(p.client.state, 'disconnected');
  await gone;
  await p.connect();
});

each('connects with a token', async (peer) => {
  const u = user();
  const p = peer(url.strict, { token: token({ sub: u, info: { name: 'Ada' } }) });
  const { client } = await p.connect();
  const { sub } = await p.subscribe(unique('chat:'));
  const { clients } = await sub.presence();
  const [info] = Object.values(clients);
  assert.equal(info.user, u);
  assert.equal(info.client, client);
  assert.deepEqual(p.decode(info.connInfo), { name: 'Ada' });
});

each('a token that expires is replaced in time', async (peer) => {
  const u = user();
  let calls = 0;
  let again;
  const called = new Promise((resolve) => { again = resolve; });
  const p = peer(url.strict, {
    token: token({ sub: u, exp: soon(3) }),
    getToken: async () => {
      calls++;
      again();
      return token({ sub: u, exp: soon(600) });
    },
  });
  let reconnects = 0;
  p.client.on('connecting', () => { reconnects++; });
  await p.connect();
  await called;
  await p.client.rpc('echo', p.encode({})); // the refresh was sent before it
  assert.equal(calls, 1);
  assert.equal(reconnects, 1, 'it was connected throughout');
  assert.deepEqual(p.errors, []);
});

each('an expired token is replaced before the connection is made', async (peer) => {
  const u = user();
  let calls = 0;
  const p = peer(url.strict, {
    token: token({ sub: u, exp: soon(-10) }),
    getToken: async () => { calls++; return token({ sub: u, exp: soon(600) }); },
  });
  await p.connect();
  assert.equal(calls, 1);
});

each('a token without a successor ends the connection with 3005', async (peer) => {
  const p = peer(url.strict, { token: token({ sub: user(), exp: soon(3) }), getToken: () => new Promise(() => {}) });
  await p.connect();
  assert.equal((await event(p.client, 'connecting')).code, 3005);
});

each('a wrong signature is final', async (peer) => {
  const p = peer(url.strict, { token: token({ sub: user() }, 'another secret') });
  p.client.connect();
  const { code, reason } = await event(p.client, 'disconnected');
  assert.equal(code, 3500);
  assert.equal(reason, 'invalid token');
});

each('a getToken that fails is tried again', async (peer) => {
  let calls = 0;
  const p = peer(url.strict, {
    getToken: async () => {
      if (++calls === 1) throw new Error('not now');
      return token({ sub: user() });
    },
  });
  await p.connect();
  assert.equal(calls, 2);
});

each('a getToken that is unauthorized is final', async (peer) => {
  const { Client } = formats[peer(url.strict).format];
  const p = peer(url.strict, { getToken: async () => { throw new Client.UnauthorizedError(''); } });
  p.client.connect();
  assert.equal((await event(p.client, 'disconnected')).code, 1);
});

each('a getData that fails is tried again', async (peer) => {
  let calls = 0;
  const p = peer(url.open, {
    getData: async () => {
      if (++calls === 1) throw new Error('not now');
      return p.encode({});
    },
  });
  await p.connect();
  assert.equal(calls, 2);
});

each('offline and online', async (peer) => {
  const network = new EventTarget();
  const p = peer(url.open, { networkEventTarget: network });
  await p.connect();
  const connecting = event(p.client, 'connecting');
  network.dispatchEvent(new Event('offline'));
  assert.equal((await connecting).code, 1);
  const connected = event(p.client, 'connected');
  network.dispatchEvent(new Event('online'));
  await connected;
  await p.close();
  network.dispatchEvent(new Event('online'));
  assert.equal(p.client.state, 'disconnected');
});

each('offline before the socket is open', async (peer) => {
  const network = new EventTarget();
  const p = peer(url.open, { networkEventTarget: network });
  p.client.once('__centrifuge_debug:transport_initialized', () => network.dispatchEvent(new Event('offline')));
  await p.connect();
});

// Subscribing, publishing, asking.

each('subscribes, publishes and unsubscribes', async (peer) => {
  const p = peer(url.open);
  const { client } = await p.connect();
  const channel = unique();
  const { sub, publications } = await p.subscribe(channel);
  const data = { my: 'data', list: [1, 2.5, null, true, 'grüße, κόσμε, 👋'], empty: {} };
  await sub.publish(p.encode(data));
  // The publication comes before the reply, so that it is here by now.
  assert.equal(publications.list.length, 1);
  const pub = await publications.next();
  assert.deepEqual(pub.data, data);
  assert.equal(pub.offset, 1);
  assert.equal(pub.info.client, client);
  const gone = event(sub, 'unsubscribed');
  sub.unsubscribe();
  assert.equal((await gone).code, 0);
  await p.publish(channel, { unheard: true });
  assert.equal(publications.list.length, 0);
});

each('subscribes before it is connected, and unsubscribes between connect and its reply', async (peer) => {
  const p = peer(url.open);
  const sub = p.client.newSubscription(unique());
  const sent = new Promise((resolve) => {
    p.client.once('__centrifuge_debug:connect_frame_sent', () => { sub.unsubscribe(); resolve(); });
  });
  sub.subscribe();
  p.client.connect();
  await sent;
  await p.client.ready(10_000);
  await p.client.rpc('echo', p.encode({})).catch(() => {}); // all that was sent before is answered
  assert.equal(sub.state, 'unsubscribed');
  const subscribed = event(sub, 'subscribed');
  sub.subscribe();
  await subscribed;
});

each('subscribes and unsubscribes in a loop', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  const sub = p.client.newSubscription(unique());
  for (let k = 0; k < 10; k++) {
    sub.subscribe();
    sub.unsubscribe();
  }
  assert.equal(sub.state, 'unsubscribed');
  sub.subscribe();
  await sub.ready(10_000);
  const { clients } = await sub.presence();
  assert.equal(Object.keys(clients).length, 1);
  sub.unsubscribe();
  const { numClients } = await p.client.presenceStats(sub.channel);
  assert.equal(numClients, 0);
});

each('rpc', async (peer) => {
  const p = peer(url.strict, { token: token({ sub: user() }) });
  const early = p.client.rpc('echo', p.encode({ early: true })); // waits for the connection
  await p.connect();
  assert.deepEqual(p.decode((await early).data), { early: true });
  const answers = await Promise.all(numbers(20).map((n) => p.client.rpc('echo', p.encode({ n }))));
  assert.deepEqual(answers.map((r) => p.decode(r.data).n), numbers(20));
  const err = await failure(p.client.rpc('nothing of the kind', p.encode({})));
  assert.equal(err.code, 104);
});

each('rpc without anybody to answer is not available', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  assert.equal((await failure(p.client.rpc('method', p.encode({})))).code, 108);
});

each('send has no answer and does no harm', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  await p.client.send(p.encode({ to: 'nobody' }));
  await p.publish(unique(), {});
});

each('history', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  const channel = unique();
  await backend.publish(channel, ...numbers(10).map((n) => ({ n })));
  const { sub } = await p.subscribe(channel);
  const of = (r) => r.publications.map((pub) => p.decode(pub.data).n);
  const top = await sub.history();
  assert.deepEqual(of(top), []);
  assert.equal(top.offset, 10);
  assert.ok(top.epoch.length > 0);
  assert.deepEqual(of(await sub.history({ limit: 3 })), [1, 2, 3]);
  assert.deepEqual(of(await sub.history({ limit: -1 })), numbers(10));
  assert.deepEqual(of(await sub.history({ limit: 3, reverse: true })), [10, 9, 8]);
  assert.deepEqual(of(await sub.history({ limit: 3, since: { offset: 5, epoch: top.epoch } })), [6, 7, 8]);
  assert.deepEqual(of(await p.client.history(channel, { limit: 2, since: { offset: 3, epoch: top.epoch }, reverse: true })), [2, 1]);
  assert.equal((await failure(sub.history({ limit: 1, since: { offset: 5, epoch: 'another' } }))).code, 112);
});

each('presence, joins and leaves', async (peer) => {
  const [a, b] = [user(), user()];
  const channel = unique('chat:');
  const first = peer(url.strict, { token: token({ sub: a }) });
  await first.connect();
  const sub = first.client.newSubscription(channel, { joinLeave: true });
  const joins = new Inbox(sub, 'join');
  const leaves = new Inbox(sub, 'leave');
  sub.subscribe();
  assert.equal((await joins.next()).info.user, a);
  const second = peer(url.strict, { token: token({ sub: b, info: { nick: 'b' } }) });
  const { client } = await second.connect();
  await second.subscribe(channel);
  const join = await joins.next();
  assert.equal(join.info.user, b);
  assert.equal(join.info.client, client);
  assert.deepEqual(first.decode(join.info.connInfo), { nick: 'b' });
  const { clients } = await sub.presence();
  assert.deepEqual(Object.values(clients).map((c) => c.user).sort(), [a, b].sort());
  assert.deepEqual(await sub.presenceStats(), { numClients: 2, numUsers: 2 });
  second.cut();
  second.client.disconnect();
  assert.equal((await leaves.next()).info.client, client);
  assert.deepEqual(await sub.presenceStats(), { numClients: 1, numUsers: 1 });
});

each('commands in batches', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  const channel = unique();
  const { publications } = await p.subscribe(channel);
  const frames = p.sockets[0].send.bind(p.sockets[0]);
  let sent = 0;
  p.sockets[0].send = (...args) => { sent++; frames(...args); };
  p.client.startBatching();
  const all = numbers(100).map((n) => p.publish(channel, { n }));
  p.client.stopBatching();
  await Promise.all(all);
  assert.equal(sent, 1);
  assert.deepEqual((await publications.take(100)).map((pub) => pub.data.n), numbers(100));
});

each('messages up to the limit, and one beyond it', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  const { sub, publications } = await p.subscribe(unique());
  const text = 'é'.repeat(30_000);
  await sub.publish(p.encode({ text }));
  assert.equal((await publications.next()).data.text, text);
  // Far more than a client may send, as the application may publish it.
  const large = 'x'.repeat(700_000);
  await backend.publish(sub.channel, { large });
  assert.equal((await publications.next()).data.large.length, large.length);
  const gone = event(p.client, 'disconnected');
  const lost = failure(sub.publish(p.encode({ text: 'x'.repeat(65_537) })));
  assert.equal((await gone).code, 3, 'which is what the SDK makes of 1009'); // and it does not come back
  await lost;
});

each('channels with names of all kinds', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  for (const name of ['κανάλι', '频道', 'канал "в кавычках"', 'back\\slash/and space', '😀', 'a'.repeat(200), '<script>&\u2028']) {
    const channel = `${name}${unique()}`;
    const { sub, publications } = await p.subscribe(channel);
    await sub.publish(p.encode({ name }));
    const pub = await publications.next();
    assert.equal(pub.channel, channel);
    assert.equal(pub.data.name, name);
    assert.equal(Object.keys((await sub.presence()).clients).length, 1);
  }
});

each('channels that cannot be', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  for (const [channel, code] of [['nope:x', 102], ['line\nbreak', 107], ['x'.repeat(256), 107]]) {
    const sub = p.client.newSubscription(channel);
    sub.subscribe();
    assert.equal((await event(sub, 'unsubscribed')).code, code, JSON.stringify(channel));
  }
});

each('the 129th channel', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  const prefix = unique();
  const first = await Promise.all(numbers(128).map((n) => p.subscribe(`${prefix}-${n}`)));
  assert.equal(first.length, 128);
  const sub = p.client.newSubscription(`${prefix}-129`);
  sub.subscribe();
  assert.equal((await event(sub, 'unsubscribed')).code, 106);
  const gone = event(first[0].sub, 'unsubscribed');
  first[0].sub.unsubscribe();
  await gone;
  sub.subscribe();
  await event(sub, 'subscribed');
});

// Rights.

each('what nobody allowed', async (peer) => {
  const p = peer(url.strict, { token: token({ sub: user() }) });
  await p.connect();
  for (const [channel, code] of [['closed:x', 103], ['$chat:x', 103], ['$x', 103], ['nope:x', 102]]) {
    const sub = p.client.newSubscription(channel);
    sub.subscribe();
    assert.equal((await event(sub, 'unsubscribed')).code, code, channel);
  }
  const channel = unique('chat:');
  assert.equal((await failure(p.publish(channel, {}))).code, 103);
  assert.equal((await failure(p.client.presence(channel))).code, 103);
  assert.equal((await failure(p.client.history(channel, { limit: 1 }))).code, 103);
  await p.subscribe(channel);
  await p.publish(channel, {});
});

each('channels that list their users', async (peer) => {
  const [a, b] = [user(), user()];
  const channel = unique('chat:dialog') + `#${a},somebody`;
  const in_ = peer(url.strict, { token: token({ sub: a }) });
  await in_.connect();
  await in_.subscribe(channel);
  const out = peer(url.strict, { token: token({ sub: b }) });
  await out.connect();
  const sub = out.client.newSubscription(channel);
  sub.subscribe();
  assert.equal((await event(sub, 'unsubscribed')).code, 103);
});

each('private channels with tokens of their own', async (peer) => {
  const u = user();
  const p = peer(url.strict, { token: token({ sub: u }) });
  await p.connect();
  const channel = unique('$chat:');
  let calls = 0;
  const { sub, publications } = await p.subscribe(channel, {
    getToken: async (ctx) => {
      assert.equal(ctx.channel, channel);
      if (++calls === 1) throw new Error('not now');
      return token({ sub: u, channel, info: { seat: 7 } });
    },
  });
  assert.equal(calls, 2, 'it was tried again');
  await sub.publish(p.encode({ n: 1 }));
  const pub = await publications.next();
  assert.deepEqual(p.decode(pub.info.chanInfo), { seat: 7 });

  for (const claims of [{ sub: u, channel: '$chat:another' }, { sub: 'another', channel: unique('$chat:') }]) {
    const thief = peer(url.strict, { token: token({ sub: u }) });
    await thief.connect();
    const gone = event(thief.client, 'disconnected');
    thief.client.newSubscription(claims.sub === u ? unique('$chat:') : claims.channel, { token: token(claims) }).subscribe();
    assert.equal((await gone).code, 3500);
  }
});

each('subscription tokens that expire', async (peer) => {
  const u = user();
  const p = peer(url.strict, { token: token({ sub: u }) });
  await p.connect();
  const channel = unique('$chat:');
  let calls = 0;
  let again;
  const renewed = new Promise((resolve) => { again = resolve; });
  const { sub, publications } = await p.subscribe(channel, {
    token: token({ sub: u, channel, exp: soon(-10) }), // replaced at once
    getToken: async () => {
      if (++calls === 2) again();
      return token({ sub: u, channel, exp: soon(calls === 1 ? 3 : 600) }); // and before it expires
    },
  });
  assert.equal(calls, 1);
  let lost = 0;
  sub.on('subscribing', () => { lost++; });
  await renewed;
  await sub.publish(p.encode({}));
  await publications.next();
  assert.equal(lost, 0);
});

each('a subscription whose token gets no successor', async (peer) => {
  const u = user();
  const p = peer(url.strict, { token: token({ sub: u }) });
  await p.connect();
  const channel = unique('$chat:');
  let calls = 0;
  const { sub } = await p.subscribe(channel, {
    getToken: () => (++calls === 1 ? Promise.resolve(token({ sub: u, channel, exp: soon(3) })) : new Promise(() => {})),
  });
  assert.equal((await event(sub, 'subscribing')).code, 2501);
});

each('a subscription whose application is unauthorized', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  const { Client } = formats[p.format];
  const sub = p.client.newSubscription(unique(), { getToken: async () => { throw new Client.UnauthorizedError(''); } });
  sub.subscribe();
  assert.equal((await event(sub, 'unsubscribed')).code, 1);
  assert.equal(p.client.state, 'connected');
});

each('many subscriptions with tokens at once', async (peer) => {
  const p = peer(url.open, { getToken: async () => token({ iat: 1_738_078_824 }) });
  await p.connect();
  const subs = numbers(5).map(() => {
    const channel = unique();
    return p.client.newSubscription(channel, { getToken: async () => token({ channel }) });
  });
  for (const sub of subs) sub.subscribe();
  await Promise.all(subs.map((sub) => sub.ready(10_000)));
  const gone = subs.map((sub) => event(sub, 'unsubscribed'));
  for (const sub of subs) sub.unsubscribe();
  p.client.disconnect();
  assert.deepEqual((await Promise.all(gone)).map((ctx) => ctx.code), [0, 0, 0, 0, 0]);
});

// The server's side.

each('subscriptions of the server, from the token', async (peer) => {
  const u = user();
  const [plain, recovering] = [unique('quiet:'), unique('chat:')];
  const p = peer(url.strict, { token: token({ sub: u, subs: { [plain]: {}, [recovering]: { data: { welcome: true } } } }) });
  const subscribed = new Inbox(p.client, 'subscribed');
  const publications = new Inbox(p.client, 'publication');
  await p.connect();
  const subs = Object.fromEntries((await subscribed.take(2)).map((ctx) => [ctx.channel, ctx]));
  assert.deepEqual(Object.keys(subs).sort(), [plain, recovering].sort());
  assert.equal(subs[plain].recoverable, false);
  assert.equal(subs[recovering].recoverable, true);
  assert.deepEqual(p.decode(subs[recovering].data), { welcome: true });
  await backend.publish(plain, { n: 1 });
  await backend.publish(recovering, { n: 2 });
  const got = await publications.take(2);
  assert.deepEqual(got.map((pub) => [pub.channel, p.decode(pub.data).n]), [[plain, 1], [recovering, 2]]);

  const again = event(p.client, 'connecting');
  p.cut();
  await again;
  await backend.publish(recovering, { n: 3 }, { n: 4 });
  const missed = await publications.take(2);
  assert.deepEqual(missed.map((pub) => p.decode(pub.data).n), [3, 4]);
  const back = (await subscribed.take(2)).find((ctx) => ctx.channel === recovering);
  assert.equal(back.recovered, true);
});

each('subscribed and unsubscribed by the server', async (peer) => {
  const u = user();
  const p = peer(url.strict, { token: token({ sub: u }) });
  await p.connect();
  const channel = unique('chat:');
  const subscribed = event(p.client, 'subscribed');
  await backend.subscribe(u, channel);
  assert.equal((await subscribed).channel, channel);
  const publication = event(p.client, 'publication');
  await backend.publish(channel, { n: 1 });
  assert.deepEqual(p.decode((await publication).data), { n: 1 });
  const unsubscribed = event(p.client, 'unsubscribed');
  await backend.unsubscribe(u, channel);
  assert.equal((await unsubscribed).channel, channel);

  const { sub } = await p.subscribe(unique('chat:'));
  const gone = event(sub, 'unsubscribed');
  await backend.unsubscribe(u, sub.channel);
  assert.equal((await gone).code, 2000);
});

each('disconnected for good', async (peer) => {
  const u = user();
  const p = peer(url.strict, { token: token({ sub: u }) });
  await p.connect();
  let gone = event(p.client, 'disconnected');
  await backend.disconnect(u);
  assert.deepEqual(await gone, { code: 3503, reason: 'force disconnect' });
  await p.connect();
  gone = event(p.client, 'disconnected');
  await backend.disconnect(u, { code: 4501, reason: 'grüße' });
  assert.deepEqual(await gone, { code: 4501, reason: 'grüße' });
  assert.equal(p.client.state, 'disconnected');
});

each('disconnected to come back', async (peer) => {
  const u = user();
  const p = peer(url.strict, { token: token({ sub: u }) });
  await p.connect();
  const { sub, publications } = await p.subscribe(unique('chat:'));
  for (const code of [3011, 4001, 3000]) {
    const connecting = event(p.client, 'connecting');
    const back = event(sub, 'subscribed');
    await backend.disconnect(u, { code, reason: 'come back' });
    assert.equal((await connecting).code, code);
    assert.equal((await back).recovered, true);
  }
  await backend.publish(sub.channel, { n: 1 });
  assert.equal((await publications.next()).data.n, 1);
});

// Recovery.

each('what a cut connection missed comes back, in order and once', async (peer) => {
  const p = peer(url.strict, { token: token({ sub: user() }), minReconnectDelay: 1, maxReconnectDelay: 20 });
  await p.connect();
  const { sub, publications } = await p.subscribe(unique('chat:'));
  await backend.publish(sub.channel, { n: 0 });
  assert.equal((await publications.next()).data.n, 0);
  for (let round = 0; round < 5; round++) {
    const from = 1 + round * 11;
    const connecting = event(p.client, 'connecting');
    const back = event(sub, 'subscribed');
    p.cut();
    await connecting;
    await backend.publish(sub.channel, ...numbers(10, from).map((n) => ({ n })));
    const ctx = await back;
    assert.equal(ctx.wasRecovering, true);
    assert.equal(ctx.recovered, true);
    await backend.publish(sub.channel, { n: from + 10 });
    const got = await publications.take(11);
    assert.deepEqual(got.map((pub) => pub.data.n), numbers(11, from));
    assert.deepEqual(got.map((pub) => pub.offset), numbers(11, from + 1));
  }
  assert.equal(publications.list.length, 0);
});

each('publications that come while the client is on its way back', async (peer) => {
  const p = peer(url.strict, { token: token({ sub: user() }) });
  await p.connect();
  const { sub, publications } = await p.subscribe(unique('long:'));
  const n = 60;
  const publishing = (async () => {
    for (let k = 1; k <= n; k++) await backend.publish(sub.channel, { n: k });
  })();
  for (let k = 0; k < 5; k++) {
    const back = outcome(sub, 'subscribed');
    p.cut();
    assert.equal((await back)[1].recovered, true);
  }
  await publishing;
  assert.deepEqual((await publications.take(n)).map((pub) => pub.data.n), numbers(n));
  await sub.history(); // and nothing behind it
  assert.equal(publications.list.length, 0);
});

each('what was missed between two subscriptions', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  const { sub, publications } = await p.subscribe(unique('recovery:'));
  await backend.publish(sub.channel, { n: 1 });
  await publications.next();
  sub.unsubscribe();
  await backend.publish(sub.channel, { n: 2 }, { n: 3 });
  const back = event(sub, 'subscribed');
  sub.subscribe();
  assert.equal((await back).recovered, true);
  assert.deepEqual((await publications.take(2)).map((pub) => pub.data.n), [2, 3]);
});

each('too much missed', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  const { sub, publications } = await p.subscribe(unique('smallhistory:'));
  await backend.publish(sub.channel, { n: 1 });
  await publications.next();
  sub.unsubscribe();
  await backend.publish(sub.channel, ...numbers(4, 2).map((n) => ({ n })));
  const back = event(sub, 'subscribed');
  sub.subscribe();
  const ctx = await back;
  assert.equal(ctx.wasRecovering, true);
  assert.equal(ctx.recovered, false);
  assert.equal(ctx.streamPosition.offset, 5);
  await backend.publish(sub.channel, { n: 6 });
  assert.equal((await publications.next()).data.n, 6);
});

each('from a position that the application knows', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  const channel = unique('recovery:');
  await backend.publish(channel, ...numbers(5).map((n) => ({ n })));
  const { epoch } = await p.client.history(channel, { limit: 0 });
  const { ctx, publications } = await p.subscribe(channel, { since: { offset: 2, epoch } });
  assert.equal(ctx.recovered, true);
  assert.deepEqual((await publications.take(3)).map((pub) => pub.data.n), [3, 4, 5]);
});

each('a state that the application loads, again when the position is lost', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  const channel = unique('smallhistory:');
  await backend.publish(channel, { n: 1 });
  let calls = 0;
  const { sub, ctx, publications } = await p.subscribe(channel, {
    getState: async () => {
      const { epoch, offset } = await p.client.history(channel, { limit: 0 });
      // The first answer is one of another life of the stream.
      return ++calls === 1 ? { offset, epoch: 'other' } : { offset, epoch };
    },
  });
  assert.equal(calls, 2);
  assert.equal(ctx.recovered, true);
  sub.unsubscribe();
  await backend.publish(channel, ...numbers(5, 2).map((n) => ({ n })));
  const back = event(sub, 'subscribed');
  sub.subscribe();
  await back;
  assert.equal(calls, 3);
  await backend.publish(channel, { n: 7 });
  assert.equal((await publications.next()).data.n, 7);
});

// Deltas.

const padding = 'x'.repeat(500);

each('deltas of publications that are alike', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  const { sub, publications } = await p.subscribe(unique('delta:'), { delta: 'fossil' });
  const sent = numbers(10).map((n) => ({ n, padding, text: 'grüße '.repeat(n) }));
  for (const data of sent) await backend.publish(sub.channel, data);
  assert.deepEqual((await publications.take(10)).map((pub) => pub.data), sent);
  const stats = sub.deltaStats();
  assert.equal(stats.numPublications, 10);
  assert.equal(stats.numFullPayloads, 1);
  assert.equal(stats.numDeltaPayloads, 9);
  assert.ok(stats.bytesReceived < stats.bytesDecoded / 2, JSON.stringify(stats));
});

each('deltas of what clients publish, beside a subscriber without', async (peer) => {
  const [a, b] = [peer(url.open), peer(url.open)];
  await Promise.all([a.connect(), b.connect()]);
  const channel = unique('delta:');
  const withDelta = await a.subscribe(channel, { delta: 'fossil' });
  const without = await b.subscribe(channel);
  const sent = numbers(5).map((n) => ({ n, padding }));
  for (const data of sent) await withDelta.sub.publish(a.encode(data));
  assert.deepEqual((await withDelta.publications.take(5)).map((pub) => pub.data), sent);
  assert.deepEqual((await without.publications.take(5)).map((pub) => pub.data), sent);
  assert.equal(withDelta.sub.deltaStats().numDeltaPayloads, 4);
  assert.equal(without.sub.deltaStats().numDeltaPayloads, 0);
});

each('deltas through a cut and a recovery', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  const { sub, publications } = await p.subscribe(unique('delta:'), { delta: 'fossil' });
  await backend.publish(sub.channel, { n: 1, padding });
  await publications.next();
  const connecting = event(p.client, 'connecting');
  const back = event(sub, 'subscribed');
  p.cut();
  await connecting;
  await backend.publish(sub.channel, { n: 2, padding }, { n: 3, padding });
  assert.equal((await back).recovered, true);
  await backend.publish(sub.channel, { n: 4, padding }, { n: 5, padding: `${padding}y` });
  assert.deepEqual((await publications.take(4)).map((pub) => pub.data), [
    { n: 2, padding }, { n: 3, padding }, { n: 4, padding }, { n: 5, padding: `${padding}y` },
  ]);
});

each('deltas through an unsubscription', async (peer) => {
  const p = peer(url.open);
  await p.connect();
  const { sub, publications } = await p.subscribe(unique('delta:'), { delta: 'fossil' });
  await backend.publish(sub.channel, { n: 1, padding });
  await publications.next();
  sub.unsubscribe();
  await backend.publish(sub.channel, { n: 2, padding }, { n: 3, padding });
  const back = event(sub, 'subscribed');
  sub.subscribe();
  assert.equal((await back).recovered, true);
  assert.deepEqual((await publications.take(2)).map((pub) => pub.data.n), [2, 3]);
});

// Heartbeats.

each('pings and pongs', async (peer) => {
  const p = peer(url.strict, { token: token({ sub: user() }) });
  let lost = 0;
  p.client.on('connecting', () => { lost++; });
  await p.connect();
  const ws = p.sockets[0];
  let pings = 0;
  await new Promise((resolve) => {
    ws.on('message', (data) => { if ((data.length ?? data.byteLength) <= 2 && ++pings === 2) resolve(); });
  });
  await p.client.rpc('echo', p.encode({}));
  assert.equal(lost, 1);
});

// Raw sockets: what no SDK does.

async function raw(query = '', protocols = []) {
  const ws = new WebSocket(`${url.strict}${query}`, protocols);
  const messages = new Inbox(ws, 'message', (data) => data);
  const closed = once(ws, 'close').then(([code, reason]) => ({ code, reason: String(reason) }));
  await once(ws, 'open');
  return { ws, messages, closed };
}

one('a client that does not answer pings', async () => {
  const { ws, messages, closed } = await raw();
  ws.send(JSON.stringify({ id: 1, connect: { token: token({ sub: user() }) } }));
  const { connect } = JSON.parse(await messages.next());
  assert.equal(connect.ping, 2);
  assert.equal(connect.pong, true);
  assert.equal(String(await messages.next()), '{}');
  assert.deepEqual(await closed, { code: 3012, reason: 'no pong' });
});

one('a pong that nobody asked for', async () => {
  const { ws, messages, closed } = await raw();
  ws.send(JSON.stringify({ id: 1, connect: { token: token({ sub: user() }) } }));
  await messages.next();
  ws.send('{}');
  assert.deepEqual(await closed, { code: 3501, reason: 'bad request' });
});

one('pings of the WebSocket protocol instead', async () => {
  const { ws, messages, closed } = await raw('?cf_ws_frame_ping_pong=true');
  let pings = 0;
  const pinged = new Promise((resolve) => { ws.on('ping', () => { if (++pings === 2) resolve(); }); });
  ws.send(JSON.stringify({ id: 1, connect: { token: token({ sub: user() }) } }));
  const { connect } = JSON.parse(await messages.next());
  assert.equal(connect.ping, undefined);
  assert.equal(connect.pong, undefined);
  await pinged;
  ws.send(JSON.stringify({ id: 2, rpc: { method: 'echo', data: { n: 1 } } }));
  assert.equal(String(await messages.next()), '{"id":2,"rpc":{"data":{"n":1}}}');
  assert.equal(messages.list.length, 0, 'no pings of the other kind');
  ws.close(1000);
  assert.equal((await closed).code, 1000);
});

one('several commands in one frame', async () => {
  const { ws, messages } = await raw();
  const channel = unique('quiet:');
  const commands = [
    { id: 1, connect: { token: token({ sub: user() }) } },
    { id: 2, subscribe: { channel } },
    { id: 3, rpc: { method: 'echo', data: 'x' } },
    { id: 4, publish: { channel, data: [1] } },
  ];
  ws.send(`${commands.map((c) => JSON.stringify(c)).join('\n')}\n`);
  const replies = [];
  while (replies.length < 5) replies.push(...String(await messages.next()).split('\n').filter(Boolean).map((s) => JSON.parse(s)));
  assert.deepEqual(replies.map((r) => r.id ?? 'push'), [1, 2, 3, 'push', 4]);
  ws.terminate();
});

one('the subprotocols', async () => {
  for (const [query, protocols, want, binary] of [
    ['', [], '', false],
    ['', ['centrifuge-json'], 'centrifuge-json', false],
    ['', ['centrifuge-protobuf'], 'centrifuge-protobuf', true],
    ['?format=protobuf', [], '', true],
    ['?cf_protocol=protobuf&cf_protocol_version=v2', [], '', true],
  ]) {
    const { ws } = await raw(query, protocols);
    assert.equal(ws.protocol, want);
    // {id: 1, connect: {}} in either format: the anonymous may.
    ws.send(binary ? Buffer.from([4, 8, 1, 0x22, 0]) : '{"id":1,"connect":{}}');
    const [, isBinary] = await once(ws, 'message');
    assert.equal(isBinary, binary, `${query} ${protocols}`);
    ws.terminate();
  }
});

one('Protobuf clients with data that is no JSON beside a JSON client', async (t) => {
  const [json, a, b] = [new Peer('json', url.open), new Peer('protobuf', url.open), new Peer('protobuf', url.open)];
  t.after(() => Promise.all([json, a, b].map((p) => p.close())));
  await Promise.all([json, a, b].map((p) => p.connect()));
  const channel = unique('plain:');
  a.decode = b.decode = (b) => Buffer.from(b);
  await json.subscribe(channel);
  const { publications } = await b.subscribe(channel);
  const gone = event(json.client, 'disconnected');
  const bytes = new Uint8Array([0, 255, 128, 10]);
  await a.client.publish(channel, bytes);
  assert.deepEqual([...(await publications.next()).data], [...bytes]);
  assert.deepEqual(await gone, { code: 3506, reason: 'inappropriate protocol' });
});

one('JSON and Protobuf clients understand each other', async (t) => {
  const peers = [new Peer('json', url.open), new Peer('protobuf', url.open)];
  t.after(() => Promise.all(peers.map((p) => p.close())));
  const channel = unique('delta:');
  const subs = [];
  for (const p of peers) {
    await p.connect();
    subs.push(await p.subscribe(channel, { delta: 'fossil' }));
  }
  const sent = numbers(6).map((n) => ({ n, padding, text: 'κόσμε' }));
  for (const [k, data] of sent.entries()) await peers[k % 2].publish(channel, data);
  for (const { publications } of subs) assert.deepEqual((await publications.take(6)).map((pub) => pub.data), sent);
});

describe('the SDK', { concurrency: 8 }, () => {
  for (const [name, body] of tests) test(name, { timeout: 60_000 }, body);
});
