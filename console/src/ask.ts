// Dialogs that stand before what cannot be taken back.
import { Problem } from './api.js';
import { h, id } from './dom.js';

/** ask opens a dialog. run does it; the dialog stays open, and says why, where that fails. */
export function ask(o: { title: string; body: (Node | string)[]; act: string; run(): Promise<void> }): void {
  const title = id();
  const act = h('button', { class: 'danger' }, o.act);
  const cancel = h('button', { type: 'button', autofocus: true, click: () => dialog.close() }, 'Cancel');
  const problem = h('p', { class: 'problem', role: 'alert' });
  const form = h('form', {
    novalidate: true,
    submit: (e) => {
      e.preventDefault();
      if (!form.reportValidity()) return;
      act.disabled = true;
      problem.textContent = '';
      o.run().then(
        () => dialog.close(),
        (e: unknown) => {
          problem.textContent = e instanceof Problem ? e.message : String(e);
          act.disabled = false;
        },
      );
    },
  }, h('h2', { id: title }, o.title), ...o.body, problem, h('div', { class: 'row end' }, cancel, act));
  const dialog = h('dialog', { 'aria-labelledby': title, close: () => {
    dialog.remove();
    // What had the focus before may be gone.
    if (document.activeElement === document.body) document.querySelector('h1')?.focus();
  } }, form);
  document.body.append(dialog);
  dialog.showModal();
}
