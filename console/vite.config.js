import { defineConfig } from 'vite';

export default defineConfig({
  base: './', // the console stands wherever its index.html does, behind a proxy's prefix too
  build: {
    outDir: process.env.CONSOLE_OUT ?? '../internal/console/dist',
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0, // the gateway's policy allows no inline style or script
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
});
