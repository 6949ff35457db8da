// Bundles the page into one HTML file: `node build.mjs [FILE]`; without a file, `templates/page.html` of the repository.
//
// The result has no address to load anything from. Its content security policy names the digests of its only style and its
// only script, so that nothing else in it can run. The program puts the data between the two halves of `DATA`.
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const output = process.argv[2] ?? here("../templates/page.html");

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

const [page, script, style] = await Promise.all([
  readFile(here("src/page.html"), "utf8"),
  bundle("src/main.ts"),
  bundle("src/page.css"),
]);
const licence = "<!-- Contains dagre, Copyright (c) 2012-2014 Chris Pettitt, MIT licence. -->";
const policy = `default-src 'none'; style-src ${digest(style)}; script-src ${digest(script)}; base-uri 'none'; form-action 'none'`;
const parts = { POLICY: policy, LICENCE: licence, STYLE: style, SCRIPT: script };
await writeFile(output, page.replace(/\{\{(POLICY|LICENCE|STYLE|SCRIPT)\}\}/g, (_, name) => parts[name]));
