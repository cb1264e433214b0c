// What the gateway's admin API answers. Times are RFC 3339, rates are for a second; what a gateway does not tell is absent.

export interface NodeInfo {
  version: string;
  node: string;
  pid: number;
  started: string;
  uptime_s: number;
  addr: string;
  layout: string;
  endpoints: { path: string; protocol: string }[];
  limits: Record<string, number>;
  features: Record<string, boolean | number | string | null>;
}

/** Scalars are the figures that plots are made of; the history has these alone. */
export interface Scalars {
  seq: number;
  time: string;
  interval_s?: number;
  draining?: boolean;
  conns: number;
  max_conns: number;
  http: number;
  sessions: number;
  subscriptions: number;
  queue_bytes: number;
  rss_bytes: number;
  heap_bytes: number;
  goroutines: number;
  gc: { cycles: number; pause_last_ms: number; pause_max_ms: number };
  loop: { active: number; busy_share: number; lag_p99_us: number; lag_max_us: number };
  rates: Rates;
}

export interface Rates {
  accepted: number;
  upgraded: number;
  closed: number;
  refused: number;
  messages_in: number;
  messages_out: number;
  bytes_in: number;
  bytes_out: number;
  pings: number;
  publications: number;
}

/** Machine is a state machine: how many are in each state, and how many go from one to another in a second, as "a>b". */
export interface Machine {
  available?: boolean;
  why?: string;
  states?: Record<string, number> | null;
  edges?: Record<string, number> | null;
}

export interface Snapshot extends Scalars {
  ws: Machine;
  tcp: Machine;
  causes: { cause: string; total: number; rate: number }[] | null;
  refused: { reason: string; total: number; rate: number }[] | null;
  history?: Scalars[] | null;
}

export interface SessionRow {
  client: string;
  user?: string;
  address?: string;
  endpoint?: string;
  protocol?: string;
  age_ms: number;
  silent_ms: number;
  queue_bytes: number;
  subscriptions: number;
}

export interface SessionQuery {
  client?: string;
  user?: string;
  channel?: string;
  address?: string;
  endpoint?: string;
  slow?: boolean;
}

export interface SessionPage {
  sessions: SessionRow[] | null;
  cursor?: string;
  scanned: number;
  total: number;
  took_ms: number;
}

export interface ChannelPage {
  channels: { channel: string; subscribers: number }[] | null;
  cursor?: string;
  total: number;
}

export interface WhyQuery {
  client?: string;
  user?: string;
  address?: string;
  request?: string;
  trace?: string;
  cause?: string;
  since?: string;
  limit?: number;
}

export interface Evidence {
  age_ms: number;
  silent_ms: number;
  pinged_ms: number;
  queue_bytes: number;
  rtt_us: number;
  unacked_bytes: number;
  timeouts: number;
  retransmits: number;
  last_ack_ms: number;
  pong_ms: number;
  close_sent: number;
  close_received: number;
}

export interface KernelWord {
  level: string;
  verdict: string;
  path: string[];
  error?: string;
  rtt_us: number;
  unacked_bytes: number;
  retransmits: number;
}

export interface Span {
  client: string;
  user?: string;
  address?: string;
  endpoint?: string;
  request?: string;
  trace?: string;
  open: boolean;
  before?: boolean;
  why: string;
  cause?: string;
  code?: number;
  detail?: string;
  evidence?: Evidence;
  kernel?: KernelWord;
  events: { time: string; kind: string; text: string }[];
}

export interface WhyAnswer {
  spans: Span[] | null;
  from?: string;
}
