// The form that asks for the token.
import { Api, Problem } from './api.js';
import type { NodeInfo } from './contract.js';
import { field, h, put } from './dom.js';
import { flaw } from './token.js';

/** signIn asks for the token until the gateway takes one, and hands it on. first says why it is asked for. */
export function signIn(first: string, done: (token: string, node: NodeInfo) => void): HTMLElement {
  const input = h('input', { type: 'password', autocomplete: 'off', spellcheck: 'false', required: true, maxlength: 4096 });
  const button = h('button', { class: 'primary' }, 'Sign in');
  const problem = h('p', { class: 'problem', role: 'alert' });
  put(problem, first);
  let timer: ReturnType<typeof setInterval> | undefined;
  const held = (seconds: number) => {
    const until = Date.now() + seconds * 1000;
    button.disabled = true;
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      if (left > 0 && form.isConnected) {
        put(button, `Sign in (in ${left} s)`);
        return;
      }
      clearInterval(timer);
      button.disabled = false;
      put(button, 'Sign in');
    };
    clearInterval(timer);
    timer = setInterval(tick, 1000);
    tick();
  };
  const form = h('form', { class: 'sign-in', novalidate: true, submit: (e) => {
    e.preventDefault();
    if (button.disabled) return;
    const token = input.value.trim();
    const wrong = flaw(token);
    put(problem, wrong);
    if (wrong) return input.focus();
    button.disabled = true;
    new Api(() => token).get<NodeInfo>('node').then(
      (n) => done(token, n),
      (e: unknown) => {
        button.disabled = false;
        const p = e instanceof Problem ? e : new Problem('lost', String(e));
        if (p.kind === 'unauthorized') {
          put(problem, 'That is not the admin token of this gateway.');
          input.select();
        } else if (p.kind === 'throttled') {
          const wait = Math.max(1, p.retryAfter);
          put(problem, 'Too many wrong tokens: the gateway takes none for now.');
          held(wait);
        } else put(problem, p.message);
        input.focus();
      },
    );
  } },
    h('h1', { tabindex: '-1' }, 'Sign in'),
    h('p', {}, 'This gateway wants its admin token: the value of admin-token in its configuration.'),
    field('Admin token', input), problem, h('div', { class: 'row' }, button));
  queueMicrotask(() => input.focus());
  return form;
}
