// The two state machines, each drawn for a wide and for a narrow page.
import type { Layout } from './diagram.js';

const wsArrows = [
  { from: 'accept', to: 'handshake', side: 13 },
  { from: 'handshake', to: 'open', side: 13 },
  { from: 'open', to: 'closing', side: 13 },
  { from: 'closing', to: 'closed', side: 13 },
];

export const websocketWide: Layout = {
  width: 960,
  height: 275,
  boxes: [
    { name: 'accept', x: 70, y: 115, kind: 'begin' },
    { name: 'handshake', x: 275, y: 115 },
    { name: 'open', x: 480, y: 115 },
    { name: 'closing', x: 685, y: 115 },
    { name: 'closed', x: 890, y: 115, kind: 'end' },
    { name: 'http', label: 'plain HTTP', x: 115, y: 240, kind: 'exit' },
    { name: 'refused', x: 275, y: 240, kind: 'exit' },
    { name: 'timeout', x: 435, y: 240, kind: 'exit' },
  ],
  arrows: [
    ...wsArrows,
    { from: 'handshake', to: 'http', side: -26 },
    { from: 'handshake', to: 'refused', side: 34 },
    { from: 'handshake', to: 'timeout', side: 28 },
    { from: 'open', to: 'closed', bend: 62, side: 13 },
  ],
};

export const websocketNarrow: Layout = {
  width: 340,
  height: 560,
  boxes: [
    { name: 'accept', x: 90, y: 35, kind: 'begin' },
    { name: 'handshake', x: 90, y: 145 },
    { name: 'open', x: 90, y: 285 },
    { name: 'closing', x: 90, y: 405 },
    { name: 'closed', x: 90, y: 525, kind: 'end' },
    { name: 'http', label: 'plain HTTP', x: 283, y: 85, w: 100, kind: 'exit' },
    { name: 'refused', x: 283, y: 165, w: 100, kind: 'exit' },
    { name: 'timeout', x: 283, y: 245, w: 100, kind: 'exit' },
  ],
  arrows: [
    ...wsArrows.map((a) => ({ ...a, side: 34 })),
    { from: 'handshake', to: 'http', side: 16, at: 0.4 },
    { from: 'handshake', to: 'refused', side: 0, at: 0.5 },
    { from: 'handshake', to: 'timeout', side: -20, at: 0.55 },
    { from: 'open', to: 'closed', bend: 75, side: 32 },
  ],
};

const tcpArrows = [
  { from: 'ESTABLISHED', to: 'FIN_WAIT1', side: 26 },
  { from: 'FIN_WAIT1', to: 'FIN_WAIT2', side: 13 },
  { from: 'FIN_WAIT1', to: 'CLOSING', side: -14, at: 0.4 },
  { from: 'FIN_WAIT2', to: 'TIME_WAIT', side: 13 },
  { from: 'CLOSING', to: 'TIME_WAIT', side: -13 },
  { from: 'ESTABLISHED', to: 'CLOSE_WAIT', side: -16 },
  { from: 'CLOSE_WAIT', to: 'LAST_ACK', side: 13 },
  { from: 'LAST_ACK', to: 'CLOSE', side: -18 },
  { from: 'ESTABLISHED', to: 'CLOSE', side: 13 },
];

export const tcpWide: Layout = {
  width: 960,
  height: 300,
  boxes: [
    { name: 'SYN_RECV', x: 70, y: 160 },
    { name: 'ESTABLISHED', x: 265, y: 160 },
    { name: 'FIN_WAIT1', x: 450, y: 40 },
    { name: 'FIN_WAIT2', x: 660, y: 40 },
    { name: 'TIME_WAIT', x: 885, y: 40 },
    { name: 'CLOSING', x: 660, y: 108 },
    { name: 'CLOSE_WAIT', x: 450, y: 268 },
    { name: 'LAST_ACK', x: 660, y: 268 },
    { name: 'CLOSE', x: 885, y: 160, kind: 'end' },
  ],
  arrows: [
    { from: 'SYN_RECV', to: 'ESTABLISHED', side: 13 },
    ...tcpArrows,
    { from: 'TIME_WAIT', to: 'CLOSE', side: 28 },
    { from: 'FIN_WAIT2', to: 'CLOSE', bend: 0, side: 13, at: 0.62 },
    { from: 'CLOSE_WAIT', to: 'CLOSE', side: 12, at: 0.35 },
  ],
};

export const tcpNarrow: Layout = {
  width: 340,
  height: 640,
  boxes: [
    { name: 'SYN_RECV', x: 195, y: 35 },
    { name: 'ESTABLISHED', x: 195, y: 130 },
    { name: 'FIN_WAIT1', x: 100, y: 235, w: 104 },
    { name: 'FIN_WAIT2', x: 100, y: 330, w: 104 },
    { name: 'CLOSING', x: 100, y: 425, w: 104 },
    { name: 'TIME_WAIT', x: 100, y: 520, w: 104 },
    { name: 'CLOSE_WAIT', x: 286, y: 265, w: 104 },
    { name: 'LAST_ACK', x: 286, y: 400, w: 104 },
    { name: 'CLOSE', x: 205, y: 605, kind: 'end' },
  ],
  arrows: [
    { from: 'SYN_RECV', to: 'ESTABLISHED', side: 34 },
    { from: 'ESTABLISHED', to: 'FIN_WAIT1', side: -34 },
    { from: 'FIN_WAIT1', to: 'FIN_WAIT2', side: -34 },
    { from: 'FIN_WAIT2', to: 'TIME_WAIT', bend: -60 },
    { from: 'FIN_WAIT2', to: 'CLOSE', bend: 36, at: 0.62 },
    { from: 'FIN_WAIT1', to: 'CLOSING', bend: 70, at: 0.6 },
    { from: 'CLOSING', to: 'TIME_WAIT', side: 34 },
    { from: 'ESTABLISHED', to: 'CLOSE_WAIT', side: 34 },
    { from: 'CLOSE_WAIT', to: 'LAST_ACK', side: 28 },
    { from: 'LAST_ACK', to: 'CLOSE', side: 34 },
    { from: 'ESTABLISHED', to: 'CLOSE', side: 28, at: 0.44 },
    { from: 'TIME_WAIT', to: 'CLOSE', side: 28 },
  ],
};
