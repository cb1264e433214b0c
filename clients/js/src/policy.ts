// The policy decides when to ping, when to give a line up, when to come back and when to stop. It has no timer, no
// socket and no clock: events go in, each with its time, and actions come out. docs/client-policy.md describes it, and
// testdata/heartbeat holds the scenarios that this implementation and the one in Go both have to pass.

/** A state of the connection, as docs/client-policy.md draws them. */
export type State =
  | 'connecting'
  | 'idle'
  | 'waiting-pong'
  | 'retry-pending'
  | 'backoff'
  | 'melted'
  | 'trial'
  | 'offline'
  | 'closing'
  | 'closed';

/** How the line is watched. Times are in milliseconds. */
export interface Heartbeat {
  /** json and custom send pings, traffic only listens, none does not watch at all. Default json. */
  mode?: 'json' | 'custom' | 'traffic' | 'none';
  /** Silence after which the peer is asked. Default 30000. */
  interval?: number;
  /** The longest wait for a pong. Default 5000. */
  timeout?: number;
  /** The shortest wait for a pong that the round-trip estimate may come to. Default 1000. */
  minTimeout?: number;
  /** Pongs missed in a row after which the line is given up and dialled anew. Default 2. */
  misses?: number;
  /** A timer that is later than this was asleep: nothing is concluded from it. Default 2000. */
  late?: number;
}

/** When the fuse opens, and when it lets a trial through. Times are in milliseconds. */
export interface Fuse {
  /** Pongs missed in a row, over all connections, that open it. Default 3. */
  misses?: number;
  /** Connections and attempts lost in a row, none of them stable, that open it. Default 10. */
  failures?: number;
  /** The wait before a trial, plus as much again at random; doubles with each failed trial. Default 30000. */
  coolDown?: number;
  /** The bound of the doubling. Default 300000. */
  maxCoolDown?: number;
  /** Failed trials after which the end is final. 0, the default, is never. */
  trials?: number;
}

/** How the way back is spread. Times are in milliseconds. */
export interface Backoff {
  /** The first window. Default 500. */
  min?: number;
  /** The bound of the doubling. Default 20000. */
  max?: number;
  /** A connection that was open this long was a success: the windows start anew. Default 5000. */
  stable?: number;
  /** The window after a close code of drain that came without advice. Default 10000. */
  spread?: number;
  /** The bound of what a server may ask for by Retry-After. Default 3600000. */
  maxAfter?: number;
}

/** What happens to messages while there is no connection. */
export interface Queue {
  /** When it is full: reject has send throw, oldest and newest drop that message. Default reject. */
  policy?: 'reject' | 'oldest' | 'newest';
  /** Default 256 messages. */
  limit?: number;
  /** Default 1048576 bytes. */
  bytes?: number;
}

/** What the codes of a server mean. A list that is given takes the place of the default one. */
export interface Codes {
  /** Ranges of close codes that say do not come back. */
  terminal?: readonly (readonly [number, number])[];
  /** HTTP statuses that say the same. */
  status?: readonly number[];
  /** Close codes of a server that goes away, and will be back or has neighbours. */
  drain?: readonly number[];
}

/** A record that sockets of one endpoint may share, so that what one learns holds for the next. Plain data. */
export interface Memory {
  /** Pongs missed in a row. */
  misses: number;
  /** Connections and attempts lost in a row. */
  failures: number;
  /** Times the fuse opened in a row. */
  trials: number;
  /** The time at which the fuse lets a trial through; 0 while it is closed. */
  until: number;
  /** The time before which the server does not want to see us. */
  hold: number;
}

/** Everything that can be chosen. All of it is optional. */
export interface PolicyOptions {
  /** false leaves coming back to the caller: the first close is the end. Default true. */
  reconnect?: boolean;
  heartbeat?: Heartbeat;
  fuse?: Fuse;
  backoff?: Backoff;
  queue?: Queue;
  /** Send again, after a reconnect, what no pong has confirmed. Needs pings. Default false. */
  resend?: boolean;
  /** Milliseconds for an attempt to connect. Default 10000. */
  connectTimeout?: number;
  /** Milliseconds for the closing handshake. Default 5000. */
  closeTimeout?: number;
  codes?: Codes;
}

type Complete<T> = { [K in keyof T]-?: Exclude<T[K], undefined> };
type Settled = Complete<Omit<PolicyOptions, 'heartbeat' | 'fuse' | 'backoff' | 'queue' | 'codes'>> & {
  heartbeat: Complete<Heartbeat>;
  fuse: Complete<Fuse>;
  backoff: Complete<Backoff>;
  queue: Complete<Queue>;
  codes: Complete<Codes>;
};

