// Why connections end: how many by each cause, and which they were.
import type { App, View } from '../app.js';
import type { Snapshot, WhyAnswer } from '../contract.js';
import { attr, field, h, put } from '../dom.js';
import { count, int, rate, time, words } from '../format.js';
import { Listing } from '../listing.js';
import { nobody, spanColumns, spanRow, table } from '../spans.js';

interface Count {
  name: string;
  total: number;
  rate: number;
}

/** order is how a list of counts is shown: the most first, what never happened not at all. */
export function order(list: readonly Count[]): string[] {
  return list.filter((c) => c.total > 0).sort((a, b) => b.total - a.total || a.name.localeCompare(b.name)).map((c) => c.name);
}

// Bars is a list of counts with bars. Their order is that of the moment when the view was entered, so that nothing moves
// below the pointer; what comes up later is added at the end.
class Bars {
  readonly element: HTMLElement;
  private readonly body = h('tbody');
  private readonly never = h('p', { class: 'quiet small-text' }, '\u00a0');
  private readonly rows = new Map<string, { row: HTMLElement; bar: HTMLElement; total: HTMLElement; rate: HTMLElement }>();

  constructor(title: string, first: string, private readonly open?: (name: string) => void) {
    this.element = h('section', {}, h('h2', {}, title),
      h('div', { class: 'wide', tabindex: '0', role: 'group', 'aria-label': title }, h('table', { class: 'bars' },
        h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, first), h('th', { scope: 'col', class: 'number' }, 'Total'), h('th', { scope: 'col', class: 'number' }, 'Per second'), h('td', { class: 'bar', 'aria-hidden': 'true' }))), this.body)),
      this.never);
  }

  sort(): void {
    this.rows.clear();
    this.body.replaceChildren();
  }

  mark(name: string): void {
    for (const [n, r] of this.rows) attr(r.row, 'aria-current', n === name ? 'true' : null);
  }

  update(list: readonly Count[]): void {
    const most = Math.max(1, ...list.map((c) => c.total));
    for (const name of order(list)) if (!this.rows.has(name)) this.add(name);
    for (const c of list) {
      const r = this.rows.get(c.name);
      if (!r) continue;
      put(r.total, int(c.total));
      put(r.rate, rate(c.rate));
      attr(r.rate, 'class', c.rate > 0 ? 'number moving' : 'number');
      r.bar.style.width = ((c.total / most) * 100).toFixed(2) + '%';
    }
    const none = list.filter((c) => c.total === 0).map((c) => words(c.name));
    put(this.never, list.length === 0 || this.rows.size === 0 ? 'None so far.' : none.length > 0 ? 'Never: ' + none.join(', ') + '.' : '\u00a0');
  }

  private add(name: string): void {
    const bar = h('i');
    const total = h('td', { class: 'number' });
    const perSecond = h('td', { class: 'number' });
    const open = this.open;
    const row = h('tr', open ? { class: 'opens', click: (e) => { if (!(e.target as Element).closest('button')) open(name); } } : {},
      h('th', { scope: 'row' }, open ? h('button', { type: 'button', class: 'link', click: () => open(name) }, words(name)) : words(name)),
      total, perSecond, h('td', { class: 'bar', 'aria-hidden': 'true' }, bar));
    this.rows.set(name, { row, bar, total, rate: perSecond });
    this.body.append(row);
  }
}

export function endsView(app: App): View {
  let cause = '';
  const heading = h('h2', {}, 'Which they were');
  const since = h('select', { change: () => { if (cause) void listing.search(); } },
    h('option', { value: '' }, 'all that is recorded'), h('option', { value: '10m' }, 'the last 10 minutes'), h('option', { value: '1h' }, 'the last hour'), h('option', { value: '24h' }, 'the last day'));
  const t = table('Connections that ended so', ...spanColumns);
  const listing = new Listing(t.element, async (_, signal) => {
    const limit = 50;
    const a = await app.api.post<WhyAnswer>('why', { cause, limit, ...(since.value ? { since: since.value } : {}) }, signal);
    const spans = a.spans ?? [];
    t.body.replaceChildren(...(spans.length > 0 ? spans.map((x) => spanRow(x, () => app.go('why', { client: x.client, span: x }))) : [nobody(spanColumns.length, 'None is recorded.')]));
    const known = a.from ? `; the record begins ${time(a.from)}` : '';
    return { cursor: undefined, text: (spans.length === limit ? `the latest ${limit}` : count(spans.length, 'connection')) + known };
  });
  const which = h('section', { hidden: true }, h('div', { class: 'row spread' }, heading, field('Of', since)), listing.element);
  const causes = new Bars('Endings by cause', 'Cause', (name) => {
    cause = name;
    causes.mark(name);
    which.hidden = false;
    put(heading, 'Ended by ' + words(name));
    void listing.search().then(() => which.scrollIntoView({ block: 'nearest' }));
  });
  const refused = new Bars('Refused before they were open', 'Reason');
  return {
    title: 'Ends',
    element: h('div', {}, h('p', { class: 'quiet' }, 'Since the process began. A cause shows the connections that ended so.'), h('div', { class: 'columns' }, causes.element, refused.element), which),
    enter() {
      causes.sort();
      refused.sort();
    },
    leave: () => listing.leave(),
    snapshot(s: Snapshot) {
      causes.update((s.causes ?? []).map((c) => ({ name: c.cause, total: c.total, rate: c.rate })));
      refused.update((s.refused ?? []).map((c) => ({ name: c.reason, total: c.total, rate: c.rate })));
      if (cause) causes.mark(cause);
    },
  };
}
