// The admin token. It lives in this tab's session storage, and nowhere else: not in an address, not on disk for long.

const key = 'longwire.admin-token';

/** token is the one that was given in this tab. */
export function token(): string | undefined {
  return sessionStorage.getItem(key) ?? undefined;
}

/** keep remembers a token until the tab is closed; undefined forgets it. */
export function keep(t: string | undefined): void {
  if (t === undefined) sessionStorage.removeItem(key);
  else sessionStorage.setItem(key, t);
}

/** flaw says why a text cannot be a token that travels in a header, or is empty. */
export function flaw(t: string): string {
  if (t === '') return 'Enter the token.';
  if (!/^[\x21-\x7e]+$/.test(t)) return 'A token has no spaces and only ASCII characters: check what was pasted.';
  return '';
}
