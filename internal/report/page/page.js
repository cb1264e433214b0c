'use strict';
(() => {
  const page = JSON.parse(document.getElementById('data').textContent);
  const axis = page.axis;
  const plots = [];

  // Figures for people; the same rules as Unit.Format in Go.
  const digits = (v) => {
    const a = Math.abs(v);
    if (a >= 1e15) return v.toPrecision(4);
    if (a !== 0 && a < 0.1) return String(Number(v.toPrecision(2)));
    const places = a === 0 || a >= 100 ? 0 : a >= 10 ? 1 : a >= 1 ? 2 : 3;
    return v.toLocaleString('en-US', { maximumFractionDigits: places });
  };
  const duration = (us) => {
    const a = Math.abs(us);
    return a < 999.5 ? digits(us) + ' µs' : a < 999.5e3 ? digits(us / 1e3) + ' ms' : digits(us / 1e6) + ' s';
  };
  const scaled = (v, unit) => {
    for (const [of, name] of [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) {
      if (Math.abs(v) >= of * 0.9995) return digits(v / of) + ' ' + name + unit;
    }
    return digits(v) + ' ' + unit;
  };
  const format = (v, unit) => {
    if (v == null) return '–';
    switch (unit) {
      case 'us': return duration(v);
      case 's': return v !== 0 && Math.abs(v) < 1 ? duration(v * 1e6) : digits(v) + ' s';
      case 'B': case 'B/s': return scaled(v, unit);
      case '%': return digits(v) + ' %';
      case '/s': return digits(v) + '/s';
    }
    return digits(v);
  };
  // On an axis large counts are short: 200k, 1M.
  const short = (v, unit) => {
    if (unit !== 'count' && unit !== '/s') return format(v, unit);
    const end = unit === '/s' ? '/s' : '';
    for (const [of, name] of [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) {
      if (Math.abs(v) >= of) return digits(v / of) + name + end;
    }
    return digits(v) + end;
  };
  const clock = (s) => {
    if (axis.end < 180) return digits(s) + ' s';
    const two = (n) => String(n).padStart(2, '0');
    const t = Math.round(s);
    const h = Math.floor(t / 3600), m = Math.floor(t / 60) % 60;
    return h > 0 ? h + ':' + two(m) + ':' + two(t % 60) : m + ':' + two(t % 60);
  };
  const percentile = (x) => {
    const p = 100 * (1 - 10 ** -x);
    return p.toFixed(Math.min(12, Math.max(0, Math.ceil(x - 1.0001) + (x % 1 > 0.001 ? 1 : 0)))).replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '') + ' %';
  };

  // decades are the lines of a logarithmic axis: powers of ten, and 2 and 5 between them where there are few.
  const decades = (min, max) => {
    const list = [];
    for (let e = Math.floor(Math.log10(min)); e <= Math.ceil(Math.log10(max)); e++) {
      for (const m of max / min > 500 ? [1] : [1, 2, 5]) list.push(m * 10 ** e);
    }
    return list.filter((v) => v >= min * 0.999999 && v <= max * 1.000001);
  };

  let probe;
  const color = (name) => {
    probe ??= getComputedStyle(document.documentElement);
    return probe.getPropertyValue('--' + name).trim();
  };
  const font = (size) => size + 'px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

  const element = (name, attributes, ...children) => {
    const e = document.createElement(name);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    e.append(...children);
    return e;
  };

  // columnsOf are the arrays that uPlot wants: one X for all curves. null is a gap; where only others have a point it is
  // undefined, and the curve goes on.
  const columnsOf = (chart) => {
    const tables = new Map();
    for (const s of chart.series) {
      if (!tables.has(s.x)) tables.set(s.x, []);
      tables.get(s.x).push(s);
    }
    const order = [...tables.values()].flat();
    const list = [...tables].map(([x, all]) => [page.columns[x], ...all.map((s) => page.columns[s.y])]);
    const joined = list.length === 1 ? list[0] : uPlot.join(list);
    return [joined[0], ...chart.series.map((s) => {
      const y = joined[1 + order.indexOf(s)];
      return chart.log ? y.map((v) => (v === undefined || v > 0 ? v : null)) : y;
    })];
  };

  // lonely are the points of a curve that have a gap on either side.
  const lonely = (y) => {
    const there = [...y.keys()].filter((i) => y[i] !== undefined);
    return there.filter((i, k) => y[i] != null && y[there[k - 1]] == null && y[there[k + 1]] == null);
  };

  // behind draws the steps of the run and its marks behind the curves; the first chart has their names.
  const behind = (first) => (u) => {
    const { ctx } = u;
    const { left, top, width, height } = u.bbox;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, 0, width, top + height);
    ctx.clip();
    ctx.font = font(11 * ratio);
    ctx.textAlign = 'left'; // uPlot leaves its own behind
    ctx.textBaseline = 'alphabetic';
    let free = left, clear = left; // where the next label may begin
    (axis.bands ?? []).forEach((b, i) => {
      const from = u.valToPos(b.begin, 'x', true), to = u.valToPos(b.end, 'x', true);
      const bad = b.severity === 'bad';
      if (bad || i % 2 === 1) {
        ctx.fillStyle = color(bad ? 'band-bad' : 'band');
        ctx.fillRect(from, top, to - from, height);
      }
      const at = Math.max(from, left) + 4 * ratio;
      const room = Math.min(to, left + width) - at;
      if (first && at >= free && ctx.measureText(b.label).width <= room) {
        ctx.fillStyle = color(bad ? 'bad' : 'quiet');
        ctx.fillText(b.label, at, top - 5 * ratio);
        free = at + ctx.measureText(b.label).width + 8 * ratio;
      }
    });
    for (const m of axis.marks ?? []) {
      const x = Math.round(u.valToPos(m.begin, 'x', true));
      if (x < left || x > left + width) continue;
      ctx.strokeStyle = ctx.fillStyle = color(m.severity || 'quiet');
      ctx.lineWidth = 1.5 * ratio;
      ctx.setLineDash([4 * ratio, 3 * ratio]);
      ctx.beginPath();
      ctx.moveTo(x, top);
      ctx.lineTo(x, top + height);
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.beginPath();
      ctx.moveTo(x - 4 * ratio, top - 1);
      ctx.lineTo(x + 4 * ratio, top - 1);
      ctx.lineTo(x, top + 6 * ratio);
      ctx.fill();
      const w = ctx.measureText(m.label).width;
      const at = Math.max(left, Math.min(x - w / 2, left + width - w));
      if (first && at >= clear) {
        ctx.fillText(m.label, at, top - 20 * ratio);
        clear = at + w + 8 * ratio;
      }
    }
    ctx.restore();
  };

  const draw = (figure, index, first) => {
    const chart = page.charts[index];
    const box = figure.querySelector('.plot');
    const legend = figure.querySelector('.legend');
    const data = columnsOf(chart);
    const shown = chart.series.map(() => true);
    const values = [];
    const when = element('span', { class: 'when' });

    const lastOf = (y) => y.reduce((most, v) => (v != null && (most == null || v > most) ? v : most), null);
    const tops = data.slice(1).map(lastOf);
    const rest = () => {
      when.textContent = '';
      values.forEach((v, i) => { v.textContent = tops[i] == null ? 'no values' : (chart.percentiles ? 'max ' : 'highest ') + format(tops[i], chart.unit); });
    };

    let u;
    const build = () => {
      u?.destroy();
      probe = undefined;
      const timed = !chart.percentiles;
      const head = timed && first ? ((axis.marks ?? []).length > 0 ? 34 : (axis.bands ?? []).length > 0 ? 20 : 8) : 8;
      const least = data[0][0], most = data[0][data[0].length - 1];
      const ends = timed ? [axis.begin, axis.end] : [0, Math.max(1, Math.ceil((most ?? 1) * 10) / 10)];
      u = new uPlot({
        width: box.clientWidth,
        height: (timed ? 150 : 320) + (head - 8),
        padding: [head, 26, 0, 0],
        legend: { show: false },
        cursor: {
          y: false,
          drag: { x: true, y: false, dist: 5 },
          points: { size: 7 },
          sync: timed ? { key: 'time', setSeries: false } : undefined,
          // Where curves were sampled at different times, each shows its own point next to the cursor.
          dataIdx: (u, s, i) => {
            const y = u.data[s];
            for (let d = 0; d < 400; d++) {
              if (y[i - d] != null) return i - d;
              if (y[i + d] != null) return i + d;
              if (i - d < 0 && i + d >= y.length) break;
            }
            return i;
          },
        },
        scales: {
          x: {
            time: false,
            // All of them end at the same times, wherever their curves do; a zoom is what was asked for.
            range: (u, min, max) => (min == null || (min === least && max === most) ? ends : [min, max]),
          },
          y: {
            distr: chart.log ? 3 : 1,
            range: chart.log
              ? (u, min, max) => (min == null ? [1, 10] : uPlot.rangeLog(min, Math.max(max, min * 1.01), 10, false))
              : (u, min, max) => (min == null ? [0, 1] : uPlot.rangeNum(Math.min(0, min), Math.max(max, min < 0 ? 0 : 1e-9), 0.08, true)),
          },
        },
        axes: [
          {
            stroke: color('quiet'), font: font(11), size: 30, gap: 4,
            grid: { stroke: color('grid'), width: 1 }, ticks: { show: false },
            ...(timed
              ? { values: (u, list) => list.map(clock), space: 70, incrs: axis.end < 180 ? undefined : [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 604800] }
              : { values: (u, list) => list.map(percentile), splits: (u, i, min, max) => {
                const list = [];
                for (let n = Math.ceil(min - 1e-9); n <= max + 1e-9; n++) {
                  list.push(n);
                  if (n === 0 && max > 0.4) list.push(-Math.log10(0.5));
                }
                return list;
              } }),
          },
          {
            stroke: color('quiet'), font: font(11), size: 76, gap: 6,
            grid: { stroke: color('grid'), width: 1 }, ticks: { show: false }, space: 28,
            values: (u, list) => list.map((v) => (v == null ? '' : short(v, chart.unit))),
            ...(chart.log ? { splits: (u, i, min, max) => decades(min, max), filter: (u, list) => list } : {}),
          },
        ],
        series: [{}, ...chart.series.map((s, i) => ({
          label: s.name,
          show: shown[i],
          stroke: color('c' + s.color),
          width: 1.75,
          dash: s.dash ? [2, 3] : undefined,
          fill: s.fill ? color('c' + s.color) + '22' : undefined,
          // Points that have no neighbor are no line, so they are drawn as points.
          points: { show: false, size: 6, fill: color('c' + s.color), filter: () => lonely(data[i + 1]) },
          paths: chart.percentiles ? undefined : uPlot.paths.linear(),
        }))],
        hooks: {
          drawClear: timed ? [behind(first)] : [],
          setCursor: [(u) => {
            const i = u.cursor.idx;
            if (i == null || u.cursor.left < 0) return rest();
            const x = u.data[0][i];
            const band = timed && axis.bands?.find((b) => x > b.begin && x <= b.end);
            when.textContent = 'at ' + (timed ? clock(x) : percentile(x)) + (band ? ', ' + band.label : '');
            values.forEach((v, s) => { v.textContent = format(u.data[s + 1][u.cursor.idxs?.[s + 1] ?? i], chart.unit); });
          }],
        },
      }, data, box);
    };

    chart.series.forEach((s, i) => {
      const swatch = element('i', s.dash ? { class: 'dash' } : {});
      const value = element('span', { class: 'value' });
      const button = element('button', { type: 'button', 'aria-pressed': 'true', title: 'Show or hide this curve' }, swatch, s.name, value);
      values.push(value);
      button.addEventListener('click', () => {
        shown[i] = !shown[i];
        button.setAttribute('aria-pressed', String(shown[i]));
        u.setSeries(i + 1, { show: shown[i] });
      });
      legend.append(element('li', {}, button));
    });
    legend.append(element('li', { 'aria-live': 'polite' }, when));
    const tint = () => legend.querySelectorAll('i').forEach((e, i) => { e.style.borderColor = color('c' + chart.series[i].color); });

    // The keyboard moves the cursor, zooms and comes back.
    box.addEventListener('keydown', (e) => {
      if (e.ctrlKey || e.altKey || e.metaKey) return;
      const { min, max } = u.scales.x;
      const at = u.cursor.idx ?? 0;
      const move = (i) => {
        const to = Math.max(0, Math.min(data[0].length - 1, i));
        u.setCursor({ left: u.valToPos(data[0][to], 'x'), top: 10 }, true, true);
      };
      const zoom = (by) => {
        const mid = u.cursor.left >= 0 ? data[0][at] : (min + max) / 2;
        const from = mid - (mid - min) * by, to = mid + (max - mid) * by;
        const [a, b] = chart.percentiles ? [0, data[0].at(-1)] : [axis.begin, axis.end];
        each(from <= a && to >= b ? null : { min: Math.max(a, from), max: Math.min(b, to) });
      };
      const each = (range) => plots.filter((p) => (chart.percentiles ? p.u === u : !p.chart.percentiles)).forEach((p) => {
        const x = p.data[0];
        if (x.length > 0) p.u.setScale('x', range ?? { min: x[0], max: x.at(-1) });
      });
      const keys = {
        ArrowLeft: () => move(at - 1), ArrowRight: () => move(at + 1), Home: () => move(0), End: () => move(data[0].length - 1),
        PageUp: () => move(at - 10), PageDown: () => move(at + 10),
        '+': () => zoom(0.5), '=': () => zoom(0.5), '-': () => zoom(2), '0': () => each(null),
        Escape: () => { each(null); u.setCursor({ left: -10, top: -10 }, true, true); },
      };
      if (!keys[e.key] || data[0].length === 0) return;
      e.preventDefault();
      keys[e.key]();
    });
    box.title = 'Drag to zoom, double-click to come back. Keys: arrows, + - 0';

    // The figures themselves, made when they are asked for.
    const details = figure.querySelector('.figures');
    details.addEventListener('toggle', () => {
      if (!details.open || details.querySelector('table')) return;
      const head = element('tr', {}, ...[chart.percentiles ? 'Percentile' : 'Time', ...chart.series.map((s) => s.name)].map((n) => element('th', { scope: 'col', class: 'number' }, n)));
      const body = element('tbody', {});
      data[0].forEach((x, i) => {
        body.append(element('tr', {}, ...[chart.percentiles ? percentile(x) : digits(x) + ' s', ...data.slice(1).map((y) => format(y[i], chart.unit))]
          .map((text) => element('td', { class: 'number' }, text))));
      });
      details.append(element('div', { class: 'wide', tabindex: '0', role: 'group', 'aria-label': 'Figures of ' + chart.title }, element('table', {}, element('thead', {}, head), body)));
    });

    const p = { chart, data, get u() { return u; }, build: () => { build(); tint(); rest(); }, fit: () => { if (box.clientWidth > 0 && box.clientWidth !== u.width) u.setSize({ width: box.clientWidth, height: u.height }); } };
    p.build();
    plots.push(p);
    new ResizeObserver(() => p.fit()).observe(box);
  };

  const sortable = (table) => {
    const body = table.tBodies[0];
    if (body.rows.length < 3) return;
    [...table.tHead.rows[0].cells].forEach((th, column) => {
      const button = element('button', { type: 'button', title: 'Sort by this column' }, ...th.childNodes);
      th.append(button);
      button.addEventListener('click', () => {
        const up = th.getAttribute('aria-sort') !== 'ascending';
        for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
        th.setAttribute('aria-sort', up ? 'ascending' : 'descending');
        const of = (row) => row.cells[column]?.dataset.sort ?? row.cells[column]?.textContent ?? '';
        const compare = (a, b) => {
          const x = of(a), y = of(b), numbers = x !== '' && y !== '' && !isNaN(x) && !isNaN(y);
          return numbers ? x - y : x.localeCompare(y, 'en', { numeric: true });
        };
        body.append(...[...body.rows].sort((a, b) => (up ? compare(a, b) : compare(b, a))));
      });
    });
  };

  let first = true;
  for (const figure of document.querySelectorAll('.chart')) {
    const index = Number(figure.dataset.chart);
    draw(figure, index, first && !page.charts[index].percentiles);
    if (!page.charts[index].percentiles) first = false;
  }
  document.querySelectorAll('table.sortable').forEach(sortable);

  const again = () => { probe = undefined; plots.forEach((p) => { p.build(); p.fit(); }); };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', again);
  // On paper the colors are those of the light page, and the width is another.
  matchMedia('print').addEventListener('change', again);
  // Wider than the paper they would make everything small.
  addEventListener('beforeprint', () => plots.forEach((p) => p.u.setSize({ width: Math.min(p.u.width, 660), height: p.u.height })));
  addEventListener('afterprint', () => plots.forEach((p) => p.fit()));
  document.documentElement.dataset.drawn = String(plots.length);
})();
