import { memory, policy, type Action, type Heartbeat, type Input, type Memory, type Policy, type PolicyOptions, type State } from './policy.js';

/** What send takes. */
export type Data = string | ArrayBufferLike | Blob | ArrayBufferView;

/** How the line is watched, with the messages that do it. */
export interface SocketHeartbeat extends Heartbeat {
  /** With the mode custom: the message that asks. */
  ping?: string | ArrayBuffer | (() => Data);
  /** With the mode custom: whether a message is the answer. It is then kept from the application. */
  pong?: (data: unknown) => boolean;
}

/** The options of a socket: those of the policy, and what it works with. */
export interface SocketOptions extends PolicyOptions {
  heartbeat?: SocketHeartbeat;
  /** Ends the socket when it is aborted, wherever it stands. */
  signal?: AbortSignal;
  /** The implementation underneath. Default is the global one; Node before 22 has none. */
  WebSocket?: new (url: string, protocols?: string | string[]) => unknown;
  /** What sockets of one endpoint share. LongwireSocket.with makes one. */
  memory?: Memory;
  /** Time and chance, for tests. */
  clock?: Clock;
}

/** Where time and chance come from: functions that need no this. What is left out is the system's. */
export interface Clock {
  now?: () => number;
  random?: () => number;
  setTimeout?: (f: () => void, ms: number) => unknown;
  clearTimeout?: (id: never) => void;
}

/** A transition, as the event state tells it. */
export interface StateEvent extends Event {
  readonly from: State;
  readonly to: State;
  /** What led to it: pong, no pong, close 1006, status 503, online, … */
  readonly reason: string;
  /** When something is next done by itself, in the milliseconds of Date.now; 0 for never. */
  readonly due: number;
}

/** A message that will not be sent: the queue was full, it was cancelled, or the socket closed. */
export interface DropEvent extends Event {
  readonly data: Data;
  readonly reason: string;
}

export interface LongwireSocketEventMap extends WebSocketEventMap {
  state: StateEvent;
  drop: DropEvent;
}

