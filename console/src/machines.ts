// The two state machines, each drawn for a wide and for a narrow page.
import type { Arrow, Box, Layout } from './diagram.js';

/** Machine is what a diagram shows, and where each page has it. An arrow may be left out of a page. */
interface Machine {
  boxes: (Pick<Box, 'name' | 'label' | 'kind'> & Record<Page, Pick<Box, 'x' | 'y' | 'w'>>)[];
  arrows: (Pick<Arrow, 'from' | 'to'> & Partial<Record<Page, Pick<Arrow, 'bend' | 'side' | 'at'>>>)[];
}

type Page = 'wide' | 'narrow';

/** drawn is the layout of a machine on a page. */
function drawn(m: Machine, page: Page, width: number, height: number): Layout {
  return {
    width,
    height,
    boxes: m.boxes.map(({ wide, narrow, ...box }) => ({ ...box, ...{ wide, narrow }[page] })),
    arrows: m.arrows.filter((a) => a[page]).map(({ wide, narrow, ...arrow }) => ({ ...arrow, ...{ wide, narrow }[page] })),
  };
}

/** The life of a conn. */
const websocket: Machine = {
  boxes: [
    { name: 'accept', kind: 'begin', wide: { x: 70, y: 115 }, narrow: { x: 90, y: 35 } },
    { name: 'handshake', wide: { x: 275, y: 115 }, narrow: { x: 90, y: 145 } },
    { name: 'open', wide: { x: 480, y: 115 }, narrow: { x: 90, y: 285 } },
    { name: 'closing', wide: { x: 685, y: 115 }, narrow: { x: 90, y: 405 } },
    { name: 'closed', kind: 'end', wide: { x: 890, y: 115 }, narrow: { x: 90, y: 525 } },
    { name: 'http', label: 'plain HTTP', kind: 'exit', wide: { x: 115, y: 240 }, narrow: { x: 283, y: 85, w: 100 } },
    { name: 'refused', kind: 'exit', wide: { x: 275, y: 240 }, narrow: { x: 283, y: 165, w: 100 } },
    { name: 'timeout', kind: 'exit', wide: { x: 435, y: 240 }, narrow: { x: 283, y: 245, w: 100 } },
  ],
  arrows: [
    { from: 'accept', to: 'handshake', wide: { side: 13 }, narrow: { side: 34 } },
    { from: 'handshake', to: 'open', wide: { side: 13 }, narrow: { side: 34 } },
    { from: 'open', to: 'closing', wide: { side: 13 }, narrow: { side: 34 } },
    { from: 'closing', to: 'closed', wide: { side: 13 }, narrow: { side: 34 } },
    { from: 'handshake', to: 'http', wide: { side: -26 }, narrow: { side: 16, at: 0.4 } },
    { from: 'handshake', to: 'refused', wide: { side: 34 }, narrow: { side: 0, at: 0.5 } },
    { from: 'handshake', to: 'timeout', wide: { side: 28 }, narrow: { side: -20, at: 0.55 } },
    { from: 'open', to: 'closed', wide: { bend: 62, side: 13 }, narrow: { bend: 75, side: 32 } },
  ],
};

export const websocketWide = drawn(websocket, 'wide', 960, 275);
export const websocketNarrow = drawn(websocket, 'narrow', 340, 560);

/** The states of TCP, under the kernel's names. */
const tcp: Machine = {
  boxes: [
    { name: 'SYN_RECV', wide: { x: 70, y: 160 }, narrow: { x: 195, y: 35 } },
    { name: 'ESTABLISHED', wide: { x: 265, y: 160 }, narrow: { x: 195, y: 130 } },
    { name: 'FIN_WAIT1', wide: { x: 450, y: 40 }, narrow: { x: 100, y: 235, w: 104 } },
    { name: 'FIN_WAIT2', wide: { x: 660, y: 40 }, narrow: { x: 100, y: 330, w: 104 } },
    { name: 'TIME_WAIT', wide: { x: 885, y: 40 }, narrow: { x: 100, y: 520, w: 104 } },
    { name: 'CLOSING', wide: { x: 660, y: 108 }, narrow: { x: 100, y: 425, w: 104 } },
    { name: 'CLOSE_WAIT', wide: { x: 450, y: 268 }, narrow: { x: 286, y: 265, w: 104 } },
    { name: 'LAST_ACK', wide: { x: 660, y: 268 }, narrow: { x: 286, y: 400, w: 104 } },
    { name: 'CLOSE', kind: 'end', wide: { x: 885, y: 160 }, narrow: { x: 205, y: 605 } },
  ],
  arrows: [
    { from: 'SYN_RECV', to: 'ESTABLISHED', wide: { side: 13 }, narrow: { side: 34 } },
    { from: 'ESTABLISHED', to: 'FIN_WAIT1', wide: { side: 26 }, narrow: { side: -34 } },
    { from: 'FIN_WAIT1', to: 'FIN_WAIT2', wide: { side: 13 }, narrow: { side: -34 } },
    { from: 'FIN_WAIT1', to: 'CLOSING', wide: { side: -14, at: 0.4 }, narrow: { bend: 70, at: 0.6 } },
    { from: 'FIN_WAIT2', to: 'TIME_WAIT', wide: { side: 13 }, narrow: { bend: -60 } },
    { from: 'CLOSING', to: 'TIME_WAIT', wide: { side: -13 }, narrow: { side: 34 } },
    { from: 'ESTABLISHED', to: 'CLOSE_WAIT', wide: { side: -16 }, narrow: { side: 34 } },
    { from: 'CLOSE_WAIT', to: 'LAST_ACK', wide: { side: 13 }, narrow: { side: 28 } },
    { from: 'LAST_ACK', to: 'CLOSE', wide: { side: -18 }, narrow: { side: 34 } },
    { from: 'ESTABLISHED', to: 'CLOSE', wide: { side: 13 }, narrow: { side: 28, at: 0.44 } },
    { from: 'TIME_WAIT', to: 'CLOSE', wide: { side: 28 }, narrow: { side: 28 } },
    { from: 'FIN_WAIT2', to: 'CLOSE', wide: { bend: 0, side: 13, at: 0.62 }, narrow: { bend: 36, at: 0.62 } },
    { from: 'CLOSE_WAIT', to: 'CLOSE', wide: { side: 12, at: 0.35 } },
  ],
};

export const tcpWide = drawn(tcp, 'wide', 960, 300);
export const tcpNarrow = drawn(tcp, 'narrow', 340, 640);
