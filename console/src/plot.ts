// Plots of the last minutes. All plots of a page have one cursor: the moment under the pointer of any of them.
import { h, put, s } from './dom.js';
import { nothing, span } from './format.js';
import type { Points } from './live.js';
import { domain, nearest, path, ticks, top } from './scale.js';

const height = 128;
const left = 56;
const right = 8;
const above = 8;
const below = 20;

export interface Curve {
  name: string;
  color: 1 | 2 | 3 | 4;
}

/** Cursor is the moment that a row of plots looks at together; undefined is now. */
export class Cursor {
  private at: number | undefined;
  private readonly plots: Plot[] = [];

  join(p: Plot): void {
    this.plots.push(p);
  }

  get time(): number | undefined {
    return this.at;
  }

  move(t: number | undefined): void {
    this.at = t;
    for (const p of this.plots) p.look();
  }
}

/** Plot draws some curves over time, and their values beside their names. Its element keeps its height whatever it shows. */
export class Plot {
  readonly element: HTMLElement;
  private readonly values: HTMLElement[];
  private readonly when = h('span', { class: 'when' });
  private readonly grid = s('g', { class: 'grid' });
  private readonly curves: SVGPathElement[];
  private readonly fill: SVGPathElement;
  private readonly line = s('line', { class: 'cursor', y1: above, y2: height - below });
  private readonly svg: SVGSVGElement;
  private points: Points = { times: [], values: [] };
  private width = 0;
  private drawn = '';

  constructor(
    title: string,
    private readonly format: (v: number | undefined | null) => string,
    curves: readonly Curve[],
    private readonly cursor: Cursor,
    private readonly least = 0, // the axis reaches at least that far
  ) {
    cursor.join(this);
    this.values = curves.map(() => h('b', {}, nothing));
    this.fill = s('path', { class: 'fill c' + (curves[0]?.color ?? 1) });
    this.curves = curves.map((c) => s('path', { class: 'curve c' + c.color }));
    this.svg = s('svg', { height, width: '100%', 'aria-hidden': 'true' }, this.grid, this.fill, ...this.curves, this.line);
    const box = h('div', {
      class: 'plot', tabindex: '0', role: 'group', 'aria-label': title + ', the last minutes. Left and right move the cursor, Escape comes back to now.',
      pointermove: (e) => this.point(e as PointerEvent),
      pointerdown: (e) => this.point(e as PointerEvent),
      pointerleave: () => this.cursor.move(undefined),
      blur: () => this.cursor.move(undefined),
      keydown: (e) => this.key(e as KeyboardEvent),
    }, this.svg);
    this.element = h('figure', {},
      h('figcaption', {}, h('h3', {}, title), this.when,
        h('ul', { class: 'legend' }, ...curves.map((c, i) => h('li', {}, h('i', { class: 'c' + c.color, 'aria-hidden': 'true' }), c.name + ' ', this.values[i] ?? null)))),
      box);
    new ResizeObserver(() => {
      this.width = box.clientWidth;
      this.draw();
    }).observe(box);
  }

  update(points: Points): void {
    this.points = points;
    this.draw();
    this.look();
  }

  private x = (t: number): number => {
    const [from, to] = domain(this.points.times);
    return left + ((t - from) / (to - from || 1)) * (this.width - left - right);
  };

  private draw(): void {
    if (this.width === 0 || this.points.times.length === 0) return;
    const { times, values } = this.points;
    let most = this.least;
    for (const v of values) for (const n of v) if (n != null && n > most) most = n;
    const end = top(most);
    const y = (v: number) => height - below - (v / end) * (height - above - below);
    const [from, to] = domain(times);
    const minutes = Math.round((to - from) / 1000);
    const key = [this.width, end, minutes].join();
    if (key !== this.drawn) {
      this.drawn = key;
      const lines: SVGElement[] = [];
      ticks(end).forEach((v, i) => {
        lines.push(s('line', { x1: left, x2: this.width - right, y1: y(v), y2: y(v) }));
        if (i % 2 === 0 || ticks(end).length < 6) lines.push(s('text', { x: left - 6, y: y(v) + 3.5, class: 'end' }, this.format(v)));
      });
      const step = to - from > 150_000 ? 120_000 : 60_000;
      for (let back = 0; back <= to - from; back += step) {
        const label = back === 0 ? 'now' : '−' + span(back);
        lines.push(s('text', { x: this.x(to - back), y: height - 5, class: back === 0 ? 'end' : 'middle' }, label));
      }
      this.grid.replaceChildren(...lines);
    }
    this.curves.forEach((c, i) => c.setAttribute('d', path(times, values[i] ?? [], this.x, y)));
    const first = values[0] ?? [];
    // Each unbroken piece of the first curve is filled down to the axis.
    let area = '';
    let begin = -1;
    for (let i = 0; i <= first.length; i++) {
      if (first[i] != null) {
        if (begin < 0) begin = i;
      } else if (begin >= 0) {
        area += path(times.slice(begin, i), first.slice(begin, i), this.x, y) + `L${this.x(times[i - 1] ?? 0)} ${y(0)}L${this.x(times[begin] ?? 0)} ${y(0)}Z`;
        begin = -1;
      }
    }
    this.fill.setAttribute('d', area);
  }

  /** look shows the values at the cursor, or the latest. */
  look(): void {
    const { times, values } = this.points;
    const at = this.cursor.time;
    const i = at === undefined ? times.length - 1 : nearest(times, values, at);
    this.values.forEach((e, c) => put(e, this.format(values[c]?.[i])));
    const t = times[i];
    const now = times.at(-1);
    if (at === undefined || t === undefined || now === undefined) {
      put(this.when, '');
      this.line.setAttribute('visibility', 'hidden');
      return;
    }
    put(this.when, span(now - t) + ' ago');
    this.line.setAttribute('visibility', 'visible');
    this.line.setAttribute('x1', String(this.x(t)));
    this.line.setAttribute('x2', String(this.x(t)));
  }

  private point(e: PointerEvent): void {
    const [from, to] = domain(this.points.times);
    const share = (e.clientX - this.svg.getBoundingClientRect().left - left) / (this.width - left - right || 1);
    this.cursor.move(from + Math.max(0, Math.min(1, share)) * (to - from));
  }

  private key(e: KeyboardEvent): void {
    if (e.ctrlKey || e.altKey || e.metaKey) return;
    const { times, values } = this.points;
    const at = this.cursor.time === undefined ? times.length - 1 : nearest(times, values, this.cursor.time);
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -times.length, End: times.length }[e.key];
    if (e.key === 'Escape') this.cursor.move(undefined);
    else if (step === undefined || times.length === 0) return;
    else {
      // Holes have no value: go on to the next that has one.
      let i = Math.max(0, Math.min(times.length - 1, at + step));
      while (i > 0 && i < times.length - 1 && values.every((v) => v[i] == null)) i += Math.sign(step);
      this.cursor.move(times[i]);
    }
    e.preventDefault();
  }
}
