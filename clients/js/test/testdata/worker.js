// The worker of browser.test.js.
import { LongwireSocket } from '@longwire/socket';

onmessage = ({ data: url }) => {
  const s = new LongwireSocket(url);
  s.send('{"type":"subscribe","id":1,"channel":"worker"}');
  s.onmessage = ({ data }) => {
    s.close();
    s.onclose = ({ code }) => postMessage([data, code]);
  };
};
