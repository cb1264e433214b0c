// The page: a room by centrifuge-js, over a LongwireSocket whose state machine is drawn beside it.
import { Centrifuge, LongwireSocket } from './lib.js';

const $ = (id) => document.getElementById(id);
const hex = (bytes) => [...crypto.getRandomValues(new Uint8Array(bytes))].map((b) => b.toString(16).padStart(2, '0')).join('');
const cableID = hex(16); // of this page alone: the proxy applies to its connections what the buttons say

// The socket.

// What the policy remembers from one socket to the next. LongwireSocket.with would make one; this page shows it.
const memory = { misses: 0, failures: 0, trials: 0, until: 0, hold: 0 };
const connectTimeout = 1500;
const interval = 3000;

// The SDK comes back by itself, since it has to sign in anew and to recover: reconnect is its affair. Noticing a dead
// line and the fuse are the socket's. The server pings every 2 s, so silence alone says enough.
const Line = LongwireSocket.with({
  reconnect: false,
  memory,
  heartbeat: { mode: 'traffic', interval, timeout: 1000 },
  fuse: { failures: 2, coolDown: 3000, maxCoolDown: 12000 },
  backoff: { stable: 2000, spread: 3000 },
  connectTimeout,
});

// Watched is a Line that the diagram follows. The first transition of a socket is over before anybody can listen.
class Watched extends Line {
  constructor(url, protocols) {
    super(url, protocols);
    enter(this.state, reasonToDial, { melted: memory.until, backoff: memory.hold }[this.state] ?? Date.now() + connectTimeout);
    reasonToDial = 'the SDK dials';
    let ended = '';
    this.addEventListener('state', ({ to, reason, due }) => {
      if (to === 'closed') ended = reason;
      else enter(to, reason, due);
    });
    this.addEventListener('message', () => {
      if (this.state === 'idle') until(Date.now() + interval); // a sign of life is no transition
    });
    // Listeners of close come after the SDK, which has made up its mind by then.
    this.addEventListener('close', () => {
      if (client.state === 'disconnected') enter('closed', ended, 0);
      else if (memory.until > Date.now()) enter('melted', ended, memory.until);
      else enter('backoff', ended, Date.now() + longestDelay());
    });
  }
}

// The SDK.

const animals = ['Otter', 'Heron', 'Lynx', 'Raven', 'Badger', 'Stork', 'Marten', 'Finch', 'Seal', 'Hare', 'Ibex', 'Newt'];
// A name may stand behind a # in the address. None is kept: a window that was duplicated is somebody else.
const me = new URLSearchParams(location.hash.replace('#', 'name=')).get('name') || `${animals[Math.floor(Math.random() * animals.length)]} ${Math.floor(10 + Math.random() * 90)}`;

const minReconnectDelay = 500;
const maxReconnectDelay = 3000;
let attempts = 0; // since the last connection, as the SDK counts them
let reasonToDial = 'start'; // of the first socket

// longestDelay is how long the SDK waits at most until it dials: it does not tell what it has drawn.
const longestDelay = () => Math.min(maxReconnectDelay, minReconnectDelay + Math.min(maxReconnectDelay, minReconnectDelay * 2 ** attempts++));

const url = `${location.origin.replace(/^http/, 'ws')}/connection/websocket?cable=${cableID}`;
const client = new Centrifuge(url, {
  websocket: Watched,
  data: { name: me },
  minReconnectDelay,
  maxReconnectDelay,
  timeout: 60000, // a socket whose fuse is open stays connecting until it may
});
client.on('connected', () => { attempts = 0; });
client.on('disconnected', ({ code, reason }) => problem(`The gateway wants us no more: ${reason} (${code}).`));

const sub = client.newSubscription('chat', { recoverable: true, joinLeave: true });

// Messages. The channel counts them: the offset of each follows that of the one before, so holes and doubles show.

const seen = new Set(); // ids of messages that were shown
const outbox = new Map(); // id → message of our own that was not seen in the channel yet
let top = 0; // the offset of the last one
let recovering = null; // the line above those that were missed, while they are handed out

sub.on('subscribed', async (ctx) => {
  presence();
  const { offset } = ctx.streamPosition;
  if (ctx.wasRecovering && ctx.recovered) {
    // What was missed is handed out right after this event, before anything else happens.
    recovering = { count: 0 };
    await null;
    recovering = null;
  } else {
    if (ctx.wasRecovering) {
      divider('some messages are gone: the gateway does not have them any more', true);
      for (const m of outbox.values()) m.taken = false;
    }
    top = offset;
    await earlier();
  }
  flush();
});

