// Builds the pages into dist/, which is committed, so that a running service needs no Node. The same sources and the same
// package-lock.json give the same bytes.

import { copyFileSync, existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");

rmSync(dist, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: ["src/interview.tsx", "src/live.tsx", "src/console.tsx", "src/signin.tsx", "src/docs.ts", "src/report.css"],
  outdir: "dist",
  entryNames: "[name]",
  chunkNames: "chunk-[hash]",
  assetNames: "asset-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["es2022", "chrome110", "firefox115", "safari16"],
  minify: true,
  charset: "utf8",
  legalComments: "none", // the whole licenses are in THIRD_PARTY_LICENSES.txt
  define: { "process.env.NODE_ENV": '"production"' },
  metafile: true,
  logLevel: "info",
});
// The API's documentation, as its makers have built it: what it is made of is in the LICENSE.txt that comes with it.
for (const file of ["swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "swagger-ui.css"]) {
  copyFileSync(join(here, "node_modules/swagger-ui-dist", file), join(dist, file));
}
writeFileSync(join(dist, "THIRD_PARTY_LICENSES.txt"), thirdPartyLicenses(bundledFiles(metafile)));

/** The files of packages of which something is in the output. */
function bundledFiles(metafile) {
  const inputs = Object.values(metafile.outputs).flatMap((output) => Object.entries(output.inputs));
  const used = inputs.filter(([path, { bytesInOutput }]) => bytesInOutput > 0 && path.includes("node_modules/"));
  return [...new Set(used.map(([path]) => path))].sort();
}

function thirdPartyLicenses(files) {
  const packages = ["swagger-ui-dist", ...new Set(files.flatMap((file) => [packageOf(file), ...packagesWithin(file)]))].sort();
  const notices = new Set(files.flatMap(noticesIn));
  const rule = "=".repeat(78);
  return [
    "The pages in this folder contain code of the following packages.",
    ...packages.map((name) => `${rule}\n${license(name)}`),
    `${rule}\nNotices in their sources`,
    ...[...notices].sort(),
  ].join("\n\n") + "\n";
}

function packageOf(path) {
  return /^.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1];
}

/** Some packages are bundles of others; their source maps say of which. */
function packagesWithin(file) {
  const map = join(here, `${file}.map`);
  return existsSync(map) ? JSON.parse(readFileSync(map, "utf8")).sources.map(packageOf).filter(Boolean) : [];
}

function license(name) {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const files = readdirSync(folder).filter((file) => /^(licen[cs]e|copying|notice)/i.test(file)).sort();
  const texts = files.map((file) => readFileSync(join(folder, file), "utf8").trim());
  if (texts.length === 0 && license.includes("Apache-2.0")) texts.push("The Apache License is below livekit-client.");
  if (texts.length === 0) throw new Error(`${name} comes without its license; give its text here.`);
  return [`${name} ${version} (${license})`, ...texts].join("\n\n");
}

/** Comments with a copyright, which go with every copy. */
function noticesIn(file) {
  const comments = readFileSync(join(here, file), "utf8").match(/\/\*[^]*?\*\/|(?:^.*?\/\/.*\n)(?:^\s*\/\/.*\n)+/gm) ?? [];
  return comments.filter((comment) => /copyright/i.test(comment)).map(plainText);
}

function plainText(comment) {
  const lines = comment.replace(/^.*?(?=\/[/*])/, "").split("\n");
  return lines.map((line) => line.replace(/^\s*(\/\*+!?|\/\/|\*+\/|\*)? ?|\s*\*\/\s*$/g, "").trimEnd()).join("\n").trim();
}
