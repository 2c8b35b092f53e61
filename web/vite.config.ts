import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// `make web-dev` style work: BT_DEV_BACKEND names the service that Vite passes API calls on to.
const backend = process.env.BT_DEV_BACKEND ?? 'http://127.0.0.1:8000';

export default defineConfig({
  base: './',
  plugins: [svelte()],
  build: {
    outDir: '../app/web',
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: { polyfill: false }, // browsers of that age need none
    assetsInlineLimit: 0,
  },
  server: {
    host: '127.0.0.1',
    proxy: {
      '/api': { target: backend, ws: true },
      '/health': backend,
    },
  },
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
});