sub.on('publication', (ctx) => {
  const { offset, data: { id } } = ctx;
  if (offset > top + 1) tally('lost', offset - top - 1);
  const again = offset <= top || seen.has(id);
  top = Math.max(top, offset);
  if (again) return tally('doubled', 1); // counted, not shown
  if (recovering) {
    recovering.line ??= divider('');
    recovering.line.textContent = `recovered ${++recovering.count}`;
    tally('recovered', 1);
    if (recovering.count === 1) note('recovered what was missed');
  }
  show(ctx, Boolean(recovering));
});

// earlier shows what the gateway still has of what was said before.
async function earlier() {
  const last = $('lines').lastChild;
  try {
    const { publications } = await sub.history({ limit: 50, reverse: true });
    const next = last ? last.nextSibling : $('lines').firstChild; // what has come since then
    for (const p of publications.reverse()) if (p.offset <= top && !seen.has(p.data.id)) show(p, false, next);
  } catch (err) {
    problem(`What was said before can't be had: ${err.message}.`);
  }
}

// flush sends what waits, one after the other, so that it stays in order. A message whose connection broke before the answer
// is sent again when the recovery has not brought it: it did not arrive, or arrives late and is told apart by its id.
let flushing = false;
async function flush() {
  if (flushing) return;
  flushing = true;
  while (sub.state === 'subscribed') {
    const [id, m] = [...outbox].find(([, { taken }]) => !taken) ?? [];
    if (!m) break;
    try {
      await sub.publish({ id, text: m.text });
      m.taken = true; // it is ours until the channel brings it
    } catch (err) {
      if (!(err.code >= 100)) break; // the connection: the next subscription goes on
      if (err.temporary) await new Promise((resolve) => setTimeout(resolve, 500));
      else {
        outbox.delete(id);
        m.line.classList.add('failed');
        m.mark.textContent = `not sent: ${err.message}`;
      }
    }
  }
  flushing = false;
}

function say(text) {
  if (outbox.size >= 100) return problem('A hundred messages wait already.');
  problem('');
  const id = hex(8);
  const m = { text };
  m.line = line({ who: me, at: new Date(), text, own: true });
  m.line.classList.add('waits');
  m.mark = element('span', 'mark', 'pending');
  m.line.firstChild.append(m.mark);
  outbox.set(id, m);
  append($('pending'), m.line);
  flush();
}

function show({ data: { id, text, at }, info }, recovered, before) {
  seen.add(id);
  outbox.get(id)?.line.remove();
  const own = outbox.delete(id) || info?.user === me;
  const li = line({ who: info?.user ?? 'the gateway', at: new Date(at), text, own });
  if (recovered) {
    li.classList.add('recovered');
    li.firstChild.append(element('span', 'mark', 'recovered'));
  }
  append($('lines'), li, before);
  while ($('lines').children.length > 500) $('lines').firstChild.remove();
}

// Who is here.

const here = new Map(); // session → name
async function presence() {
  try {
    const { clients } = await sub.presence();
    here.clear();
    for (const c of Object.values(clients)) here.set(c.client, c.user);
    $('present').classList.remove('stale');
    people();
  } catch {
    // The connection is gone again; the next one asks anew.
  }
}
sub.on('subscribing', () => $('present').classList.add('stale')); // nobody tells us of who comes and goes
sub.on('join', ({ info }) => { here.set(info.client, info.user); people(); });
sub.on('leave', ({ info }) => { here.delete(info.client); people(); });

function people() {
  $('present').replaceChildren(...[...new Set(here.values())].sort().map((name) => {
    const li = element('li', '', name === me ? `${name} (you)` : name);
    li.style.setProperty('--hue', hue(name));
    return li;
  }));
}

// Elements.

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

const hue = (name) => [...name].reduce((h, c) => (h * 31 + c.codePointAt(0)) % 360, 7);

function clock(at, tenths) {
  const e = element('time', '', at.toTimeString().slice(0, 8) + (tenths ? `.${Math.floor(at.getMilliseconds() / 100)}` : ''));
  e.dateTime = at.toISOString();
  return e;
}

function line({ who, at, text, own }) {
  const li = element('li', own ? 'line own' : 'line');
  const about = element('p', 'about');
  const name = element('span', 'who', own ? 'you' : who);
  name.style.setProperty('--hue', hue(who));
  about.append(name, clock(at));
  li.append(about, element('p', 'said', text));
  return li;
}

// append keeps the end in view of whoever is there.
function append(list, li, before = null) {
  const scroll = list.closest('.scroll');
  const follows = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;
  list.insertBefore(li, before);
  $('empty').hidden = $('lines').firstChild !== null || $('pending').firstChild !== null;
  if (follows) scroll.scrollTop = scroll.scrollHeight;
}

function divider(text, bad) {
  const li = element('li', bad ? 'divider bad' : 'divider', text);
  append($('lines'), li);
  return li;
}