const defaults: Settled = {
  reconnect: true,
  heartbeat: { mode: 'json', interval: 30000, timeout: 5000, minTimeout: 1000, misses: 2, late: 2000 },
  fuse: { misses: 3, failures: 10, coolDown: 30000, maxCoolDown: 300000, trials: 0 },
  backoff: { min: 500, max: 20000, stable: 5000, spread: 10000, maxAfter: 3600000 },
  queue: { policy: 'reject', limit: 256, bytes: 1048576 },
  resend: false,
  connectTimeout: 10000,
  closeTimeout: 5000,
  codes: {
    terminal: [
      [1000, 1000],
      [1003, 1003],
      [1007, 1007],
      [1009, 1010],
      [3500, 3999],
      [4500, 4999],
    ],
    status: [400, 401, 403, 405, 410, 426],
    drain: [1001, 1012, 3001],
  },
};

/** A message on its way out. The policy looks at nothing else of it. */
export interface Outgoing {
  readonly bytes: number;
}

/** What happened. at is in milliseconds, and never less than that of the event before. */
export type Input<M extends Outgoing = Outgoing> = { at: number } & (
  | { event: 'start' | 'open' | 'message' | 'error' | 'abort' }
  | { event: 'online' | 'offline' | 'visible' | 'hidden' | 'wake' }
  | { event: 'pong'; ts?: number | undefined }
  | { event: 'close'; code: number; reason?: string; clean?: boolean }
  | { event: 'refused'; status: number; after?: number | undefined }
  | { event: 'timer'; name: Timer }
  | { event: 'send' | 'cancel'; message: M }
  | { event: 'shut'; code?: number | undefined; reason?: string | undefined }
  | { event: 'advice'; after?: number | undefined }
);

/** The names of the one timer. */
export type Timer = 'connect' | 'ping' | 'pong' | 'retry' | 'cool' | 'close';

/** What to do, in order. A timer replaces no other: there is never more than one, and clear names it. */
export type Action<M extends Outgoing = Outgoing> =
  | ['connect']
  | ['ping', number]
  | ['timer', Timer, number]
  | ['clear', Timer]
  | ['close', number, string] // leave the socket at once, whatever it still says
  | ['shut', number | undefined, string | undefined] // begin the closing handshake
  | ['state', State, string]
  | ['emit', 'open' | 'error']
  | ['emit', 'close', number, string, boolean]
  | ['write', M]
  | ['drop', M, string]
  | ['reject', M, string];

/** The state machine of one socket. */
export interface Policy<M extends Outgoing = Outgoing> {
  /** Takes one event and returns what is to be done. */
  step(e: Input<M>): Action<M>[];
  readonly state: State;
  /** Whether there is an open connection. */
  readonly up: boolean;
  /** The estimate of the round trip in milliseconds; 0 before the first pong. */
  readonly rtt: number;
  /** Bytes of the messages that wait for a connection. */
  readonly queued: number;
}

/** A record of nothing. */
export const memory = (): Memory => ({ misses: 0, failures: 0, trials: 0, until: 0, hold: 0 });

