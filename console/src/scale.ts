// Where curves and ticks of a plot go. Nothing here touches the page.

/** top is the end of an axis from 0 that holds max: the next of 1, 2, 2.5, 4, 5, 8 times a power of ten, so that it rarely changes. */
export function top(max: number): number {
  if (!(max > 0) || !Number.isFinite(max)) return 1;
  const power = 10 ** Math.floor(Math.log10(max));
  for (const m of [1, 2, 2.5, 4, 5, 8]) if (max <= m * power * (1 + 1e-9)) return m * power;
  return 10 * power;
}

/** ticks are the values that an axis from 0 to end has a line at: four steps, or five where that makes round numbers. */
export function ticks(end: number): number[] {
  const lead = end / 10 ** Math.floor(Math.log10(end) + 1e-9);
  const n = Math.abs(lead - 1) < 1e-6 || Math.abs(lead - 2.5) < 1e-6 || Math.abs(lead - 5) < 1e-6 ? 5 : 4;
  return Array.from({ length: n + 1 }, (_, i) => (end * i) / n);
}

/** domain is the time that a plot shows, in ms: all that is known, but no less than two minutes. */
export function domain(times: readonly number[]): [number, number] {
  const end = times.at(-1) ?? 0;
  return [Math.min(times[0] ?? end, end - 120_000), end];
}

/** path is a curve as SVG draws it: x and y are scaled to pixels, and null breaks it. */
export function path(times: readonly number[], values: readonly (number | null)[], x: (t: number) => number, y: (v: number) => number): string {
  let d = '';
  let pen = false;
  times.forEach((t, i) => {
    const v = values[i];
    if (v == null) {
      pen = false;
      return;
    }
    d += (pen ? 'L' : 'M') + round(x(t)) + ' ' + round(y(v));
    // A point without a neighbor is no line: a short one makes it seen.
    if (!pen && values[i + 1] == null) d += 'h1';
    pen = true;
  });
  return d;
}

function round(v: number): number {
  return Math.round(v * 10) / 10;
}

/** nearest is the index of the time that is nearest to t, among those that have a value; -1 if there is none. */
export function nearest(times: readonly number[], values: readonly (number | null)[][], t: number): number {
  let best = -1;
  for (let i = 0; i < times.length; i++) {
    if (!values.some((v) => v[i] != null)) continue;
    if (best < 0 || Math.abs((times[i] ?? 0) - t) < Math.abs((times[best] ?? 0) - t)) best = i;
  }
  return best;
}
