'use strict';
// The page: a client of the SDK, what it says, and the frames below it.

const $ = (id) => document.getElementById(id);
const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
const endpoint = `${scheme}://${location.host}/connection/websocket`;
const most = 500; // lines of a list

let client = null;
let sub = null;
let socket = null; // the WebSocket below client
let recovering = false; // the publications that come now were missed

// Elements.

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

const clock = (at = new Date()) => {
  const e = element('time', '', at.toTimeString().slice(0, 8) + '.' + String(at.getMilliseconds()).padStart(3, '0').slice(0, 1));
  e.dateTime = at.toISOString();
  return e;
};

// add appends a line, and keeps the end in view of whoever is there.
function add(list, li) {
  const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(li);
  while (list.children.length > most) list.firstChild.remove();
  if (follows) list.scrollTop = list.scrollHeight;
  counts();
}

function counts() {
  for (const [list, count, empty] of [['messages', 'message-count', 'messages-empty'], ['frames', 'frame-count', 'frames-empty'], ['presence', 'present-count', 'presence-empty']]) {
    const n = list === 'messages' ? $(list).querySelectorAll('.data').length : $(list).children.length;
    $(count).textContent = n;
    $(empty).hidden = $(list).children.length > 0;
  }
}

const problem = (err) => { $('problem').textContent = err ? `${err.message ?? err}${err.code ? ` (${err.code})` : ''}` : ''; };

// Frames.

const size = (n) => (n < 1000 ? `${n} B` : `${(n / 1024).toFixed(1)} KiB`);

function frame(sent, data) {
  const text = String(data).trimEnd();
  if (text === '{}' && !$('pings').checked) return;
  const li = element('li', sent ? 'sent' : 'received');
  const arrow = element('span', 'arrow', sent ? '↑' : '↓');
  arrow.title = sent ? 'sent' : 'received';
  arrow.setAttribute('role', 'img');
  arrow.setAttribute('aria-label', arrow.title);
  li.append(arrow, clock(), element('span', 'bytes', size(new Blob([data]).size)), element('span', 'what', text));
  add($('frames'), li);
}

function frameNote(text) {
  const li = element('li', 'note');
  li.append(element('span', 'arrow', '•'), clock(), element('span', 'bytes', ''), element('span', 'what', text));
  add($('frames'), li);
}

// Traced is a WebSocket whose frames are shown.
class Traced extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols);
    socket = this;
    this.addEventListener('open', () => frameNote(`open: ${this.url}`));
    this.addEventListener('message', (e) => frame(false, e.data));
    this.addEventListener('close', (e) => frameNote(`closed: ${e.code}${e.reason ? ` ${e.reason}` : ''}`));
  }

  send(data) {
    frame(true, data);
    super.send(data);
  }
}

// Messages.

const short = (id) => id.slice(0, 8);
const who = (info) => (info ? [info.user, short(info.client)].filter(Boolean).join(' · ') : 'the application');

function message(ctx) {
  const li = element('li');
  li.append(element('span', 'offset mono', ctx.offset ?? '–'), element('span', 'data mono', JSON.stringify(ctx.data)));
  if (recovering) li.append(element('span', 'mark', 'recovered'));
  li.append(element('span', 'from', who(ctx.info)), clock());
  add($('messages'), li);
}

function happened(text, bad) {
  const li = element('li');
  li.append(element('span', 'offset', ''), element('span', bad ? 'event bad' : 'event', text), clock());
  add($('messages'), li);
}

// Presence.

async function present() {
  let clients = {};
  const of = sub;
  if (of && of.state === 'subscribed') {
    try {
      clients = (await of.presence()).clients;
    } catch (err) {
      if (of === sub) $('presence-empty').textContent = `Nobody can tell: ${err.message}.`;
    }
  }
  if (of !== sub) return; // another one by now
  $('presence').replaceChildren(...Object.values(clients).sort((a, b) => (a.client < b.client ? -1 : 1)).map((c) => {
    const li = element('li');
    li.append(element('span', '', c.user || 'anonymous'), element('span', 'mono quiet', short(c.client)));
    if (client && c.client === client.ownID) li.append(element('span', 'mark', 'this page'));
    return li;
  }));
  counts();
}

// The client.

