// Sockets on a line that a test in Go has in its hands (client/cable_js_linux_test.go). Each transition is a line of JSON.
import { WebSocket } from 'ws';
import { LongwireSocket } from '@longwire/socket';

const [url, sockets, options] = process.argv.slice(2);
for (let i = 0; i < Number(sockets); i++) {
  const socket = new LongwireSocket(url, [], { WebSocket, ...JSON.parse(options) });
  socket.addEventListener('state', ({ to, reason, due }) => console.log(JSON.stringify({ socket: i, to, reason, due, at: Date.now() })));
}
