// What this gateway is, and how to use the console.
import type { App, View } from '../app.js';
import { h } from '../dom.js';
import { nothing, span, time } from '../format.js';
import { demoAddress } from '../demo.js';
import type { NodeInfo } from '../contract.js';

export function aboutView(app: App): View {
  const list = h('dl', { class: 'facts one' });
  const demo = h('p');
  const refresh = (n: NodeInfo) => {
    const rows: [string, string][] = [['version', n.version], ['node', n.node], ['process', String(n.pid)], ['started', time(n.started)],
      ['up for', span(Date.now() - Date.parse(n.started))], ['address', n.addr], ['layout', n.layout], ...(n.endpoints ?? []).map((e): [string, string] => ['endpoint ' + e.path, e.protocol])];
    list.replaceChildren(...rows.map(([k, v]) => h('div', {}, h('dt', {}, k), h('dd', {}, v || nothing))));
    demo.replaceChildren(...(n.features?.['dev'] ? [h('a', { href: demoAddress(location.href, n.addr) }, 'The demo page'), ' subscribes and publishes with the official SDK, in this browser.'] : []));
  };
  refresh(app.node);
  return {
    title: 'About',
    element: h('div', { class: 'columns' },
      h('section', {}, h('h2', {}, 'This gateway'), list, demo),
      h('section', {}, h('h2', {}, 'Keys'), h('dl', { class: 'facts one' },
        ...[['Tab, Enter', 'reach and use everything'], ['← → PgUp PgDn', 'move the cursor of the plots'], ['Esc', 'back to now; close a dialog'], ['Alt ←', 'the view before']].map(([k, v]) => h('div', {}, h('dt', {}, k ?? ''), h('dd', {}, v ?? '')))),
        h('p', { class: 'quiet' }, 'Figures are of this node alone. They stand still while the tab is hidden. The admin token is kept in this tab until it is closed; what is searched for stands in no address.'))),
    refresh,
  };
}
