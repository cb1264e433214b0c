// A list that the gateway searches: a form, one page of rows, and the way to the next.
import { Problem } from './api.js';
import { h, put } from './dom.js';
import { Pages } from './pages.js';

/** Listing keeps one page of rows, and never more. */
export class Listing {
  readonly element: HTMLElement;
  private readonly pages = new Pages();
  private readonly status = h('p', { class: 'outcome', role: 'status' }, '\u00a0');
  private readonly previous = h('button', { type: 'button', class: 'small', disabled: true, click: () => { this.pages.back(); void this.load(); } }, '← Previous');
  private readonly next = h('button', { type: 'button', class: 'small', disabled: true, click: () => { this.pages.forward(); void this.load(); } }, 'Next →');
  private asked: AbortController | undefined;

  constructor(
    private readonly table: HTMLElement,
    /** show asks for the page at cursor, shows it, and returns where it leads and what to say of it. */
    private readonly show: (cursor: string | undefined, signal: AbortSignal) => Promise<{ cursor: string | undefined; text: string }>,
  ) {
    this.element = h('div', {}, h('div', { class: 'row spread' }, this.status, h('div', { class: 'row' }, this.previous, this.next)), table);
  }

  /** search begins with the first page. */
  search(): Promise<void> {
    this.pages.reset();
    return this.load();
  }

  /** leave gives up what is under way. */
  leave(): void {
    this.asked?.abort();
    this.table.removeAttribute('aria-busy');
  }

  private async load(): Promise<void> {
    this.asked?.abort();
    const c = new AbortController();
    this.asked = c;
    this.table.setAttribute('aria-busy', 'true');
    this.previous.disabled = this.next.disabled = true;
    this.status.classList.remove('problem');
    const slow = setTimeout(() => put(this.status, 'searching…'), 300);
    try {
      const got = await this.show(this.pages.cursor, c.signal);
      if (c.signal.aborted) return;
      this.pages.got(got.cursor);
      put(this.status, (this.pages.number > 1 ? `page ${this.pages.number}, ` : '') + got.text);
    } catch (e) {
      if (c.signal.aborted) return;
      this.status.classList.add('problem');
      put(this.status, e instanceof Problem ? e.message : String(e));
    } finally {
      clearTimeout(slow);
      if (!c.signal.aborted) {
        this.table.removeAttribute('aria-busy');
        this.previous.disabled = !this.pages.hasPrevious;
        this.next.disabled = !this.pages.hasNext;
      }
    }
  }
}
