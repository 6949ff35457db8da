// Opens pages in headless Chromium, watching for errors and requests, and checks them with axe-core.
import { existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const template = process.env.FLOW_PAGE ?? here("../../templates/page.html");

/** The path of Chromium, or `undefined` where there is none. */
export const chromium = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => path && existsSync(path));

export async function launch() {
  const { chromium: driver } = await import("playwright-core");
  return driver.launch({ executablePath: chromium, args: ["--no-sandbox", "--disable-gpu"] });
}

/** The page of a document, as the program fills it in. */
export function fill(document) {
  return readFileSync(template, "utf8").replace("<!--DATA-->", () => JSON.stringify(document).replaceAll("<", "\\u003c"));
}

/** Opens the page of a document; `check` gets the page, its size and the time until it was built, in milliseconds. */
export async function open(browser, html, options, check) {
  const folder = await mkdtemp(join(tmpdir(), "flow-page-"));
  const file = join(folder, "page.html");
  await writeFile(file, html);
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const trouble = [];
  page.on("console", (message) => trouble.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => trouble.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => (trouble.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  const address = pathToFileURL(file).href;
  page.on("request", (request) => request.url() !== address && trouble.push(`request: ${request.url()}`));
  try {
    const begin = performance.now();
    await page.goto(address);
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    const took = performance.now() - begin;
    await check(page, { took, bytes: Buffer.byteLength(html) });
    if (trouble.length > 0) throw new Error(trouble.join("\n"));
  } finally {
    await context.close();
    await rm(folder, { recursive: true });
  }
}

/** Violations that axe-core finds, as text. */
export async function violations(page) {
  // Evaluated by the debugger, so the page's own policy stays in force.
  await page.evaluate(readFileSync(here("../node_modules/axe-core/axe.min.js"), "utf8"));
  const results = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  return results.violations.flatMap((one) => one.nodes.map((node) => `${one.id}: ${node.html} ${node.failureSummary}`));
}

/** Keeps a screenshot in the folder `FLOW_SCREENSHOTS`, if it is set. */
export async function screenshot(page, name) {
  const folder = process.env.FLOW_SCREENSHOTS;
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}