/** Returns the state machine of one socket. random gives numbers from 0 up to 1; record may be shared. */
export function policy<M extends Outgoing>(options: PolicyOptions, random: () => number, record = memory()): Policy<M> {
  const settled: Record<string, unknown> = {};
  for (const [k, d] of Object.entries(defaults)) {
    const v = options[k as keyof PolicyOptions] ?? d;
    settled[k] = typeof v == 'object' ? { ...(d as object), ...v } : v;
  }
  const { reconnect, heartbeat, fuse, backoff, queue: room, codes, resend, ...o } = settled as Settled;
  const asks = heartbeat.mode == 'json' || heartbeat.mode == 'custom';

  let state: State = 'connecting';
  let up = false;
  let acts: Action<M>[];
  let tells: Action<M>[]; // what runs code of the application, and so comes last
  let timer: Timer | undefined;
  let due: number;
  let offline = false;
  let hidden = false;
  let excused: boolean; // the one late timer that the peer is not blamed for
  let { misses } = record; // pongs in a row, on the lines of this socket
  let seen = 0; // the last sign of life
  let opened: number;
  let edge = 0; // where the last window of the backoff ends
  let rtt = 0;
  let deviation: number;
  let pings: number; // without a pong
  let first: number; // the oldest of them
  let last: number;
  let queue: M[] = [];
  let queued = 0;
  let sent: M[] = []; // what no pong has confirmed, with resend
  let mark = 0; // how many of sent went out before the last ping

  const act = (...a: Action<M>) => void acts.push(a);
  const tell = (...a: Action<M>) => void tells.push(a);
  const spread = (window: number) => Math.floor(random() * window);
  const over = () => state == 'closing' || state == 'closed';
  const dialling = () => !up && (state == 'connecting' || state == 'trial');

  const arm = (name: Timer, at: number) => act('timer', (timer = name), (due = at));

  // to enters a state. The timer of the one before never outlives it, and that of the new one is set before anything
  // is done that may throw.
  const to = (next: State, reason: string, name?: Timer, at?: number): void => {
    if (timer) act('clear', timer);
    timer = undefined;
    if (name) arm(name, at!);
    tells.unshift(['state', (state = next), reason]);
  };

  const connect = (at: number, reason: string): void => {
    pings = 0;
    excused = false;
    to(record.until ? 'trial' : 'connecting', reason, 'connect', at + o.connectTimeout);
    act('connect');
  };

  const idle = (at: number, reason: string) =>
    heartbeat.mode == 'none' ? to('idle', reason) : to('idle', reason, 'ping', at + heartbeat.interval);

  // ping asks the peer, or with traffic alone listens more closely.
  const ping = (at: number, reason: string): void => {
    let wait = heartbeat.timeout;
    if (rtt && !hidden) {
      wait = Math.min(wait, Math.max(heartbeat.minTimeout, Math.ceil(4 * (rtt + 4 * deviation))) * 2 ** misses);
    }
    to(record.until ? 'trial' : misses ? 'retry-pending' : 'waiting-pong', reason, 'pong', at + wait);
    if (asks) {
      if (!pings++) first = at;
      last = at;
      mark = sent.length;
      act('ping', at);
    }
  };

  // probe asks the peer after a time of which nothing is known. Who only listens can but start anew.
  const probe = asks ? ping : idle;

  // measure is the estimator of RFC 6298.
  const measure = (sample: number): void => {
    deviation = rtt ? deviation + (Math.abs(rtt - sample) - deviation) / 4 : sample / 2;
    rtt = rtt ? rtt + (sample - rtt) / 8 : sample;
  };

  const alive = (at: number, reason: string): void => {
    if (!up || state == 'closing') return;
    seen = at;
    excused = offline = false;
    misses = record.misses = record.trials = record.until = 0;
    if (state != 'idle') {
      idle(at, reason);
      flush();
    }
  };

  const finish = (why: string, code: number, reason: string, clean: boolean): void => {
    up = false;
    to('closed', why);
    while (queue[0]) drop(0, 'closed');
    if (!clean) tell('emit', 'error');
    tell('emit', 'close', code, reason, clean);
  };

  // lost follows the end of a connection or of an attempt.
  const lost = (at: number, why: string, code: number, reason = '', clean = false, status = 0, after?: number): void => {
    record.failures = up && at - opened >= backoff.stable ? 0 : record.failures + 1;
    up = false;
    queue = [...sent, ...queue];
    for (const m of sent) queued += m.bytes;
    sent = [];
    while (full(0, 0)) drop(0, 'oldest');
    if (
      state == 'closing' ||
      codes.terminal.some(([low, high]) => code >= low && code <= high) ||
      codes.status.includes(status)
    ) {
      return finish(why, code, reason, clean);
    }
    after = Math.min(backoff.maxAfter, after ?? +(/retry after (\d{1,9}) ?s/i.exec(reason)?.[1] ?? -1) * 1000);
    if (after >= 0) record.hold = at + after;
    if (record.until || record.misses >= fuse.misses || record.failures >= fuse.failures) {
      if (fuse.trials && record.trials >= fuse.trials) return finish('melted', 4001, 'melted', false);
      const wait = Math.min(fuse.maxCoolDown, fuse.coolDown * 2 ** record.trials++);
      record.until = Math.max(at + wait, record.hold) + spread(wait);
      if (reconnect) to('melted', why, 'cool', record.until);
    } else {
      const paced = after >= 0 || codes.drain.includes(code);
      const window = Math.min(backoff.max, backoff.min * 2 ** record.failures);
      if (reconnect || paced) comeBack(at, why, paced ? Math.max(window, after < 0 ? backoff.spread : after) : window, paced);
    }
    if (!reconnect) finish(why, code, reason, clean);
  };

  // comeBack has the next attempt fall anywhere in a window. Windows follow each other without overlap, and not at the
  // attempts: so the attempts of many clients stay level, where the sum of random waits would have a crest.
  const comeBack = (at: number, reason: string, window: number, paced?: boolean): void => {
    if (offline && reconnect) return to('offline', reason);
    const start = Math.max(at, edge, record.hold);
    const next = start + spread(window);
    edge = start + window;
    if (paced) record.hold = next;
    if (reconnect) to('backoff', reason, 'retry', next);
  };

  const full = (bytes: number, messages = 1) => queue.length + messages > room.limit || queued + bytes > room.bytes;

  const drop = (i: number, why: string): void => {
    const [m] = queue.splice(i, 1) as [M];
    queued -= m.bytes;
    tell('drop', m, why);
  };

  const write = (m: M): void => {
    tell('write', m);
    if (resend && asks && sent.push(m) > room.limit) {
      sent.shift();
      mark--;
    }
  };

  const flush = (): void => {
    queue.forEach(write);
    queue = [];
    queued = 0;
  };

  const fire = (at: number, name: Timer): void => {
    timer = undefined;
    if ((name == 'ping' || name == 'pong') && at - due > heartbeat.late && !excused) {
      excused = name == 'pong' || !asks;
      return probe(at, 'late');
    }
    switch (name) {
      case 'ping':
        if (seen + heartbeat.interval > at && !sent[0]) return arm(name, seen + heartbeat.interval);
        return ping(at, 'interval');
      case 'pong':
        record.misses++;
        if (++misses < heartbeat.misses && state != 'trial') return ping(at, 'no pong');
        act('close', 4001, 'no pong');
        return lost(at, 'no pong', 4001, 'no pong');
      case 'close':
      case 'connect':
        act('close', 4001, `${name} timeout`);
        return lost(at, `${name} timeout`, 1006);
      default:
        return offline ? to('offline', 'offline') : connect(at, name);
    }
  };

  const send = (m: M): void => {
    if (over()) return tell('drop', m, 'closed');
    if (up && (state != 'offline' || !reconnect)) return write(m);
    if (!reconnect) return tell('reject', m, 'not open');
    while (room.policy == 'oldest' && m.bytes <= room.bytes && queue[0] && full(m.bytes)) drop(0, 'oldest');
    if (!full(m.bytes)) {
      queue.push(m);
      queued += m.bytes;
    } else if (room.policy == 'reject') tell('reject', m, 'full');
    else tell('drop', m, room.policy);
  };

  const take = (e: Input<M>): void => {
    const { at, event } = e;
    const socket = up || dialling() || state == 'closing';
    switch (event) {
      case 'start':
        if (record.until > at) to('melted', event, 'cool', record.until);
        else if (record.hold > at) to('backoff', event, 'retry', record.hold);
        else connect(at, event);
        break;
      case 'open':
        if (!dialling()) break;
        up = true;
        offline = false;
        opened = seen = at;
        if (!asks) record.until = 0; // there is no better proof to be had
        if (asks && (record.until || misses)) ping(at, event);
        else idle(at, event);
        tell('emit', event);
        flush();
        break;
      case 'pong':
        if (up && pings) {
          const { ts = pings == 1 ? last : -1 } = e;
          if (ts >= first && ts <= last) measure(Math.max(at - ts, 1));
          if (ts == last) {
            sent.splice(0, mark);
            mark = 0;
          }
          pings--;
        }
      // falls through
      case 'message':
        alive(at, event);
        break;
      case 'error':
        if (socket) lost(at, event, 1006);
        break;
      case 'close':
        if (socket) lost(at, `close ${e.code}`, e.code, e.reason, e.clean);
        break;
      case 'refused':
        if (socket) lost(at, `status ${e.status}`, 1006, '', false, e.status, e.after);
        break;
      case 'advice':
        if (!up || over()) break;
        act('close', 1000, event);
        lost(at, event, 1012, '', true, 0, e.after);
        break;
      case 'timer':
        if (e.name == timer) fire(at, timer);
        break;
      case 'offline':
        offline = true;
        if (!over() && (up || state == 'backoff')) to(event, event);
        break;
      case 'online':
        offline = false;
        if (over() || dialling()) break;
        if (up) probe(at, event);
        else if (state == 'melted') {
          record.until = Math.max(at, record.hold) + spread(backoff.min);
          to(state, event, 'cool', record.until);
        } else {
          record.failures = edge = 0;
          comeBack(at, event, backoff.min);
        }
        break;
      case 'hidden':
      case 'visible':
      case 'wake':
        hidden = event == 'hidden';
        if (hidden || (event == 'visible' && at - seen < heartbeat.timeout)) break;
        if (up && !over() && state != 'offline') probe(at, event);
        else if (state == 'backoff' && record.hold <= at) connect(at, event);
        break;
      case 'send':
        send(e.message);
        break;
      case 'cancel':
        if (queue.includes(e.message)) drop(queue.indexOf(e.message), event);
        break;
      case 'shut':
        if (over()) break;
        if (socket) {
          act(event, e.code, e.reason);
          to('closing', event, 'close', at + o.closeTimeout);
        } else finish(event, e.code ?? 1005, e.reason ?? '', true);
        break;
      case 'abort':
        if (state == 'closed') break;
        if (socket) act('close', 1000, event);
        finish(event, 1000, event, true);
    }
  };

  return {
    step(e) {
      acts = [];
      tells = [];
      take(e);
      return [...acts, ...tells];
    },
    get state() {
      return state;
    },
    get up() {
      return up;
    },
    get rtt() {
      return rtt;
    },
    get queued() {
      return queued;
    },
  };
}
