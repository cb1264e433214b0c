/**
 * demoAddress is where the demo page is, seen from a console at address: on the gateway's public port, which may be another
 * than the console's. public is what the gateway listens on, such as :8000 or 127.0.0.1:8000.
 */
export function demoAddress(address: string, listens: string): string {
  const here = new URL(address);
  const port = /:(\d+)$/.exec(listens)?.[1];
  const own = here.port || (here.protocol === 'https:' ? '443' : '80');
  if (!port || port === own) return new URL('demo/', here).href;
  return `http://${here.hostname}:${port}/demo/`;
}
