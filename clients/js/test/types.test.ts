// Compiled and never run: what takes a WebSocket takes a LongwireSocket, also in the eyes of the compiler.
import { LongwireSocket, type SocketOptions, type StateEvent } from '@longwire/socket';
import { policy, type Action, type Input } from '@longwire/socket/policy';

export const Implementation: typeof WebSocket = LongwireSocket;
export const Shared: typeof WebSocket = LongwireSocket.with({ reconnect: false, heartbeat: { mode: 'traffic' } });
export const socket: WebSocket = new LongwireSocket('wss://example.com', 'chat');

export const options: SocketOptions = {
  heartbeat: { mode: 'custom', ping: () => new Uint8Array(1), pong: (data) => data === 'pong' },
  queue: { policy: 'oldest' },
  codes: { terminal: [[1008, 1008]] },
  signal: new AbortController().signal,
};
const s = new LongwireSocket(new URL('wss://example.com'), undefined, options);
s.addEventListener('state', (e) => console.log(e.from, e.reason satisfies string));
s.addEventListener('drop', ({ data, reason }) => console.log(data, reason));
s.addEventListener('message', ({ data }) => console.log(data));
s.send('x', { signal: new AbortController().signal });
// @ts-expect-error there is no such mode
new LongwireSocket('wss://example.com', [], { heartbeat: { mode: 'sometimes' } });

const event: Input = { at: 0, event: 'close', code: 1006 };
const actions: Action[] = policy({}, Math.random).step(event);
export const told = (e: StateEvent): number => e.due + actions.length;
