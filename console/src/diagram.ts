// State machines as diagrams: boxes, and arrows that grow with how many go along them.
import { attr, put, s } from './dom.js';
import { rate, short } from './format.js';

/** Box is a state, with the middle of its box. An end has no count: what came there is not there any more. */
export interface Box {
  name: string;
  label?: string;
  x: number;
  y: number;
  w?: number;
  kind?: 'begin' | 'end' | 'exit';
}

/** Arrow is a transition. bend moves the middle of the arrow to the left of its direction, in units of the drawing. */
export interface Arrow {
  from: string;
  to: string;
  bend?: number;
  at?: number; // where its label is, from 0 (its begin) to 1; 0.5 unless given
  side?: number; // how far the label is from the arrow, to the left of its direction; 0 is on it
}

export interface Layout {
  width: number;
  height: number;
  boxes: Box[];
  arrows: Arrow[];
}

/** boxHeight is that of all boxes. */
export const boxHeight = 46;
const boxWidth = 118;

/** weight is how wide the arrow is on which n go in a second: one more for each tenfold, and never so wide that it hides. */
export function weight(n: number | undefined): number {
  if (n === undefined || !(n > 0)) return 1;
  return Math.min(9, 1.5 + 1.25 * Math.log10(1 + n));
}

interface Point {
  x: number;
  y: number;
}

/** border is where the line from the middle of a box towards p leaves it. */
export function border(b: Box, p: Point, margin = 0): Point {
  const dx = p.x - b.x;
  const dy = p.y - b.y;
  const w = (b.w ?? boxWidth) / 2 + margin;
  const v = boxHeight / 2 + margin;
  const k = Math.min(dx === 0 ? Infinity : w / Math.abs(dx), dy === 0 ? Infinity : v / Math.abs(dy));
  return Number.isFinite(k) ? { x: b.x + dx * k, y: b.y + dy * k } : { x: b.x, y: b.y };
}

/** curve is the line of an arrow between its boxes, and where its label stands. */
export function curve(from: Box, to: Box, a: Arrow): { d: string; label: Point } {
  const dx = to.x - from.x;
  const dy = to.y - from.y;
  const length = Math.hypot(dx, dy) || 1;
  const leftward = { x: dy / length, y: -dx / length };
  const control = {
    x: (from.x + to.x) / 2 + leftward.x * (a.bend ?? 0) * 2,
    y: (from.y + to.y) / 2 + leftward.y * (a.bend ?? 0) * 2,
  };
  const p = border(from, control);
  const q = border(to, control, 7); // room for the head
  const t = a.at ?? 0.5;
  const mid = a.bend ? control : { x: (p.x + q.x) / 2, y: (p.y + q.y) / 2 };
  const on = {
    x: (1 - t) ** 2 * p.x + 2 * t * (1 - t) * mid.x + t ** 2 * q.x,
    y: (1 - t) ** 2 * p.y + 2 * t * (1 - t) * mid.y + t ** 2 * q.y,
  };
  const n = (v: number) => Math.round(v * 10) / 10;
  return {
    d: a.bend ? `M${n(p.x)} ${n(p.y)}Q${n(mid.x)} ${n(mid.y)} ${n(q.x)} ${n(q.y)}` : `M${n(p.x)} ${n(p.y)}L${n(q.x)} ${n(q.y)}`,
    label: { x: n(on.x + leftward.x * (a.side ?? 0)), y: n(on.y + leftward.y * (a.side ?? 0)) },
  };
}

/** Diagram draws one layout. What it shows is in a table beside it too, so it is hidden from screen readers. */
export class Diagram {
  readonly element: SVGSVGElement;
  private readonly counts = new Map<string, { count: SVGTextElement; label: SVGTextElement; y: number }>();
  private readonly edges = new Map<string, { line: SVGPathElement; label: SVGTextElement }>();

  constructor(layout: Layout, name: string) {
    const head = 'head-' + name;
    const boxes = new Map(layout.boxes.map((b) => [b.name, b]));
    const lines: SVGElement[] = [];
    const labels: SVGElement[] = [];
    for (const a of layout.arrows) {
      const from = boxes.get(a.from);
      const to = boxes.get(a.to);
      if (!from || !to) continue;
      const c = curve(from, to, a);
      const line = s('path', { d: c.d, class: 'edge', 'marker-end': `url(#${head})` });
      const label = s('text', { x: c.label.x, y: c.label.y + 4, class: 'middle rate' }, '0');
      lines.push(line);
      labels.push(label);
      this.edges.set(a.from + '>' + a.to, { line, label });
    }
    const drawn = layout.boxes.map((b) => {
      const w = b.w ?? boxWidth;
      const plain = b.kind !== undefined;
      const count = s('text', { x: b.x, y: b.y + 15, class: 'middle count' });
      const label = s('text', { x: b.x, y: b.y + 4, class: 'middle' }, b.label ?? b.name);
      if (!plain) this.counts.set(b.name, { count, label, y: b.y });
      return s('g', { class: 'box ' + (b.kind ?? 'state') },
        s('rect', { x: b.x - w / 2, y: b.y - boxHeight / 2, width: w, height: boxHeight, rx: 8 }),
        label, plain ? null : count);
    });
    this.element = s('svg', { class: 'diagram', viewBox: `0 0 ${layout.width} ${layout.height}`, 'aria-hidden': 'true' },
      s('defs', {}, s('marker', { id: head, viewBox: '0 0 10 10', refX: 3, refY: 5, markerWidth: 12, markerHeight: 12, markerUnits: 'userSpaceOnUse', orient: 'auto' },
        s('path', { d: 'M0 0L10 5L0 10z', class: 'head' }))),
      ...lines, ...drawn, ...labels);
  }

  update(states: Record<string, number>, edges: Record<string, number>): void {
    for (const [name, e] of this.counts) {
      const known = states[name] !== undefined;
      put(e.count, known ? short(states[name]) : '');
      attr(e.label, 'y', String(e.y + (known ? -3 : 4)));
    }
    for (const [name, e] of this.edges) {
      const n = edges[name];
      put(e.label, n === undefined ? '' : n > 0 ? rate(n) + '/s' : '0');
      attr(e.line, 'stroke-width', weight(n).toFixed(2));
      attr(e.line, 'class', n !== undefined && n > 0 ? 'edge moving' : 'edge');
      attr(e.label, 'class', n !== undefined && n > 0 ? 'middle rate moving' : 'middle rate');
    }
  }
}
