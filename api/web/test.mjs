// Bundles src/**/*.test.ts, each by itself, and runs them with Node's own test runner.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const tests = readdirSync(join(here, "src"), { recursive: true }).filter((path) => /\.test\.tsx?$/.test(path));
const out = mkdtempSync(join(tmpdir(), "web-tests-"));
try {
  await build({
    absWorkingDir: here,
    entryPoints: tests.map((path) => join("src", path)),
    outdir: out,
    outExtension: { ".js": ".mjs" },
    entryNames: "[dir]/[name]",
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    sourcemap: "inline",
    loader: { ".css": "empty" },
    logLevel: "warning",
  });
  const files = readdirSync(out, { recursive: true }).filter((path) => path.endsWith(".mjs"));
  const paths = files.map((path) => join(out, path));
  const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...paths], { stdio: "inherit" });
  process.exitCode = status ?? 1;
} finally {
  rmSync(out, { recursive: true, force: true });
}
