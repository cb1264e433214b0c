import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as f from '../.test/format.js';

test('figures', () => {
  for (const [got, want] of [
    [f.int(0), '0'], [f.int(1234567), '1,234,567'], [f.int(-1000), '-1,000'], [f.int(undefined), '–'], [f.int(NaN), '–'],
    [f.short(999), '999'], [f.short(9999), '9,999'], [f.short(10_000), '10 k'], [f.short(12_345), '12.3 k'], [f.short(1_020_000), '1.02 M'], [f.short(0.25), '0.25'],
    [f.rate(0), '0'], [f.rate(0.01), '<0.1'], [f.rate(0.3), '0.3'], [f.rate(9.96), '10'], [f.rate(12_345), '12,345'], [f.rate(99_999.6), '100 k'], [f.rate(null), '–'],
    [f.bytes(0), '0 B'], [f.bytes(999), '999 B'], [f.bytes(999.6), '1 kB'], [f.bytes(83_200_000), '83.2 MB'], [f.bytes(-1500), '-1.5 kB'], [f.bytes(1e18), '1000000 TB'],
    [f.percent(0), '0 %'], [f.percent(0.0004), '<0.1 %'], [f.percent(0.012), '1.2 %'], [f.percent(1), '100 %'],
    [f.count(1, 'loop'), '1 loop'], [f.count(0, 'loop'), '0 loops'], [f.count(1200, 'process', 'processes'), '1,200 processes'],
  ]) assert.equal(got, want);
});

test('times', () => {
  for (const [got, want] of [
    [f.micros(5), '5 µs'], [f.micros(128), '128 µs'], [f.micros(999.7), '1 ms'], [f.micros(48_200), '48.2 ms'], [f.micros(2_500_000), '2.5 s'], [f.micros(-1), '–'],
    [f.millis(0.06), '60 µs'], [f.millis(undefined), '–'],
    [f.span(0), '0 ms'], [f.span(900), '900 ms'], [f.span(1500), '1.5 s'], [f.span(33_000), '33 s'], [f.span(59_600), '1 min'], [f.span(299_800), '5 min'],
    [f.span(61_000), '1 min 1 s'], [f.span(3_660_000), '1 h 1 min'], [f.span(90_000_000), '1 d 1 h'], [f.span(-1), '–'],
    [f.time('2026-11-22T12:03:10.051Z', 'UTC'), '2026-11-22 12:03:10.051'], [f.time('2026-11-22T00:00:00Z', 'UTC'), '2026-11-22 00:00:00.000'], [f.time('soon'), '–'], [f.time(undefined), '–'],
  ]) assert.equal(got, want);
});

test('what others named cannot change what stands beside it', () => {
  assert.equal(f.plain('a\u202eb\u2066c\nd\u0000'), 'a\ufffdb\ufffdc\ufffdd\ufffd');
  assert.equal(f.plain('grüße, κόσμε, 👋, عالم'), 'grüße, κόσμε, 👋, عالم');
});
