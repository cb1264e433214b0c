// Figures and times as people read them. Nothing here touches the page.

/** nothing stands for what is not known. */
export const nothing = '–';

/** int is a whole number with its thousands apart: 1,234,567. */
export function int(n: number | undefined | null): string {
  if (n == null || !Number.isFinite(n)) return nothing;
  return Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, ',');
}

// Three digits of a number from 0 up, and no more zeros than they need.
function digits(n: number): string {
  const s = n >= 99.95 ? n.toFixed(0) : n >= 9.995 ? n.toFixed(1) : n.toFixed(2);
  return s.includes('.') ? s.replace(/\.?0+$/, '') : s;
}

// scaled writes n in the largest of units that are 1000 apart.
function scaled(n: number, units: readonly string[]): string {
  const sign = n < 0 ? '-' : '';
  let v = Math.abs(n);
  let i = 0;
  while (v >= 999.5 && i < units.length - 1) {
    v /= 1000;
    i++;
  }
  const unit = units[i] ?? '';
  return sign + digits(v) + (unit ? ' ' + unit : '');
}

/** short is a number for a place with little room: whole to 9,999, then 12.3 k and 1.02 M. */
export function short(n: number | undefined | null): string {
  if (n == null || !Number.isFinite(n)) return nothing;
  if (Math.abs(n) < 9999.5) return Number.isInteger(n) || Math.abs(n) >= 100 ? int(n) : digits(n);
  return scaled(n, ['', 'k', 'M', 'G']);
}

/** rate is how often something happens in a second: whole above 10, one digit behind the point below. */
export function rate(n: number | undefined | null): string {
  if (n == null || !Number.isFinite(n)) return nothing;
  if (n === 0) return '0';
  if (n < 0.05) return '<0.1';
  if (n < 9.95) return n.toFixed(1);
  return n < 99_999.5 ? int(n) : scaled(n, ['', 'k', 'M', 'G']);
}

/** bytes is in steps of 1000: 83.2 MB. */
export function bytes(n: number | undefined | null): string {
  if (n == null || !Number.isFinite(n)) return nothing;
  return scaled(n, ['B', 'kB', 'MB', 'GB', 'TB']);
}

/** micros is a time in microseconds, in the unit that fits. */
export function micros(us: number | undefined | null): string {
  if (us == null || !Number.isFinite(us) || us < 0) return nothing;
  if (us < 9.95) return digits(us) + ' µs';
  if (us < 999.5) return us.toFixed(0) + ' µs';
  if (us < 999_500) return digits(us / 1000) + ' ms';
  return digits(us / 1e6) + ' s';
}

/** millis is a time in milliseconds, in the unit that fits. */
export function millis(ms: number | undefined | null): string {
  return micros(ms == null ? ms : ms * 1000);
}

/** span is a time that may be long: 4 min 59 s. ms is in milliseconds; below zero it is not known. */
export function span(ms: number | undefined | null): string {
  if (ms == null || !Number.isFinite(ms) || ms < 0) return nothing;
  if (ms < 1000) return Math.round(ms) + ' ms';
  if (ms < 9950) return (ms / 1000).toFixed(1) + ' s';
  const s = Math.round(ms / 1000);
  if (s < 60) return s + ' s';
  if (s < 3600) return join(Math.floor(s / 60), 'min', s % 60, 's');
  if (s < 86_400) return join(Math.floor(s / 3600), 'h', Math.floor((s % 3600) / 60), 'min');
  return join(Math.floor(s / 86_400), 'd', Math.floor((s % 86_400) / 3600), 'h');
}

function join(a: number, x: string, b: number, y: string): string {
  return b > 0 ? `${a} ${x} ${b} ${y}` : `${a} ${x}`;
}

/** percent is of a share from 0 to 1. */
export function percent(share: number | undefined | null): string {
  if (share == null || !Number.isFinite(share)) return nothing;
  const p = share * 100;
  return (p > 0 && p < 0.1 ? '<0.1' : p < 9.95 ? p.toFixed(1).replace(/\.0$/, '') : p.toFixed(0)) + ' %';
}

/** time is a moment, to the millisecond, in the zone of the reader (or that of zone). */
export function time(rfc3339: string | undefined, zone?: string): string {
  const d = new Date(rfc3339 ?? '');
  if (Number.isNaN(d.getTime())) return nothing;
  const parts: Record<string, string> = {};
  const options: Intl.DateTimeFormatOptions = {
    year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit',
    fractionalSecondDigits: 3, hourCycle: 'h23',
  };
  if (zone) options.timeZone = zone;
  for (const p of new Intl.DateTimeFormat('en-GB', options).formatToParts(d)) parts[p.type] = p.value;
  return `${parts.year}-${parts.month}-${parts.day} ${parts.hour}:${parts.minute}:${parts.second}.${parts.fractionalSecond}`;
}

/** words is a label of the API in words: heartbeat_timeout is "heartbeat timeout". */
export function words(label: string): string {
  return label.replaceAll('_', ' ');
}

/** count is "1 segment", "3 segments". */
export function count(n: number, one: string, many = one + 's'): string {
  return n === 1 ? '1 ' + one : int(n) + ' ' + many;
}

/**
 * plain is text of others, made safe to stand beside ours: what turns the direction of the text behind it, and control
 * characters, are replaced.
 */
export function plain(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]/g, '\ufffd');
}
