// Tables of what the flight recorder knows of connections, and of those that are open.
import type { SessionRow, Span } from './contract.js';
import { h, isolate } from './dom.js';
import { bytes, int, nothing, plain, span, time, words } from './format.js';

/** table has a fixed head, and a body that replaceChildren fills. It scrolls sideways by itself, by the keyboard too. */
export function table(label: string, ...columns: (string | [string, 'number'])[]): { element: HTMLElement; body: HTMLTableSectionElement } {
  const body = h('tbody');
  return {
    body,
    element: h('div', { class: 'wide', tabindex: '0', role: 'group', 'aria-label': label }, h('table', {},
      h('thead', {}, h('tr', {}, ...columns.map((c) => (typeof c === 'string' ? h('th', { scope: 'col' }, c) : h('th', { scope: 'col', class: 'number' }, c[0]))))), body)),
  };
}

/** nobody is the row of an empty table. */
export function nobody(columns: number, text: string): HTMLElement {
  return h('tr', {}, h('td', { colspan: columns, class: 'quiet' }, text));
}

// opener is the button of a row; the row opens by a click anywhere in it too.
function row(open: () => void, name: string, ...cells: HTMLElement[]): HTMLElement {
  return h('tr', { class: 'opens', click: (e) => {
    if (!(e.target as Element).closest('button') && getSelection()?.isCollapsed !== false) open();
  } }, h('td', {}, h('button', { type: 'button', class: 'link mono', click: open }, isolate(plain(name)))), ...cells);
}

const text = (s: string | undefined, props: Record<string, string> = {}) => h('td', props, s ? isolate(plain(s)) : nothing);
const number = (s: string) => h('td', { class: 'number' }, s);

export const sessionColumns: (string | [string, 'number'])[] = ['Client', 'User', 'Address', 'Endpoint', 'Protocol', ['Open for', 'number'], ['Silent for', 'number'], ['Waiting', 'number'], ['Subscriptions', 'number']];

export function sessionRow(r: SessionRow, open: () => void): HTMLElement {
  return row(open, r.client, text(r.user), text(r.address, { class: 'mono' }), text(r.endpoint), text(r.protocol),
    number(span(r.age_ms)), number(span(r.silent_ms)), number(bytes(r.queue_bytes)), number(int(r.subscriptions)));
}

/** lastOf is when the last known thing happened to it. */
export function lastOf(s: Span): string | undefined {
  return s.events.at(-1)?.time;
}

export const spanColumns: (string | [string, 'number'])[] = ['Client', 'Last event', 'User', 'Address', 'Cause', 'Why'];

export function spanRow(s: Span, open: () => void): HTMLElement {
  const cause = s.open ? 'open' : s.cause ? words(s.cause) + (s.code ? ` (${s.code})` : '') : nothing;
  return row(open, s.client, h('td', { class: 'time' }, time(lastOf(s))), text(s.user), text(s.address, { class: 'mono' }), h('td', {}, cause), h('td', { class: 'long' }, plain(s.why)));
}
