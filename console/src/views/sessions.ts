// The sessions that are connected now, searched by the gateway.
import type { App, View } from '../app.js';
import type { SessionPage } from '../contract.js';
import { field, h } from '../dom.js';
import { count, int, millis } from '../format.js';
import { Listing } from '../listing.js';
import { tidy } from '../pages.js';
import { nobody, sessionColumns, sessionRow, table } from '../spans.js';

const limit = 50;

export function sessionsView(app: App): View {
  const input = (name: string, list?: string) => h('input', { name, autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', ...(list ? { list } : {}) });
  const user = input('user');
  const channel = input('channel');
  const address = input('address');
  const client = input('client');
  const endpoint = h('select', { name: 'endpoint' }, h('option', { value: '' }, 'any'), ...(app.node.endpoints ?? []).map((e) => h('option', {}, e.path)));
  const slow = h('input', { type: 'checkbox', name: 'slow' });
  const t = table('Sessions', ...sessionColumns);
  const listing = new Listing(t.element, async (cursor, signal) => {
    const query = tidy({ user: user.value, channel: channel.value, address: address.value, client: client.value, endpoint: endpoint.value, slow: slow.checked });
    const p = await app.api.post<SessionPage>('sessions', { ...query, limit, ...(cursor ? { cursor } : {}) }, signal);
    const rows = p.sessions ?? [];
    t.body.replaceChildren(...(rows.length > 0 ? rows.map((r) => sessionRow(r, () => app.go('why', { client: r.client, row: r }))) : [nobody(sessionColumns.length, 'No session is like that.')]));
    t.element.scrollTop = 0;
    const looked = Object.keys(query).length > 0 ? `looked at ${int(p.scanned)} of ${int(p.total)}` : `of ${int(p.total)}`;
    return { cursor: p.cursor, text: `${count(rows.length, 'session')} ${looked}, in ${millis(p.took_ms)}` };
  });
  const form = h('form', { class: 'search', role: 'search', submit: (e) => { e.preventDefault(); void listing.search(); } },
    field('User', user), field('Channel', channel), field('Address', address, 'or a network'), field('Client', client), field('Endpoint', endpoint),
    h('label', { class: 'check' }, slow, ' slow consumers only'),
    h('div', { class: 'row' }, h('button', { class: 'primary' }, 'Search'), h('button', { type: 'button', click: () => { form.reset(); void listing.search(); } }, 'Clear')));
  return {
    title: 'Sessions',
    element: h('div', {}, form, listing.element),
    enter(p) {
      if (p.channel !== undefined) {
        form.reset();
        channel.value = p.channel;
      }
      void listing.search();
    },
    leave: () => listing.leave(),
  };
}