export interface LongwireSocket {
  addEventListener<K extends keyof LongwireSocketEventMap>(
    type: K,
    listener: (this: LongwireSocket, event: LongwireSocketEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof LongwireSocketEventMap>(
    type: K,
    listener: (this: LongwireSocket, event: LongwireSocketEventMap[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;
}

// The part of ws that WebSocket does not have is a refused handshake with its answer.
interface Inner extends WebSocket {
  on?(event: 'unexpected-response', f: (request: { destroy(): void }, response: { statusCode: number; headers: Record<string, string> }) => void): void;
}

interface Message {
  readonly data: Data;
  readonly bytes: number;
}

// An event without its time.
type Plain<I = Input<Message>> = I extends unknown ? Omit<I, 'at'> : never;

const global = globalThis as typeof globalThis & { CloseEvent?: typeof CloseEvent };

/**
 * A WebSocket that watches its line and comes back. It has the interface of the standard one. open is dispatched for
 * every connection, close once, at the end; state tells what happens between.
 */
export class LongwireSocket extends EventTarget {
  declare static readonly CONNECTING: 0;
  declare static readonly OPEN: 1;
  declare static readonly CLOSING: 2;
  declare static readonly CLOSED: 3;
  declare readonly CONNECTING: 0;
  declare readonly OPEN: 1;
  declare readonly CLOSING: 2;
  declare readonly CLOSED: 3;

  onopen: WebSocket['onopen'] = null;
  onmessage: WebSocket['onmessage'] = null;
  onerror: WebSocket['onerror'] = null;
  onclose: WebSocket['onclose'] = null;

  readonly url: string;
  protocol = '';
  extensions = '';

  private policy: Policy<Message>;
  private inner: Inner | undefined;
  private run: (event: Plain) => void;
  private ended: AbortSignal;
  private binary: BinaryType = 'blob';

  /** Returns a class with these options, for libraries that make the sockets. Its sockets share what they learn. */
  static with(options: SocketOptions): typeof LongwireSocket {
    options = { memory: memory(), ...options };
    return class extends LongwireSocket {
      constructor(url: string | URL, protocols?: string | string[], more?: SocketOptions) {
        super(url, protocols, { ...options, ...more });
      }
    };
  }

  constructor(url: string | URL, protocols?: string | string[], options: SocketOptions = {}) {
    super();
    const { signal, heartbeat = {}, clock = {} } = options;
    const { now: tick = Date.now, random = Math.random, setTimeout: set = setTimeout, clearTimeout: clear = clearTimeout } = clock;
    const machine = (this.policy = policy<Message>(options, random, options.memory));
    const ending = new AbortController();
    this.ended = ending.signal;
    this.url = `${url}`;

    let time = 0;
    let back = 0; // how far the system's clock has been set back
    const now = () => {
      const t = tick() + back;
      if (t < time) back += time - t;
      return (time = Math.max(t, time));
    };

    const tell = (type: string, fields: object = {}) => {
      const Kind = type == 'close' ? global.CloseEvent : type == 'message' ? MessageEvent : undefined;
      this.dispatchEvent(Kind ? new Kind(type, fields) : Object.assign(new Event(type), fields));
    };

    const leave = () => {
      const { inner } = this;
      this.inner = undefined;
      if (!inner) return;
      inner.onopen = inner.onmessage = inner.onclose = null;
      inner.onerror = () => {}; // of an EventEmitter, an error that nobody hears is thrown
    };

    const connect = () => {
      leave();
      const inner = (this.inner = new (options.WebSocket ?? WebSocket)(this.url, protocols) as Inner);
      inner.binaryType = this.binary;
      inner.onopen = () => {
        this.protocol = inner.protocol;
        this.extensions = inner.extensions;
        run({ event: 'open' });
      };
      inner.onmessage = ({ data, origin }) => {
        const custom = heartbeat.mode == 'custom';
        const pong = custom
          ? heartbeat.pong?.(data) && []
          : (heartbeat.mode ?? 'json') == 'json' && /^\s*{\s*"type"\s*:\s*"pong"(?:.*"ts"\s*:\s*(\d+))?/s.exec(data);
        run(pong ? { event: 'pong', ts: pong[1] ? +pong[1] : undefined } : { event: 'message' });
        if (!pong) tell('message', { data, origin });
      };
      inner.onerror = () => {}; // a close follows
      inner.onclose = ({ code, reason, wasClean: clean }) => run({ event: 'close', code, reason, clean });
      inner.on?.('unexpected-response', (request, { statusCode: status, headers }) => {
        const wait = headers['retry-after'];
        if (this.inner == inner) {
          leave();
          run({ event: 'refused', status, after: wait && (+wait * 1000 || Date.parse(wait) - now()) || undefined });
        }
        request.destroy();
      });
    };

    let due = 0;
    let handle: unknown;
    const act = (a: Action<Message>, from: State): void => {
      const { inner } = this;
      switch (a[0]) {
        case 'connect':
          return connect();
        case 'ping': {
          const { ping } = heartbeat;
          return inner?.send((heartbeat.mode != 'custom' ? `{"type":"ping","ts":${a[1]}}` : typeof ping == 'function' ? ping() : ping) as string);
        }
        case 'timer':
          due = a[2];
          handle = set(() => {
            time = Math.max(time, a[2]); // whatever the system's clock says
            run({ event: 'timer', name: a[1] });
          }, due - now());
          return;
        case 'clear':
          due = 0;
          return clear(handle as never);
        case 'close':
          leave();
          return inner?.close(a[1], a[2]);
        case 'write':
          return inner?.send(a[1].data as string);
        case 'reject':
          throw new DOMException(a[2], 'InvalidStateError');
        case 'drop':
          return tell('drop', { data: a[1].data, reason: a[2] });
        case 'state':
          if (a[1] == 'closed') {
            leave();
            ending.abort();
          }
          return tell('state', { from, to: a[1], reason: a[2], due });
        case 'emit': {
          const [, type, code, reason, wasClean] = a;
          if (type == 'open') tell(type);
          // close() must return before its caller hears of it.
          else queueMicrotask(() => tell(type, type == 'close' ? { code, reason, wasClean } : {}));
        }
      }
    };

    const run = (this.run = (event) => {
      const { state } = machine;
      for (const a of machine.step({ at: now(), ...event } as Input<Message>)) act(a, state);
    });

    for (const type of ['open', 'message', 'error', 'close'] as const) {
      this.addEventListener(type, (e: Event) => (this as unknown as Record<string, ((e: Event) => unknown) | null>)[`on${type}`]?.(e));
    }
    const listen = (target: EventTarget | undefined, type: string, event: () => string) =>
      target?.addEventListener?.(type, () => run({ event: event() } as Plain), { signal: ending.signal });
    const { document: page, navigator } = global;
    listen(signal, 'abort', () => 'abort');
    listen(global, 'online', () => 'online');
    listen(global, 'offline', () => 'offline');
    listen(page, 'visibilitychange', () => page.visibilityState);
    listen(page, 'resume', () => 'wake');
    if (navigator?.onLine === false) run({ event: 'offline' });
    try {
      run({ event: signal?.aborted ? 'abort' : 'start' });
    } catch (e) {
      run({ event: 'abort' }); // what is wrong with the address or the protocols
      throw e;
    }
  }

  get readyState(): 0 | 1 | 2 | 3 {
    const { state, up } = this.policy;
    return state == 'closed' ? 3 : state == 'closing' ? 2 : up ? 1 : 0;
  }

  /** Where the state machine stands. */
  get state(): State {
    return this.policy.state;
  }

  /** The estimate of the round trip in milliseconds; 0 before the first pong. */
  get rtt(): number {
    return this.policy.rtt;
  }

  get bufferedAmount(): number {
    return this.policy.queued + (this.inner?.bufferedAmount ?? 0);
  }

  get binaryType(): BinaryType {
    return this.binary;
  }

  set binaryType(type: BinaryType) {
    this.binary = type;
    if (this.inner) this.inner.binaryType = type;
  }

  /** Sends, or queues while there is no connection. A signal takes a message that still waits out of the queue. */
  send(data: Data, { signal }: { signal?: AbortSignal } = {}): void {
    signal?.throwIfAborted();
    const { byteLength, byteOffset, buffer } = data as ArrayBufferView;
    // The caller may change its bytes once send has returned.
    if (!this.policy.up && byteLength >= 0) data = new Uint8Array(buffer ?? data, byteOffset, byteLength).slice();
    const message: Message = {
      data,
      get bytes() {
        return new Blob([data as string]).size;
      },
    };
    this.run({ event: 'send', message });
    if (!this.policy.up) signal?.addEventListener('abort', () => this.run({ event: 'cancel', message }), { signal: this.ended });
  }

  close(code?: number, reason?: string): void {
    this.inner?.close(code, reason); // throws, as the standard does, before anything has changed
    this.run({ event: 'shut', code, reason });
  }

  /** Leaves the connection and comes back: after so many milliseconds and more, or spread over some seconds. */
  reconnect(after?: number): void {
    this.run({ event: 'advice', after });
  }
}

['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'].forEach((name, value) => {
  for (const o of [LongwireSocket, LongwireSocket.prototype]) Object.defineProperty(o, name, { value });
});
