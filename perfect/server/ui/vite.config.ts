import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

export default defineConfig({
  // Relative: the backend may serve the dashboard below a base path, which it says in <base>.
  base: "./",
  plugins: [react()],
  build: {
    target: "es2022",
    outDir: "dist",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  // a test reads the colours
  test: { css: true },
  // `npm run dev` beside `perfect server`.
  server: { proxy: { "/api": "http://127.0.0.1:3000", "/reports": "http://127.0.0.1:3000" } },
});