function tally(id, n) {
  $(id).textContent = Number($(id).textContent) + n;
  $(id).classList.add('some');
}

const problem = (text) => { $('problem').textContent = text; };

// The diagram.

const names = { idle: 'connected', 'waiting-pong': 'waiting for a sign of life', 'retry-pending': 'waiting once more', connecting: 'connecting', backoff: 'will dial again', melted: 'the fuse is open', trial: 'one trial', offline: 'offline', closing: 'closing', closed: 'closed' };
const words = {
  interval: '3 s of silence', message: 'something arrived', 'no pong': 'no sign of life within 1 s', open: 'the connection is open', cool: 'cooled down, one trial',
  'connect timeout': 'no answer within 1.5 s', 'close 1006': 'the connection is gone, without a word (1006)', 'close 3001': 'the gateway shuts down (3001)', start: 'the page was opened', late: 'the timer slept, nothing is concluded',
};
let now = { state: '', since: 0, due: 0 };

function enter(state, reason, due) {
  if (state !== now.state) {
    log(`${now.state ? `${now.state} → ` : ''}${state}`, words[reason] ?? reason.replace(/^close (\d+)$/, 'the gateway has closed it with $1'));
    document.querySelectorAll('#diagram .taken').forEach((e) => e.classList.remove('taken'));
    for (const way of document.querySelectorAll('#diagram [data-way]')) {
      if (way.dataset.way.split(', ').includes(`${now.state} ${state}`)) way.classList.add('taken');
    }
    for (const g of document.querySelectorAll('#diagram .state')) {
      g.classList.toggle('lit', g.dataset.state === state);
      g.querySelector('.left').textContent = g.dataset.state === 'trial' ? 'half open' : '';
      g.querySelector('.bar').setAttribute('width', 0);
    }
    $('state').dataset.state = state;
    $('state-text').textContent = names[state];
    now = { state, since: Date.now() };
  }
  until(due);
}

// until says when the state ends by itself.
function until(due) {
  now.due = due;
  if (now.state === 'idle') now.since = Date.now();
  tick();
}

const before = { idle: 'doubts in ', backoff: 'within ', melted: 'trial in ' };

function tick() {
  $('misses').textContent = memory.misses;
  $('failures').textContent = memory.failures;
  const left = Math.max(0, now.due - Date.now());
  const g = document.querySelector(`#diagram [data-state="${now.state}"]`);
  if (!g || !now.due) return;
  g.querySelector('.left').textContent = `${before[now.state] ?? ''}${(left / 1000).toFixed(1)} s`;
  g.querySelector('.bar').setAttribute('width', Math.round(106 * left / Math.max(1, now.due - now.since)));
}

function log(what, why, className) {
  const li = element('li', className);
  const text = element('span', '', what);
  if (why) text.append(element('span', 'quiet', `  ${why}`));
  li.append(clock(new Date(), true), text);
  while ($('log').children.length >= 300) $('log').firstChild.remove();
  append($('log'), li);
}

const note = (text) => log(text, '', 'note');

// The cable.

async function cable(action, said) {
  try {
    note(said); // before anything that comes of it
    const response = await fetch(`cable/${cableID}?do=${action}`, { method: 'POST' });
    if (!response.ok) throw new Error(await response.text());
    drawCable(await response.json());
  } catch (err) {
    problem(`The cable does not obey: ${err.message}`);
  }
}

function drawCable({ out, slow }) {
  $('cable').dataset.cable = out ? 'out' : slow ? 'in slow' : 'in';
  $('cable-text').textContent = out ? 'out: nothing arrives, in either direction, and nobody is told' : slow ? 'slow: 200 to 400 ms later, each way' : 'plugged in';
  const focus = document.activeElement;
  $('pull').disabled = out;
  $('plug').disabled = !out;
  $('slow').setAttribute('aria-pressed', slow);
  if (focus === $('pull') || focus === $('plug')) $(out ? 'plug' : 'pull').focus();
}

$('pull').addEventListener('click', () => cable('pull', 'cable pulled'));
$('plug').addEventListener('click', () => cable('plug', 'cable plugged in'));
$('cut').addEventListener('click', () => cable('cut', 'connection cut'));
$('slow').addEventListener('click', () => {
  const slow = $('slow').getAttribute('aria-pressed') !== 'true';
  cable(slow ? 'slow' : 'fast', slow ? 'line made slow' : 'line made fast');
});
$('say').addEventListener('submit', (e) => {
  e.preventDefault();
  const text = $('text').value.trim();
  $('text').value = '';
  if (text) say(text);
});

$('me').textContent = `you are ${me}`;
drawCable({ out: false, slow: false });
setInterval(tick, 100);
sub.subscribe();
client.connect();
