export * from './socket.js';
export type { Backoff, Fuse, Heartbeat, Memory, PolicyOptions, Queue, State } from './policy.js';