function buttons() {
  const state = client ? client.state : 'disconnected';
  const subscribed = sub !== null;
  $('state').dataset.state = state;
  $('state-text').textContent = state;
  $('client').textContent = state === 'connected' ? client.ownID : '';
  $('connect').disabled = state !== 'disconnected';
  $('token').disabled = state !== 'disconnected';
  $('disconnect').disabled = state === 'disconnected';
  $('cut').disabled = state !== 'connected';
  $('subscribe').disabled = state === 'disconnected' || subscribed;
  $('unsubscribe').disabled = !subscribed;
  for (const id of ['channel', 'recoverable', 'joinleave']) $(id).disabled = subscribed;
  $('publish').disabled = state !== 'connected';
}

function connect() {
  problem();
  client = new Centrifuge(endpoint, { websocket: Traced, token: $('token').value.trim(), minReconnectDelay: 1500 });
  client.on('state', buttons);
  client.on('connecting', (ctx) => { if (ctx.code !== 0) happened(`connection lost: ${ctx.reason} (${ctx.code})`, true); });
  client.on('connected', (ctx) => { client.ownID = ctx.client; buttons(); });
  client.on('disconnected', (ctx) => {
    happened(`disconnected: ${ctx.reason} (${ctx.code})`, ctx.code !== 0);
    sub = null;
    client = null;
    buttons();
    present();
  });
  client.on('error', (ctx) => happened(`error: ${ctx.error.message} (${ctx.error.code})`, true));
  client.on('publication', message); // of subscriptions that the server makes
  client.connect();
}

function subscribe() {
  problem();
  const name = $('channel').value;
  const s = client.newSubscription(name, { recoverable: $('recoverable').checked, joinLeave: $('joinleave').checked });
  sub = s;
  s.on('publication', message);
  s.on('subscribed', (ctx) => {
    const position = ctx.streamPosition ? ` at offset ${ctx.streamPosition.offset}` : '';
    happened(`subscribed to ${name}${position}${ctx.wasRecovering ? (ctx.recovered ? ', recovered' : ', not recovered') : ''}`);
    recovering = ctx.recovered; // what was missed is handed out before anything else happens
    queueMicrotask(() => { recovering = false; });
    present();
  });
  s.on('join', (ctx) => { happened(`${who(ctx.info)} has come`); present(); });
  s.on('leave', (ctx) => { happened(`${who(ctx.info)} has left`); present(); });
  s.on('error', (ctx) => happened(`error: ${ctx.error.message} (${ctx.error.code})`, true));
  s.on('unsubscribed', (ctx) => {
    happened(`unsubscribed from ${name}: ${ctx.reason} (${ctx.code})`, ctx.code !== 0);
    if (client) client.removeSubscription(s);
    if (sub === s) sub = null;
    buttons();
    present();
  });
  s.subscribe();
  buttons();
}

async function publish() {
  let data;
  problem();
  try {
    data = JSON.parse($('data').value);
  } catch (err) {
    problem(`That is no JSON: ${err.message}`);
    return;
  }
  try {
    await client.publish($('channel').value, data);
  } catch (err) {
    problem(err);
  }
}

// cut closes the socket below the SDK, and has somebody else publish while it is away.
function cut() {
  socket.close(4000, 'cut');
  if (!$('meanwhile').checked || !sub) return;
  const channel = sub.channel;
  const other = new Centrifuge(endpoint, { token: $('token').value.trim() });
  other.on('connected', async () => {
    try {
      for (let n = 1; n <= 3; n++) await other.publish(channel, { missed: n });
    } catch (err) {
      problem(err);
    }
    other.disconnect();
  });
  other.on('error', () => other.disconnect()); // there is no second try
  other.connect();
}

const on = (id, event, f) => $(id).addEventListener(event, (e) => { e.preventDefault(); f(); });
on('connection', 'submit', connect);
on('disconnect', 'click', () => client.disconnect());
on('cut', 'click', cut);
on('subscription', 'submit', subscribe);
on('unsubscribe', 'click', () => sub.unsubscribe());
on('publication', 'submit', publish);
on('clear-messages', 'click', () => { $('messages').replaceChildren(); counts(); });
on('clear-frames', 'click', () => { $('frames').replaceChildren(); counts(); });
$('data').addEventListener('keydown', (e) => {
  if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) $('publication').requestSubmit();
});
buttons();
