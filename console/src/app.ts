// What views know of the page they are part of.
import type { Api } from './api.js';
import type { NodeInfo, Scalars, SessionRow, Snapshot, Span } from './contract.js';

export type Name = 'node' | 'states' | 'ends' | 'sessions' | 'why' | 'channels' | 'about';

/** Params is what one view hands to the next. It is kept in memory alone: nothing of it is in an address. */
export interface Params {
  channel?: string;
  client?: string;
  span?: Span;
  row?: SessionRow;
}

export interface App {
  readonly api: Api;
  readonly node: NodeInfo;
  go(view: Name, params?: Params): void;
}

/** View is one page of the console. It is made once; enter and leave say when it is seen. */
export interface View {
  readonly title: string;
  readonly element: HTMLElement;
  enter?(params: Params): void;
  leave?(): void;
  snapshot?(s: Snapshot, history: readonly Scalars[]): void;
  refresh?(n: NodeInfo): void; // the gateway tells its limits anew
}
