// The live figures: asked for by a long poll, one question at a time, while somebody looks.
import { Api, Problem } from './api.js';
import type { Scalars, Snapshot } from './contract.js';

/** Status is how the live figures are doing. */
export type Status =
  | { kind: 'connecting' }
  | { kind: 'live'; draining: boolean }
  | { kind: 'paused' } // nobody looks
  | { kind: 'lost' | 'busy'; why: string; again: number } // again is when it is tried anew, in ms as of Date.now
  | { kind: 'denied' };

/** keepFor is how far back the plots go, in milliseconds. */
export const keepFor = 5 * 60_000;

/** backoff is how long to wait before attempt n (from 1) to reach a gateway that is away, in ms: doubling, up to half a minute, spread by random (0 to 1). */
export function backoff(n: number, random: number): number {
  return Math.round(Math.min(30_000, 1000 * 2 ** Math.min(n - 1, 10)) * (0.75 + 0.5 * random));
}

/**
 * merge adds snapshots to a history, and drops what is older than keepFor before the newest. What is there already is not
 * added again; a sequence that has begun anew (another process) begins the history anew.
 */
export function merge(history: readonly Scalars[], more: readonly Scalars[]): Scalars[] {
  let out = [...history];
  for (const s of more) {
    const last = out.at(-1);
    if (last && s.seq <= last.seq) {
      if (Date.parse(s.time) <= Date.parse(last.time)) continue;
      out = [];
    }
    out.push(s);
  }
  const newest = out.at(-1);
  if (!newest) return out;
  const oldest = Date.parse(newest.time) - keepFor;
  return out.filter((s) => Date.parse(s.time) >= oldest);
}

/** Points are what a plot draws: times in ms, and for each curve a value at each time, or null. */
export interface Points {
  times: number[];
  values: (number | null)[][];
}

/** gap is how long nothing may have been heard within a curve, in ms: beyond it the curve is broken. */
const gap = 3500;

/** points picks curves out of a history. Where it has a hole, so have they. */
export function points(history: readonly Scalars[], picks: readonly ((s: Scalars) => number | undefined)[]): Points {
  const times: number[] = [];
  const values: (number | null)[][] = picks.map(() => []);
  let last: number | undefined;
  for (const s of history) {
    const t = Date.parse(s.time);
    if (last !== undefined && t - last > gap) {
      times.push((last + t) / 2);
      for (const v of values) v.push(null);
    }
    times.push(t);
    picks.forEach((pick, i) => {
      const v = pick(s);
      values[i]?.push(v === undefined || !Number.isFinite(v) ? null : v);
    });
    last = t;
  }
  return { times, values };
}

/** Live asks for snapshots until it is stopped. It belongs to the page that made it. */
export class Live {
  history: Scalars[] = [];
  latest: Snapshot | undefined;
  private running: AbortController | undefined;
  private wake: (() => void) | undefined;
  private failures = 0;

  constructor(
    private readonly api: Api,
    private readonly told: { snapshot(s: Snapshot): void; status(s: Status): void; restarted(): void },
  ) {}

  /** start asks, unless that is under way. */
  start(): void {
    if (this.running) return;
    const c = new AbortController();
    this.running = c;
    void this.run(c.signal);
  }

  /** stop ends asking; status is what the page is told of it. */
  stop(status?: Status): void {
    this.running?.abort();
    this.running = undefined;
    this.wake?.();
    if (status) this.told.status(status);
  }

  /** now tries again at once, where it waits. */
  now(): void {
    this.wake?.();
  }

  private async run(signal: AbortSignal): Promise<void> {
    let seq: number | undefined;
    while (!signal.aborted) {
      const asked = Date.now();
      try {
        const s = await this.api.get<Snapshot | undefined>(seq === undefined ? 'live?history=1' : 'live?after=' + seq, signal);
        if (signal.aborted) return;
        if (s && s.seq !== seq) {
          const again = this.failures > 0 || (this.latest !== undefined && s.seq < this.latest.seq);
          this.history = merge(this.history, [...(s.history ?? []), s]);
          seq = s.seq;
          this.latest = s;
          this.failures = 0;
          if (again) this.told.restarted();
          this.told.snapshot(s);
        }
        this.failures = 0;
        if (this.latest) this.told.status({ kind: 'live', draining: this.latest.draining === true });
        // A gateway that answers at once, for whatever reason, is not asked more than four times a second.
        const rest = 250 - (Date.now() - asked);
        if (rest > 0) await this.sleep(rest, signal);
      } catch (e) {
        if (signal.aborted) return;
        const p = e instanceof Problem ? e : new Problem('lost', String(e));
        if (p.kind === 'unauthorized') return this.stop({ kind: 'denied' });
        this.failures++;
        seq = undefined;
        const wait = Math.max(p.retryAfter * 1000, backoff(this.failures, Math.random()));
        this.told.status({ kind: p.kind === 'busy' || p.kind === 'throttled' ? 'busy' : 'lost', why: p.message, again: Date.now() + wait });
        await this.sleep(wait, signal);
      }
    }
  }

  private sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((done) => {
      const end = () => {
        clearTimeout(timer);
        this.wake = undefined;
        signal.removeEventListener('abort', end);
        done();
      };
      const timer = setTimeout(end, ms);
      this.wake = end;
      signal.addEventListener('abort', end);
    });
  }
}
