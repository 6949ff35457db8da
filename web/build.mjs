// Bundles the two pages into one HTML file each: `node build.mjs [FOLDER]`; without a folder, `templates/` of the repository.
//
// `page.html` has no address to load anything from; the program puts the data between the two halves of `DATA`. `live.html` asks
// the server that it came from. Their content security policies name the digests of their only style and their only script, so
// that nothing else in them can run.
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const output = process.argv[2] ?? here("../templates");

async function bundle(entry) {
  const result = await build({
    absWorkingDir: here("."),
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    format: "iife",
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
  });
  // Nothing in the code may end the element that holds it, and no control character may reach a terminal.
  const escape = (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
  const text = result.outputFiles[0].text.trimEnd().replaceAll("</script", "<\\/script");
  return text.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, escape);
}

const digest = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

const [page, style] = await Promise.all([readFile(here("src/page.html"), "utf8"), bundle("src/page.css")]);
const licence = "<!-- Contains dagre, Copyright (c) 2012-2014 Chris Pettitt, MIT licence. -->";
for (const [name, entry, sources] of [
  ["page.html", "src/main.ts", "default-src 'none'"],
  ["live.html", "src/live.ts", "default-src 'none'; connect-src 'self'"],
]) {
  const script = await bundle(entry);
  const policy = `${sources}; style-src ${digest(style)}; script-src ${digest(script)}; base-uri 'none'; form-action 'none'`;
  const parts = { POLICY: policy, LICENCE: licence, STYLE: style, SCRIPT: script };
  await writeFile(join(output, name), page.replace(/\{\{(POLICY|LICENCE|STYLE|SCRIPT)\}\}/g, (_, part) => parts[part]));
}
