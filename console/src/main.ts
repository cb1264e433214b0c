// The console: it signs in, keeps the live figures coming, and shows one view at a time.
import { Api, Problem } from './api.js';
import type { App, Name, Params, View } from './app.js';
import type { NodeInfo } from './contract.js';
import { attr, find, h, put, say } from './dom.js';
import { plain } from './format.js';
import { backoff, Live, type Status } from './live.js';
import { signIn } from './sign-in.js';
import { theme } from './theme.js';
import { keep, token } from './token.js';
import { aboutView } from './views/about.js';
import { channelsView } from './views/channels.js';
import { endsView } from './views/ends.js';
import { nodeView } from './views/node.js';
import { sessionsView } from './views/sessions.js';
import { statesView } from './views/states.js';
import { whyView } from './views/why.js';

const make: Record<Name, (app: App) => View> = {
  node: nodeView, states: statesView, ends: endsView, sessions: sessionsView, why: whyView, channels: channelsView, about: aboutView,
};
const labels: Record<Name, string> = { node: 'Node', states: 'States', ends: 'Ends', sessions: 'Sessions', why: 'Why', channels: 'Channels', about: 'About' };
const names = Object.keys(labels) as Name[];

const main = find('main');
const nav = find('nav');
const tryNow = find<HTMLButtonElement>('try-now');
const signOut = find<HTMLButtonElement>('sign-out');

// Of the signed-in page; undefined while the token is asked for.
let page: Page | undefined;

/** Page is the console of somebody who is let in. */
class Page implements App {
  readonly api = new Api(token, () => denied('The token is not good any more.'));
  private readonly live: Live;
  private readonly views = new Map<Name, View>();
  private readonly heading = h('h1', { tabindex: '-1' });
  private readonly place = h('div');
  private current: Name | undefined;
  private countdown: ReturnType<typeof setInterval> | undefined;
  private was: Status['kind'] | undefined;
  // What views handed to each other, by the number in the history's entry.
  private readonly handed = new Map<number, Params>();
  private handedNumber = 0;
  private readonly gone = new AbortController();

  constructor(public node: NodeInfo) {
    this.live = new Live(this.api, {
      snapshot: (s) => this.view?.snapshot?.(s, this.live.history),
      status: (s) => this.status(s),
      restarted: () => void this.refresh(),
    });
    main.replaceChildren(this.heading, this.place);
    nav.replaceChildren(h('ul', {}, ...names.map((n) => h('li', {}, h('a', { href: '#' + n, 'data-view': n }, labels[n])))));
    signOut.hidden = token() === undefined;
    this.title();
    const { signal } = this.gone;
    addEventListener('popstate', () => this.open(true), { signal });
    document.addEventListener('visibilitychange', () => this.look(), { signal });
    tryNow.addEventListener('click', () => this.live.now(), { signal });
    this.open(false);
    this.look();
  }

  /** end takes everything away that was shown. */
  end(): void {
    this.view?.leave?.();
    this.gone.abort();
    this.live.stop();
    clearInterval(this.countdown);
    tryNow.hidden = true;
    nav.replaceChildren();
    document.body.removeAttribute('data-live');
    for (const d of document.querySelectorAll('dialog')) d.remove();
  }

  go(view: Name, params: Params = {}): void {
    const n = ++this.handedNumber;
    this.handed.set(n, params);
    history.pushState({ n }, '', '#' + view);
    this.open(true);
  }

  private get view(): View | undefined {
    return this.current && this.views.get(this.current);
  }

  // open shows the view that the address names.
  private open(focus: boolean): void {
    const name = names.find((n) => '#' + n === location.hash) ?? 'node';
    this.view?.leave?.();
    this.current = name;
    let v = this.views.get(name);
    if (!v) {
      v = make[name](this);
      this.views.set(name, v);
    }
    this.title();
    put(this.heading, v.title);
    this.place.replaceChildren(v.element);
    for (const a of nav.querySelectorAll<HTMLElement>('a')) {
      attr(a, 'aria-current', a.dataset.view === name ? 'page' : null);
      if (a.dataset.view === name) a.scrollIntoView({ block: 'nearest', inline: 'nearest' });
    }
    const state: unknown = history.state;
    const n = state !== null && typeof state === 'object' && 'n' in state ? Number(state.n) : 0;
    v.enter?.(this.handed.get(n) ?? {});
    if (this.live.latest) v.snapshot?.(this.live.latest, this.live.history);
    if (focus) {
      scrollTo(0, 0);
      this.heading.focus({ preventScroll: true });
    }
  }

