// Light or dark: what the reader's system prefers, unless chosen here.
import { find } from './dom.js';

const key = 'longwire.theme';

/** theme makes the switch work. */
export function theme(): void {
  const select = find<HTMLSelectElement>('theme');
  const apply = (t: string) => {
    if (t === 'light' || t === 'dark') document.documentElement.dataset.theme = t;
    else delete document.documentElement.dataset.theme;
  };
  const stored = localStorage.getItem(key);
  select.value = stored === 'light' || stored === 'dark' ? stored : 'auto';
  apply(select.value);
  select.addEventListener('change', () => {
    if (select.value === 'auto') localStorage.removeItem(key);
    else localStorage.setItem(key, select.value);
    apply(select.value);
  });
}
