// The door to the admin API: the token, what its errors mean, and nothing of the page.

/** Kind is what an error means to who asked. */
export type Kind =
  | 'unauthorized' // no token, or a wrong one
  | 'throttled' // too many wrong tokens
  | 'busy' // too many ask: later
  | 'refused' // the question makes no sense, or it cannot be done
  | 'lost'; // no gateway answers

/** Problem is an error of the API. Its message is for people. */
export class Problem extends Error {
  constructor(
    readonly kind: Kind,
    message: string,
    /** Seconds after which it makes sense to try again; 0 where nobody said. */
    readonly retryAfter = 0,
  ) {
    super(message);
    this.name = 'Problem';
  }
}

/** problemOf reads an answer that is none: its status, its Retry-After header and its body. */
export function problemOf(status: number, retryAfter: string | null, body: string): Problem {
  const after = Number(retryAfter);
  const wait = Number.isFinite(after) && after > 0 ? Math.min(after, 3600) : 0;
  const said = messageOf(body);
  switch (status) {
    case 401:
      return new Problem('unauthorized', said ?? 'The gateway wants a token.', wait);
    case 429:
      return new Problem('throttled', said ?? 'Too many wrong tokens.', wait);
    case 502:
    case 504:
      return new Problem('lost', `Something between answered with ${status}: the gateway cannot be reached.`, wait);
    case 503:
      return new Problem('busy', said ?? 'The gateway is busy.', wait);
  }
  return new Problem('refused', said ?? `The gateway answered with ${status}.`, wait);
}

// messageOf is the message of an error in JSON: {"error":{"message":"..."}}.
function messageOf(body: string): string | undefined {
  try {
    const parsed: unknown = JSON.parse(body);
    const error = (parsed as { error?: { message?: unknown } } | null)?.error;
    if (typeof error?.message === 'string' && error.message !== '') return error.message;
  } catch {
    // Whatever stands between may answer with a page of its own: the status says enough.
  }
  return undefined;
}

/** answerOf is what an answer holds: {"result":…} and the bare value are the same, an error in it is thrown. */
export function answerOf<T>(body: unknown): T {
  if (body !== null && typeof body === 'object') {
    const b = body as { error?: { message?: string }; result?: unknown };
    if (b.error) throw new Problem('refused', b.error.message ?? 'The gateway refused it.');
    if ('result' in b) return b.result as T;
  }
  return body as T;
}

/** patience is how long an answer may take, in milliseconds, beyond what the question itself waits. */
const patience = 20_000;

/** Api asks one gateway. token is read for each question; undefined where none is needed. */
export class Api {
  constructor(
    private readonly token: () => string | undefined,
    /** Is told of each answer 401, wherever it was asked. */
    private readonly denied: (p: Problem) => void = () => {},
  ) {}

  get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return this.ask<T>('GET', path, undefined, signal);
  }

  post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
    return this.ask<T>('POST', path, JSON.stringify(body), signal);
  }

  /** publish sends data as it was typed: read as JSON and written again, long numbers would change. */
  publish(channel: string, data: string): Promise<{ offset?: number; epoch?: string } | undefined> {
    return this.ask('POST', 'publish', `{"channel":${JSON.stringify(channel)},"data":${data}}`);
  }

  private async ask<T>(method: string, path: string, body: string | undefined, signal?: AbortSignal): Promise<T> {
    const headers: Record<string, string> = {};
    const token = this.token();
    if (token !== undefined) headers['Authorization'] = 'Bearer ' + token;
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    const limit = AbortSignal.timeout(patience);
    const init: RequestInit = {
      method, headers, cache: 'no-store', credentials: 'same-origin', redirect: 'error', referrerPolicy: 'no-referrer',
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    };
    if (body !== undefined) init.body = body;
    let answer: Response;
    let text: string;
    try {
      answer = await fetch('admin/v1/' + path, init);
      text = await answer.text();
    } catch (e) {
      if (signal?.aborted) throw e;
      throw new Problem('lost', limit.aborted ? 'The gateway took too long to answer.' : 'The gateway does not answer.');
    }
    if (!answer.ok) {
      const p = problemOf(answer.status, answer.headers.get('Retry-After'), text);
      if (p.kind === 'unauthorized') this.denied(p);
      throw p;
    }
    if (text === '') return undefined as T;
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch {
      throw new Problem('refused', 'The gateway answered with something that is no JSON.');
    }
    return answerOf<T>(parsed);
  }
}
