// What the package weighs in a page.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

test('at most 4 KB', async () => {
  const { outputFiles, metafile } = await build({
    entryPoints: [fileURLToPath(import.meta.resolve('@longwire/socket'))],
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2020',
    write: false,
    metafile: true,
  });
  const [{ contents }] = outputFiles;
  const size = gzipSync(contents, { level: 9 }).length;
  console.log(`${contents.length} bytes minified, ${size} with gzip`);
  assert.ok(size <= 4096, `${size} bytes`);
  for (const f of Object.keys(metafile.inputs)) assert.doesNotMatch(f, /node_modules\/(?!@longwire)/);
});
