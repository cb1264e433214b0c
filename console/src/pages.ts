// A long list, a page at a time, by cursors that only lead forward: the way back is remembered.

/** Pages are the cursors of the pages seen so far. The first page has none. */
export class Pages {
  private cursors: (string | undefined)[] = [undefined];
  private next: string | undefined;

  /** reset begins with the first page. */
  reset(): void {
    this.cursors = [undefined];
    this.next = undefined;
  }

  /** got says where the page leads that was shown last. */
  got(next: string | undefined): void {
    this.next = next || undefined;
  }

  get cursor(): string | undefined {
    return this.cursors.at(-1);
  }

  /** number is that of the page, from 1. */
  get number(): number {
    return this.cursors.length;
  }

  get hasNext(): boolean {
    return this.next !== undefined;
  }

  get hasPrevious(): boolean {
    return this.cursors.length > 1;
  }

  forward(): void {
    if (this.next === undefined) return;
    this.cursors.push(this.next);
    this.next = undefined;
  }

  back(): void {
    if (this.cursors.length > 1) this.cursors.pop();
  }
}

/** tidy leaves out what is empty, and spaces around the rest. */
export function tidy<T extends Record<string, string | boolean | undefined>>(query: T): Partial<T> {
  const out: Record<string, string | boolean> = {};
  for (const [k, v] of Object.entries(query)) {
    const t = typeof v === 'string' ? v.trim() : v;
    if (t) out[k] = t;
  }
  return out as Partial<T>;
}