  private title(): void {
    const name = plain(this.node.node || this.node.addr || '');
    put(find('node-name'), name);
    document.title = [this.view?.title, name, 'Longwire'].filter(Boolean).join(' · ');
  }

  // look asks for live figures while somebody looks, and stops when nobody does.
  private look(): void {
    if (document.visibilityState === 'hidden') this.live.stop({ kind: 'paused' });
    else this.live.start();
  }

  // refresh asks for what does not change while a process lives: it may be another one now.
  private async refresh(): Promise<void> {
    try {
      this.node = await this.api.get<NodeInfo>('node', this.gone.signal);
    } catch {
      return; // the live figures say what is wrong
    }
    this.title();
    for (const v of this.views.values()) v.refresh?.(this.node);
  }

  private status(s: Status): void {
    if (s.kind === 'denied') return; // the form says so
    clearInterval(this.countdown);
    const waits = s.kind === 'lost' || s.kind === 'busy';
    tryNow.hidden = !waits;
    document.body.dataset.live = s.kind;
    if (waits) {
      const show = () => {
        showStatus(s.kind, waiting(s.kind, s.again), s.why);
      };
      this.countdown = setInterval(show, 1000);
      show();
      if (this.was !== s.kind) say(s.why);
    } else if (s.kind === 'live') {
      showStatus(s.draining ? 'draining' : 'live', s.draining ? 'draining' : 'live', '');
      if (this.was === 'lost' || this.was === 'busy') say('The gateway answers again.');
    } else showStatus(s.kind, s.kind, '');
    this.was = s.kind;
  }
}

function showStatus(kind: string, text: string, title: string): void {
  const e = find('status');
  attr(e, 'data-kind', kind);
  attr(e, 'title', title || null);
  put(find('status-text'), text);
}

function waiting(kind: string, again: number): string {
  return `${kind}, trying again in ${Math.max(0, Math.ceil((again - Date.now()) / 1000))} s`;
}

function denied(why: string): void {
  if (!page && main.querySelector('.sign-in')) return;
  page?.end();
  page = undefined;
  keep(undefined);
  signOut.hidden = true;
  put(find('node-name'), '');
  document.title = 'Longwire console';
  showStatus('denied', 'signed out', '');
  main.replaceChildren(signIn(why, (t, n) => {
    keep(t);
    page = new Page(n);
  }));
}

// begin asks who the node is, with the token of this tab if there is one, and goes on as the answer says.
async function begin(attempt: number): Promise<void> {
  const stored = token() !== undefined;
  try {
    page = new Page(await new Api(token).get<NodeInfo>('node'));
  } catch (e) {
    const p = e instanceof Problem ? e : new Problem('lost', String(e));
    if (p.kind === 'unauthorized') return denied(stored ? 'The token is not good any more.' : '');
    if (p.kind === 'throttled') return denied(`Too many wrong tokens came from here: try again in ${Math.max(1, p.retryAfter)} s.`);
    const wait = Math.max(p.retryAfter * 1000, backoff(attempt, Math.random()));
    const again = Date.now() + wait;
    main.replaceChildren(h('p', { class: 'notice' }, p.message));
    const kind = p.kind === 'busy' ? 'busy' : 'lost';
    const show = () => showStatus(kind, waiting(kind, again), p.message);
    show();
    tryNow.hidden = false;
    const ticks = setInterval(show, 1000);
    await new Promise<void>((done) => {
      const timer = setTimeout(done, wait);
      tryNow.addEventListener('click', () => { clearTimeout(timer); done(); }, { once: true });
    });
    clearInterval(ticks);
    tryNow.hidden = true;
    return begin(attempt + 1);
  }
}

theme();
find('skip').addEventListener('click', (e) => {
  e.preventDefault(); // the address names the view
  main.focus();
});
signOut.addEventListener('click', () => denied(''));
void begin(1);
