// One connection's life, and why it ended.
import { Problem } from '../api.js';
import type { App, Params, View } from '../app.js';
import { ask } from '../ask.js';
import type { Evidence, KernelWord, SessionPage, SessionRow, Span, WhyAnswer } from '../contract.js';
import { field, h, isolate, say } from '../dom.js';
import { bytes, count, int, micros, plain, span, time, words } from '../format.js';
import { Listing } from '../listing.js';
import { nobody, spanColumns, spanRow, table } from '../spans.js';

/** evidenceRows are what was known at the end, in words; what is not known is left out. */
export function evidenceRows(e: Evidence): [string, string][] {
  const rows: [string, string][] = [['open for', span(e.age_ms)], ['silent for', span(e.silent_ms)]];
  if (e.pinged_ms >= 0) rows.push(['ping without answer for', span(e.pinged_ms)]);
  if (e.pong_ms >= 0) rows.push(['last pong', span(e.pong_ms) + ' before the end']);
  if (e.close_sent >= 0 || e.close_received >= 0) rows.push(['close frames', `ours ${closeCode(e.close_sent)}, the client's ${closeCode(e.close_received)}`]);
  rows.push(['waiting for its socket', bytes(e.queue_bytes)]);
  if (e.unacked_bytes >= 0) rows.push(['never acknowledged', bytes(e.unacked_bytes) + (e.timeouts > 0 ? `, ${count(e.timeouts, 'timeout')} in a row` : '')]);
  if (e.retransmits >= 0) rows.push(['sent again in all', count(e.retransmits, 'segment')]);
  if (e.last_ack_ms >= 0) rows.push(['last acknowledgement', span(e.last_ack_ms) + ' before the end']);
  if (e.rtt_us >= 0) rows.push(['round trip', micros(e.rtt_us)]);
  return rows;
}

const closeCode = (code: number) => (code < 0 ? 'none' : code === 1005 ? 'without a code' : String(code));

/** kernelRows are what the kernel's side was, where connections are traced. */
export function kernelRows(k: KernelWord): [string, string][] {
  const rows: [string, string][] = [['seen by', plain(k.level)]];
  if (k.path.length > 0) rows.push(['states', plain(k.path.join(' → '))]);
  if (k.error) rows.push(['error', plain(k.error)]);
  rows.push(['never acknowledged', bytes(k.unacked_bytes)], ['sent again in all', count(k.retransmits, 'segment')]);
  if (k.rtt_us >= 0) rows.push(['round trip', micros(k.rtt_us)]);
  return rows;
}

function liveRows(r: SessionRow): [string, string][] {
  return [['open for', span(r.age_ms)], ['silent for', span(r.silent_ms)], ['waiting for its socket', bytes(r.queue_bytes)], ['subscriptions', int(r.subscriptions)]];
}

const facts = (list: [string, string | Node | undefined][]) =>
  h('dl', { class: 'facts one' }, ...list.filter(([, v]) => v).map(([k, v]) => h('div', {}, h('dt', {}, k), h('dd', {}, v ?? null))));

function timeline(s: Span): HTMLElement {
  let last: number | undefined;
  const rows = s.events.map((e) => {
    const at = Date.parse(e.time);
    const after = last === undefined ? '' : '+' + span(Math.max(0, at - last));
    last = at;
    return h('li', { class: e.kind }, h('time', { datetime: e.time }, time(e.time)), h('span', { class: 'after' }, after), h('b', {}, words(e.kind)), h('span', { class: 'what' }, isolate(plain(e.text))));
  });
  return h('ol', { class: 'timeline' }, ...rows);
}

