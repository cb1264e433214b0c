// Connections as state machines: WebSocket's, and TCP's below it.
import type { View } from '../app.js';
import type { Machine, Snapshot } from '../contract.js';
import { Diagram, type Layout } from '../diagram.js';
import { h, put } from '../dom.js';
import { int, rate } from '../format.js';
import { tcpNarrow, tcpWide, websocketNarrow, websocketWide } from '../machines.js';

// Numbers is the table of what a diagram shows, for reading and for screen readers. Rows are added as names come up, and stay.
class Numbers {
  readonly element: HTMLElement;
  private readonly rows = new Map<string, HTMLElement>();
  private readonly body = h('tbody');

  constructor(caption: string, first: string, second: string, private readonly format: (n: number) => string) {
    this.element = h('div', { class: 'wide', tabindex: '0', role: 'group', 'aria-label': caption }, h('table', {}, h('caption', {}, caption),
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, first), h('th', { scope: 'col', class: 'number' }, second))), this.body));
  }

  update(values: Record<string, number>): void {
    for (const [name, n] of Object.entries(values)) {
      let cell = this.rows.get(name);
      if (!cell) {
        cell = h('td', { class: 'number' });
        this.rows.set(name, cell);
        this.body.append(h('tr', {}, h('th', { scope: 'row' }, name.replace('>', ' → ')), cell));
      }
      put(cell, this.format(n));
    }
    for (const [name, cell] of this.rows) if (!(name in values)) put(cell, this.format(0));
  }
}

class Section {
  readonly element: HTMLElement;
  private readonly diagram: HTMLElement = h('div', { class: 'drawing' });
  private readonly states = new Numbers('How many are in each state', 'State', 'Connections', int);
  private readonly edges = new Numbers('How many go from one to another', 'Transition', 'Per second', rate);
  private readonly missing = h('p', { class: 'notice', hidden: true });
  private readonly whole: HTMLElement;
  private drawn: Diagram | undefined;
  private last: Machine | undefined;

  constructor(title: string, note: string, private readonly name: string, private readonly wide: Layout, private readonly narrow: Layout) {
    this.whole = h('div', {}, this.diagram, h('details', {}, h('summary', {}, 'The same in numbers'), h('div', { class: 'columns' }, this.states.element, this.edges.element)));
    this.element = h('section', {}, h('h2', {}, title), h('p', { class: 'quiet' }, note), this.missing, this.whole);
  }

  draw(narrow: boolean): void {
    this.drawn = new Diagram(narrow ? this.narrow : this.wide, this.name);
    this.diagram.replaceChildren(this.drawn.element);
    if (this.last) this.update(this.last);
  }

  update(m: Machine): void {
    this.last = m;
    const states = m.states ?? {};
    const edges = m.edges ?? {};
    const there = m.available !== false || Object.keys(states).length + Object.keys(edges).length > 0;
    this.whole.hidden = !there;
    const why = m.available === false ? m.why || 'The gateway does not see them.' : (m.why ?? '');
    this.missing.hidden = why === '';
    put(this.missing, why);
    this.drawn?.update(states, edges);
    this.states.update(states);
    this.edges.update(edges);
  }
}

export function statesView(): View {
  const ws = new Section('WebSocket', 'Each arrow has how many connections go that way in a second, and is wider the more there are: tenfold for each step.', 'ws', websocketWide, websocketNarrow);
  const tcp = new Section('TCP', 'The same connections as the kernel sees them.', 'tcp', tcpWide, tcpNarrow);
  const narrow = matchMedia('(max-width: 44rem)');
  const draw = () => [ws, tcp].forEach((s) => s.draw(narrow.matches));
  narrow.addEventListener('change', draw);
  draw();
  return {
    title: 'Connection states',
    element: h('div', {}, ws.element, tcp.element),
    snapshot(s: Snapshot) {
      ws.update(s.ws ?? {});
      tcp.update(s.tcp ?? { available: false });
    },
  };
}
