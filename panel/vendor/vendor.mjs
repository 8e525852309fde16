// Copies the pinned packages into static/vendor/NAME-VERSION/ with their licences, and writes SHA256SUMS.
// Run through `make vendor`; the result is committed and a test compares the sums.
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { buildSync } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const modules = join(here, "node_modules");
const pages = join(here, "../src/kuberpa_panel/static/vendor");
const tests = join(here, "../../tests/browser/vendor");
const version = (name) => JSON.parse(readFileSync(join(modules, name, "package.json"))).version;

function folder(root, label, name) {
  const path = join(root, `${label}-${version(name)}`);
  mkdirSync(path, { recursive: true });
  return path;
}

// A source map that is not served would be a 404 in every visitor's developer tools.
const withoutMap = (text) => text.replace(/\n?\/[/*]# sourceMappingURL=.*?(\*\/)?\s*$/s, "\n");

function text(from, to) {
  writeFileSync(to, withoutMap(readFileSync(from, "utf8")));
}

function tabler() {
  const out = folder(pages, "tabler", "@tabler/core");
  text(join(modules, "@tabler/core/dist/css/tabler.min.css"), join(out, "tabler.min.css"));
  cpSync(join(here, "LICENSE.tabler-core"), join(out, "LICENSE")); // its package does not carry one
}

function icons() {
  const out = folder(pages, "tabler-icons", "@tabler/icons");
  const names = readFileSync(join(here, "icons.txt"), "utf8").split("\n").filter(Boolean);
  const symbols = names.map((path) => {
    const svg = readFileSync(join(modules, "@tabler/icons/icons", `${path}.svg`), "utf8");
    const body = svg.replace(/^[\s\S]*?<svg[^>]*>/, "").replace(/<\/svg>\s*$/, "");
    const shapes = body.replace(/<path stroke="none" d="M0 0h24v24H0z"[^>]*\/>/, "").replace(/\s+/g, " ").trim();
    return `<symbol id="${path.split("/")[1]}" viewBox="0 0 24 24">${shapes}</symbol>`;
  });
  const sprite = `<svg xmlns="http://www.w3.org/2000/svg">\n${symbols.join("\n")}\n</svg>\n`;
  writeFileSync(join(out, "sprite.svg"), sprite);
  cpSync(join(modules, "@tabler/icons/LICENSE"), join(out, "LICENSE"));
}

function htmx() {
  const out = folder(pages, "htmx", "htmx.org");
  text(join(modules, "htmx.org/dist/htmx.min.js"), join(out, "htmx.min.js"));
  text(join(modules, "htmx.org/dist/ext/hx-sse.min.js"), join(out, "hx-sse.min.js"));
  cpSync(join(modules, "htmx.org/LICENSE"), join(out, "LICENSE"));
}

function xterm() {
  const out = folder(pages, "xterm", "@xterm/xterm");
  text(join(modules, "@xterm/xterm/lib/xterm.mjs"), join(out, "xterm.mjs"));
  text(join(modules, "@xterm/xterm/css/xterm.css"), join(out, "xterm.css"));
  text(join(modules, "@xterm/addon-fit/lib/addon-fit.mjs"), join(out, "addon-fit.mjs"));
  cpSync(join(modules, "@xterm/xterm/LICENSE"), join(out, "LICENSE"));
}

function codemirror() {
  const out = folder(pages, "codemirror", "@codemirror/view");
  const made = { bundle: true, format: "esm", minify: true, legalComments: "none", target: "es2022" };
  buildSync({ ...made, entryPoints: [join(here, "codemirror.mjs")], outfile: join(out, "codemirror.mjs") });
  cpSync(join(modules, "@codemirror/view/LICENSE"), join(out, "LICENSE"));
}

function uplot() {
  const out = folder(pages, "uplot", "uplot");
  text(join(modules, "uplot/dist/uPlot.esm.js"), join(out, "source.mjs"));
  const made = { bundle: true, format: "esm", minify: true, legalComments: "none", target: "es2022" };
  buildSync({ ...made, entryPoints: [join(out, "source.mjs")], outfile: join(out, "uplot.mjs") });
  rmSync(join(out, "source.mjs"));
  text(join(modules, "uplot/dist/uPlot.min.css"), join(out, "uplot.min.css"));
  cpSync(join(modules, "uplot/LICENSE"), join(out, "LICENSE"));
}

function axe() {
  const out = folder(tests, "axe-core", "axe-core");
  text(join(modules, "axe-core/axe.min.js"), join(out, "axe.min.js"));
  cpSync(join(modules, "axe-core/LICENSE"), join(out, "LICENSE"));
}

function sums(root) {
  const files = readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== "SHA256SUMS")
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  const lines = files.map((file) => {
    const digest = createHash("sha256").update(readFileSync(file)).digest("hex");
    return `${digest}  ${relative(root, file)}\n`;
  });
  writeFileSync(join(root, "SHA256SUMS"), lines.join(""));
}

for (const root of [pages, tests]) rmSync(root, { recursive: true, force: true });
for (const step of [tabler, icons, htmx, xterm, codemirror, uplot, axe]) step();
for (const root of [pages, tests]) sums(root);