export function whyView(app: App): View {
  const by = h('select', {}, ...[['client', 'Client'], ['user', 'User'], ['address', 'Address'], ['request', 'X-Request-ID'], ['trace', 'Trace']].map(([v, l]) => h('option', { value: v ?? '' }, l ?? '')));
  const value = h('input', { required: true, autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', maxlength: 512 });
  const t = table('Connections', ...spanColumns);
  const detail = h('div', { class: 'detail' });
  let asked: AbortController | undefined;
  const listing = new Listing(t.element, async (_, signal) => {
    const limit = 50;
    const a = await app.api.post<WhyAnswer>('why', { [by.value]: value.value.trim(), limit }, signal);
    const spans = a.spans ?? [];
    const known = a.from ? `the record begins ${time(a.from)}` : 'nothing is recorded yet';
    t.body.replaceChildren(...(spans.length > 0 ? spans.map((x) => spanRow(x, () => app.go('why', { client: x.client, span: x }))) : [nobody(spanColumns.length, 'Nothing is known of it.')]));
    if (spans.length === 1 && spans[0]) {
      show(spans[0], undefined);
      if (spans[0].open) void live(spans[0].client, spans[0], signal);
    } else detail.replaceChildren();
    return { cursor: undefined, text: `${count(spans.length, 'connection')}; ${known}` };
  });
  const found = h('div', { hidden: true }, listing.element);
  const form = h('form', { class: 'search', role: 'search', submit: (e) => {
    e.preventDefault();
    asked?.abort();
    found.hidden = false;
    detail.replaceChildren();
    void listing.search();
  } }, field('By', by), field('Is', value), h('div', { class: 'row' }, h('button', { class: 'primary' }, 'Find')));

  const disconnect = (client: string, user: string | undefined) => {
    const code = h('input', { type: 'number', min: 3000, max: 4999, step: 1, inputmode: 'numeric', placeholder: '3503' });
    const reason = h('input', { maxlength: 123, autocomplete: 'off' });
    ask({
      title: 'Disconnect this client?',
      act: 'Disconnect',
      body: [
        h('p', {}, 'Its connection is closed: ', h('span', { class: 'mono' }, isolate(plain(client))), user ? ', user ' : '', user ? isolate(plain(user)) : '', '.'),
        h('p', {}, 'Clients come back by themselves after 3000 to 3499 and 4000 to 4499, and stay away after other codes. Without one it is 3503.'),
        field('Code', code, '3000 to 4999'), field('Reason', reason, 'the client is told'),
      ],
      async run() {
        await app.api.post('disconnect', { client, ...(code.value ? { code: Number(code.value) } : {}), ...(reason.value ? { reason: reason.value } : {}) });
        say('The client was disconnected.');
        await load(client);
      },
    });
  };

  const show = (s: Span | undefined, r: SessionRow | undefined, note = '') => {
    const client = s?.client ?? r?.client ?? '';
    const user = s?.user ?? r?.user;
    const address = s?.address ?? r?.address;
    const open = r !== undefined || s?.open === true;
    const cause = s?.cause ? words(s.cause) + (s.code ? ` (${s.code})` : '') + (s.detail ? ': ' + words(s.detail) : '') : undefined;
    const mono = (x: string | undefined) => (x ? h('span', { class: 'mono' }, isolate(plain(x))) : undefined);
    const focused = detail.contains(document.activeElement);
    detail.replaceChildren(
      h('p', { tabindex: '-1', class: 'sentence ' + (open ? 'open' : 'ended') }, plain(s?.why ?? (open ? 'It is open.' : 'Nothing is known of it.'))),
      note ? h('p', { class: 'notice' }, note) : '',
      h('div', { class: 'columns' },
        h('section', {}, h('h2', {}, 'Who'), facts([['client', mono(client)], ['user', user ? isolate(plain(user)) : undefined], ['address', mono(address)], ['endpoint', s?.endpoint ?? r?.endpoint], ['protocol', r?.protocol],
          ['request id', mono(s?.request)], ['trace', mono(s?.trace)], ['cause', cause], ['process', s?.before ? 'the one before this' : undefined]]),
          open ? h('div', { class: 'row' }, h('button', { type: 'button', class: 'danger', click: () => disconnect(client, user) }, 'Disconnect…'), h('button', { type: 'button', click: () => void load(client) }, 'Look again')) : ''),
        r ? h('section', {}, h('h2', {}, 'Now'), facts(liveRows(r))) : s?.evidence ? h('section', {}, h('h2', {}, 'Evidence'), facts(evidenceRows(s.evidence))) : '',
        s?.kernel ? h('section', {}, h('h2', {}, "The kernel's side"), facts(kernelRows(s.kernel))) : ''),
      s && s.events.length > 0 ? h('section', {}, h('h2', {}, 'Timeline'), timeline(s)) : '',
    );
    if (focused) (detail.querySelector<HTMLElement>('button') ?? detail.querySelector<HTMLElement>('.sentence'))?.focus();
  };

  // live asks the gateway for what an open session is like now.
  const live = async (client: string, s: Span | undefined, signal: AbortSignal, note = '') => {
    try {
      const p = await app.api.post<SessionPage>('sessions', { client, limit: 1 }, signal);
      const r = p.sessions?.[0];
      if (!signal.aborted && (r || !s)) show(s, r, note || (r ? '' : 'No client of that id is connected, and none is recorded.'));
    } catch (e) {
      if (!signal.aborted && !s) show(s, undefined, e instanceof Problem ? e.message : String(e));
    }
  };

  const load = async (client: string) => {
    asked?.abort();
    const c = new AbortController();
    asked = c;
    let s: Span | undefined;
    let note = '';
    try {
      const a = await app.api.post<WhyAnswer>('why', { client, limit: 1 }, c.signal);
      s = a.spans?.[0];
    } catch (e) {
      note = e instanceof Problem ? e.message : String(e); // such as: nothing is recorded. The session may be there all the same
    }
    if (c.signal.aborted) return;
    if (s) show(s, undefined, note);
    if (!s || s.open) await live(client, s, c.signal, note);
  };

  return {
    title: 'Why',
    element: h('div', {}, form, found, detail),
    enter(p: Params) {
      if (p.client === undefined) return;
      by.value = 'client';
      value.value = p.client;
      found.hidden = true;
      detail.replaceChildren();
      if (p.span || p.row) show(p.span, p.row);
      void load(p.client);
    },
    leave() {
      asked?.abort();
      listing.leave();
    },
  };
}
