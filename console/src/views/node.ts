// The node as a whole: figures, plots, limits, drain.
import type { App, View } from '../app.js';
import { ask } from '../ask.js';
import type { NodeInfo, Scalars, Snapshot } from '../contract.js';
import { attr, field, h, put, say } from '../dom.js';
import { bytes, count, int, micros, millis, percent, rate, short, span, time, words } from '../format.js';
import { points } from '../live.js';
import { Cursor, Plot, type Curve } from '../plot.js';

interface Tile {
  label: string;
  value(s: Snapshot): string;
  more(s: Snapshot): string;
  level?(s: Snapshot): '' | 'warning' | 'bad';
}

const full = (s: Scalars) => (s.max_conns > 0 ? s.conns / s.max_conns : 0);

const tiles: Tile[] = [
  { label: 'Connections', value: (s) => int(s.conns), more: (s) => `of ${int(s.max_conns)}, ${percent(full(s))}`, level: (s) => (full(s) >= 0.98 ? 'bad' : full(s) >= 0.9 ? 'warning' : '') },
  { label: 'Sessions', value: (s) => int(s.sessions), more: (s) => count(s.subscriptions, 'subscription') },
  { label: 'Accepted', value: (s) => rate(s.rates.accepted) + '/s', more: (s) => `${rate(s.rates.upgraded)}/s upgraded, ${int(s.http)} HTTP` },
  { label: 'Ended', value: (s) => rate(s.rates.closed) + '/s', more: (s) => `${rate(s.rates.refused)}/s refused`, level: (s) => (s.rates.refused > 0 ? 'warning' : '') },
  { label: 'Messages in', value: (s) => rate(s.rates.messages_in) + '/s', more: (s) => bytes(s.rates.bytes_in) + '/s' },
  { label: 'Messages out', value: (s) => rate(s.rates.messages_out) + '/s', more: (s) => bytes(s.rates.bytes_out) + '/s' },
  { label: 'Publications', value: (s) => rate(s.rates.publications) + '/s', more: (s) => `${rate(s.rates.pings)}/s pings` },
  { label: 'Waiting to be sent', value: (s) => bytes(s.queue_bytes), more: () => 'in write queues' },
  { label: 'Resident memory', value: (s) => bytes(s.rss_bytes), more: (s) => `${bytes(s.heap_bytes)} heap` },
  { label: 'GC pause', value: (s) => millis(s.gc.pause_last_ms), more: (s) => `max ${millis(s.gc.pause_max_ms)}, ${count(s.gc.cycles, 'cycle')}`, level: (s) => (s.gc.pause_last_ms >= 50 ? 'bad' : s.gc.pause_last_ms >= 10 ? 'warning' : '') },
  { label: 'Loop lag, p99', value: (s) => micros(s.loop.lag_p99_us), more: (s) => `max ${micros(s.loop.lag_max_us)}`, level: (s) => (s.loop.lag_p99_us >= 1e6 ? 'bad' : s.loop.lag_p99_us >= 1e5 ? 'warning' : '') },
  { label: 'Loops busy', value: (s) => percent(s.loop.busy_share), more: (s) => `${count(s.loop.active, 'loop')}, ${count(s.goroutines, 'goroutine')}`, level: (s) => (s.loop.busy_share >= 0.95 ? 'bad' : s.loop.busy_share >= 0.8 ? 'warning' : '') },
];

interface Chart {
  title: string;
  format(v: number | undefined | null): string;
  least?: number;
  curves: (Curve & { pick(s: Scalars): number | undefined })[];
}

const charts: Chart[] = [
  { title: 'Connections', format: short, least: 10, curves: [{ name: 'open', color: 1, pick: (s) => s.conns }] },
  { title: 'Coming and going, /s', format: short, least: 1, curves: [
    { name: 'in', color: 1, pick: (s) => s.rates?.accepted }, { name: 'out', color: 2, pick: (s) => s.rates?.closed }, { name: 'refused', color: 4, pick: (s) => s.rates?.refused } ] },
  { title: 'Messages, /s', format: short, least: 1, curves: [{ name: 'in', color: 1, pick: (s) => s.rates?.messages_in }, { name: 'out', color: 2, pick: (s) => s.rates?.messages_out }] },
  { title: 'Bytes, /s', format: bytes, least: 1000, curves: [{ name: 'in', color: 1, pick: (s) => s.rates?.bytes_in }, { name: 'out', color: 2, pick: (s) => s.rates?.bytes_out }] },
  { title: 'Memory', format: bytes, least: 1e6, curves: [{ name: 'resident', color: 1, pick: (s) => s.rss_bytes }, { name: 'heap', color: 3, pick: (s) => s.heap_bytes }] },
  { title: 'Loop lag', format: micros, least: 100, curves: [{ name: 'p99', color: 1, pick: (s) => s.loop?.lag_p99_us }, { name: 'max', color: 4, pick: (s) => s.loop?.lag_max_us }] },
  { title: 'Loops busy', format: percent, least: 1, curves: [{ name: 'share', color: 1, pick: (s) => s.loop?.busy_share }] },
  { title: 'Waiting to be sent', format: bytes, least: 1000, curves: [{ name: 'queues', color: 1, pick: (s) => s.queue_bytes }] },
];

