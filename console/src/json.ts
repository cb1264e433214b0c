// What is wrong with a text that should be JSON, and where: browsers say it each in their own way, or not at all.

const space = /[ \t\n\r]*/y;
const scalar = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;
const string = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;

/** jsonFlaw says what is wrong with a text that should be JSON (RFC 8259); empty if nothing is. */
export function jsonFlaw(text: string): string {
  if (text.trim() === '') return 'Enter a JSON value, such as {"text": "hello"}.';
  let at = 0;
  const take = (re: RegExp): boolean => {
    re.lastIndex = at;
    if (!re.test(text)) return false;
    at = re.lastIndex;
    return true;
  };
  const flaw = (wanted: string): string => {
    const lines = text.slice(0, at).split('\n');
    const found = at < text.length ? `found ${JSON.stringify(String.fromCodePoint(text.codePointAt(at) ?? 0))}` : 'it ends there';
    return `No JSON: line ${lines.length}, column ${(lines.at(-1)?.length ?? 0) + 1}: want ${wanted}, ${found}`;
  };
  const open: ('{' | '[')[] = [];
  let expect: 'value' | 'value or ]' | 'name' | 'name or }' | 'more' = 'value';
  for (;;) {
    take(space);
    const c = text[at];
    if (expect === 'more') {
      const inside = open.at(-1);
      if (inside === undefined) return at === text.length ? '' : flaw('nothing more');
      if (c === ',') expect = inside === '{' ? 'name' : 'value';
      else if (c === (inside === '{' ? '}' : ']')) open.pop();
      else return flaw(inside === '{' ? 'a comma or }' : 'a comma or ]');
      at++;
    } else if (expect === 'name' || expect === 'name or }') {
      if (c === '}' && expect === 'name or }') {
        open.pop();
        at++;
        expect = 'more';
        continue;
      }
      if (!take(string)) return flaw(c === '"' ? 'a string that is closed, with good escapes' : 'a name in double quotes');
      take(space);
      if (text[at] !== ':') return flaw('a colon');
      at++;
      expect = 'value';
    } else if (c === ']' && expect === 'value or ]') {
      open.pop();
      at++;
      expect = 'more';
    } else if (c === '{' || c === '[') {
      open.push(c);
      at++;
      expect = c === '{' ? 'name or }' : 'value or ]';
    } else if (take(string) || take(scalar)) expect = 'more';
    else return flaw(c === '"' ? 'a string that is closed, with good escapes' : 'a value');
  }
}
