// The page of browser.test.js.
import { Centrifuge } from 'centrifuge';
import { LongwireSocket } from '@longwire/socket';

window.LongwireSocket = LongwireSocket;
window.Centrifuge = Centrifuge;

// connect opens a socket of which the page keeps a log.
window.connect = (url, options) => {
  const log = (window.log = []);
  const s = (window.s = new LongwireSocket(url, [], options));
  s.addEventListener('state', (e) => log.push(`${e.from} → ${e.to}: ${e.reason}`));
  s.onopen = () => log.push('open');
  s.onmessage = (e) => log.push(e.data);
  s.onclose = (e) => log.push(`close ${e.code}, ${e instanceof CloseEvent}`);
};

// inWorker has a worker do the same, and resolves with what it hears.
window.inWorker = (url) =>
  new Promise((resolve, reject) => {
    const w = new Worker('/worker.js', { type: 'module' });
    w.onerror = (e) => reject(new Error(e.message));
    w.onmessage = (e) => resolve(e.data);
    w.postMessage(url);
  });
window.ready = true;
