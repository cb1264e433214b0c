// Channels that have a subscriber on this node, and a publication by hand.
import { Problem } from '../api.js';
import type { App, View } from '../app.js';
import type { ChannelPage } from '../contract.js';
import { field, h, isolate, put } from '../dom.js';
import { count, int, plain } from '../format.js';
import { jsonFlaw } from '../json.js';
import { Listing } from '../listing.js';
import { nobody, table } from '../spans.js';

const limit = 50;

export function channelsView(app: App): View {
  const pattern = h('input', { autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', placeholder: 'news or chat:*' });
  const t = table('Channels', 'Channel', ['Subscribers', 'number'], 'Do');
  const listing = new Listing(t.element, async (cursor, signal) => {
    const p = await app.api.post<ChannelPage>('channels', { limit, ...(pattern.value.trim() ? { pattern: pattern.value.trim() } : {}), ...(cursor ? { cursor } : {}) }, signal);
    const rows = p.channels ?? [];
    t.body.replaceChildren(...(rows.length > 0 ? rows.map((c) => h('tr', {},
      h('td', { class: 'long' }, isolate(plain(c.channel))), h('td', { class: 'number' }, int(c.subscribers)),
      h('td', {}, h('div', { class: 'row tight' },
        h('button', { type: 'button', class: 'link', 'aria-label': 'Sessions that are subscribed to ' + plain(c.channel), click: () => app.go('sessions', { channel: c.channel }) }, 'Sessions'),
        h('button', { type: 'button', class: 'link', 'aria-label': 'Publish to ' + plain(c.channel), click: () => { channel.value = c.channel; data.focus(); } }, 'Publish'))))) : [nobody(3, 'No channel with a subscriber is like that.')]));
    return { cursor: p.cursor, text: `${count(rows.length, 'channel')} of ${int(p.total)}` };
  });
  const form = h('form', { class: 'search', role: 'search', submit: (e) => { e.preventDefault(); void listing.search(); } },
    field('Name', pattern, '* stands for anything'), h('div', { class: 'row' }, h('button', { class: 'primary' }, 'Search')));

  const channel = h('input', { required: true, autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false' });
  const data = h('textarea', { rows: 5, class: 'mono', spellcheck: 'false', required: true, input: () => {
    const flaw = data.value.trim() === '' ? '' : jsonFlaw(data.value);
    put(outcome, flaw);
    outcome.className = flaw ? 'problem' : '';
  } });
  data.value = '{"text": "hello"}';
  const outcome = h('p', { role: 'status' });
  const send = h('button', { class: 'primary' }, 'Publish');
  const publish = h('form', { class: 'stack', submit: (e) => {
    e.preventDefault();
    const flaw = jsonFlaw(data.value);
    outcome.className = flaw ? 'problem' : '';
    put(outcome, flaw);
    if (flaw) return data.focus();
    send.disabled = true;
    app.api.publish(channel.value, data.value).then(
      (a) => {
        outcome.className = 'good';
        put(outcome, a?.offset ? `Published at offset ${int(a.offset)}.` : 'Published.');
      },
      (e: unknown) => {
        outcome.className = 'problem';
        put(outcome, e instanceof Problem ? e.message : String(e));
      },
    ).finally(() => { send.disabled = false; });
  } }, field('Channel', channel), field('Data', data, 'JSON'), h('div', { class: 'row' }, send, outcome));

  return {
    title: 'Channels',
    element: h('div', { class: 'columns' },
      h('section', { class: 'grow' }, form, listing.element),
      h('section', {}, h('h2', {}, 'Publish by hand'), publish)),
    enter: () => void listing.search(),
    leave: () => listing.leave(),
  };
}
