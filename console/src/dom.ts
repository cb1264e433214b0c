// Building and changing the page. Text is always text: nothing here reads HTML.

type Child = Node | string | null | undefined | false;
type Props = Record<string, string | number | boolean | ((e: Event) => void) | null | undefined>;

function fill(e: Element, props: Props, children: Child[]): void {
  for (const [name, value] of Object.entries(props)) {
    if (value == null || value === false) continue;
    if (typeof value === 'function') e.addEventListener(name, value);
    else e.setAttribute(name, value === true ? '' : String(value));
  }
  for (const c of children) if (c || c === '') e.append(c);
}

/** h makes an element. A property that is a function listens to the event of its name. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props: Props = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const e = document.createElement(tag);
  fill(e, props, children);
  return e;
}

/** s makes an element of SVG. */
export function s<K extends keyof SVGElementTagNameMap>(tag: K, props: Props = {}, ...children: Child[]): SVGElementTagNameMap[K] {
  const e = document.createElementNS('http://www.w3.org/2000/svg', tag);
  fill(e, props, children);
  return e;
}

/** put sets the text of an element, if it is another: what stays is not laid out anew. */
export function put(e: Element, text: string): void {
  if (e.textContent !== text) e.textContent = text;
}

/** attr sets an attribute, if it is another; null takes it away. */
export function attr(e: Element, name: string, value: string | null): void {
  if (value === null) e.removeAttribute(name);
  else if (e.getAttribute(name) !== value) e.setAttribute(name, value);
}

/** find is the element with that id, which the page has. */
export function find<T extends HTMLElement>(id: string): T {
  const e = document.getElementById(id);
  if (!e) throw new Error('the page has no #' + id);
  return e as T;
}

/** field is a labelled control of a form. */
export function field(label: string, control: HTMLElement, hint?: string): HTMLElement {
  return h('label', { class: 'field' }, h('span', {}, label, hint ? h('small', {}, ' ' + hint) : null), control);
}

/** isolate is text of others: it cannot change the direction of what stands beside it. */
export function isolate(text: string, props: Props = {}): HTMLElement {
  return h('bdi', props, text);
}

/** say tells a screen reader something that happened, politely. */
export function say(text: string): void {
  put(find('said'), text);
}

let ids = 0;

/** id is one that nothing else on the page has. */
export function id(): string {
  return 'i' + ++ids;
}