// limitText is a limit as people read it; by its name it is bytes, a time, a rate or a number.
function limitText(name: string, v: number): string {
  if (name === 'max_memory' && v < 0) return 'auto';
  if (!(v > 0)) return 'none';
  if (name.endsWith('_s')) return span(v * 1000);
  if (name.includes('rate')) return short(v) + '/s';
  if (['max_memory', 'max_message', 'write_queue'].includes(name)) return bytes(v);
  return int(v);
}

function featureText(name: string, v: boolean | number | string | null): string {
  if (v === true) return 'on';
  if (v === false || v === null || v === '') return 'off';
  if (typeof v === 'number') return name.endsWith('_bytes') ? bytes(v) : int(v);
  return name.endsWith('_from') ? time(v) : words(v);
}

function facts(list: [string, string][]): HTMLElement {
  return h('dl', { class: 'facts' }, ...list.map(([k, v]) => h('div', {}, h('dt', {}, k), h('dd', {}, v))));
}

export function nodeView(app: App): View {
  const shown = tiles.map((t) => {
    const value = h('b', {}, '–');
    const more = h('span', {}, '\u00a0');
    const element = h('div', { class: 'tile' }, h('dt', {}, t.label), h('dd', {}, value, more));
    return { t, value, more, element };
  });
  const bar = h('i');
  shown[0]?.element.append(h('div', { class: 'meter', 'aria-hidden': 'true' }, bar));
  const cursor = new Cursor();
  const plots = charts.map((c) => new Plot(c.title, c.format, c.curves, cursor, c.least));
  const limits = h('div');
  const features = h('div');
  let latest: Snapshot | undefined;

  const drainLength = h('input', { type: 'number', min: 0, max: 3600, step: 1, required: true, value: Math.max(0, app.node.limits?.['drain_s'] ?? 30), inputmode: 'numeric' });
  const drain = h('button', { type: 'button', class: 'danger', click: () => {
    if (!drainLength.reportValidity()) return;
    const length = Number(drainLength.value);
    const lengthText = length < 60 ? length + ' s' : span(length * 1000);
    const draining = latest?.draining === true;
    const conns = count(latest?.conns ?? 0, 'connection');
    ask({
      title: draining ? 'Shorten the drain?' : 'Drain this node?',
      act: draining ? 'Shorten it' : 'Drain',
      body: [
        h('p', {}, draining ? 'It is under way: it can be made shorter, and not longer.' : 'No new connections are taken from now on, and /readyz says so.'),
        h('p', {}, length > 0
          ? `${conns} will be closed, spread evenly over ${lengthText}, and each client is told when to come back elsewhere.`
          : `${conns} will be closed at once: their clients come back all together.`),
        h('p', {}, 'Then the process ends, as after SIGTERM. This cannot be taken back.'),
      ],
      async run() {
        await app.api.post('drain', { length_s: length });
        say(draining ? 'The drain is shorter now.' : 'The drain has begun.');
      },
    });
  } }, 'Drain…');
  const drainText = h('p', { class: 'quiet' });

  const element = h('div', {},
    h('dl', { class: 'tiles' }, ...shown.map((t) => t.element)),
    h('section', { class: 'plots', 'aria-label': 'The last minutes' }, ...plots.map((p) => p.element)),
    h('div', { class: 'columns' },
      h('section', {}, h('h2', {}, 'Limits'), limits),
      h('section', {}, h('h2', {}, 'Features'), features),
      h('section', {}, h('h2', {}, 'Drain'), drainText, h('form', { class: 'row', submit: (e) => { e.preventDefault(); drain.click(); } }, field('Length', drainLength, 'seconds'), drain))));

  const refresh = (n: NodeInfo) => {
    limits.replaceChildren(facts(Object.entries(n.limits ?? {}).map(([k, v]) => [words(k.replace(/_s$/, '')), limitText(k, v)])));
    features.replaceChildren(facts(Object.entries(n.features ?? {}).map(([k, v]) => [words(k.replace(/_bytes$/, ' memory')), featureText(k, v)])));
  };
  refresh(app.node);

  return {
    title: 'Node',
    element,
    refresh,
    snapshot(s, history) {
      latest = s;
      for (const t of shown) {
        put(t.value, t.t.value(s));
        put(t.more, t.t.more(s));
        attr(t.element, 'class', ('tile ' + (t.t.level?.(s) ?? '')).trim());
      }
      bar.style.width = Math.min(100, full(s) * 100).toFixed(1) + '%';
      put(drainText, s.draining ? `It drains: ${count(s.conns, 'connection')} left.` : 'Closes all connections, paced, and ends the process: for a restart or to take the node away.');
      put(drain, s.draining ? 'Shorten…' : 'Drain…');
      plots.forEach((p, i) => p.update(points(history, charts[i]?.curves.map((c) => c.pick) ?? [])));
    },
  };
}
