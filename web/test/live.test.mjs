// The live page of a running server, whose address is in `FLOW_URL`. `tests/serve.rs` starts it.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { chromium, launch, screenshot, violations } from "./browser.mjs";

const url = process.env.FLOW_URL;
const skip = chromium === undefined ? "there is no Chromium" : url === undefined ? "no server was started" : false;
let browser;
before(async () => {
  if (!skip) browser = await launch();
});
after(() => browser?.close());

/** Opens the live page, watching for errors and for requests to anything but its server. */
async function opened(check) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  const trouble = [];
  page.on("console", (message) => trouble.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => trouble.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => (trouble.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on("request", (request) => new URL(request.url()).origin === new URL(url).origin || trouble.push(`request: ${request.url()}`));
  try {
    await page.goto(url);
    await check(page);
    assert.deepEqual(trouble, []);
  } finally {
    await context.close();
  }
}

/** What the head of the page says, by its terms. */
const facts = (page) => page.evaluate(() => Object.fromEntries([...document.querySelectorAll("header .facts > div")].map((one) => [one.querySelector("dt").textContent, one.querySelector("dd").textContent])));
const until = async (condition) => {
  for (;;) {
    const found = await condition();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 100));
  }
};
const numbers = (tally) => Object.entries(tally).filter(([, count]) => count > 0).map(([name, count]) => `${count.toLocaleString("en-US")} ${name}`).join(", ");

const watched = process.env.FLOW_WATCH;
test("a run is watched from its start to its end", { skip: skip || (watched === undefined && "no run is started"), timeout: 400_000 }, () =>
  opened(async (page) => {
    await page.locator("#connection", { hasText: "live" }).waitFor();
    console.log("# watching");
    await page.locator("header strong", { hasText: "running" }).waitFor({ timeout: 120_000 });
    await page.locator('#content[data-drawn="running"]').waitFor();
    const seen = new Set();
    // Until the run is over, the page says how far it is.
    await until(async () => {
      const legend = await page.locator("#partitions .legend li").first().textContent({ timeout: 5000 }).catch(() => "");
      const done = Number(/✓ ([\d,]+) done/.exec(legend)?.[1]?.replaceAll(",", "") ?? 0);
      if (done > 0) seen.add(done);
      return (await page.locator("#content").getAttribute("data-drawn")) === "over";
    });
    console.log(`# ${seen.size} states were seen`);
    assert.ok(seen.size >= 3, [...seen].join(" "));
    await until(() => existsSync(watched));
    const summary = JSON.parse(readFileSync(watched, "utf8"));
    const shown = await until(async () => {
      const now = await facts(page);
      return now["Partitions"] === undefined ? null : now;
    });
    assert.equal(shown["Partitions"], numbers(summary.partitions));
    assert.equal(shown["Nodes"], numbers(summary.nodes));
    assert.equal(shown["Rows"], numbers(summary.rows));
    for (const [term, key] of [["Requests", "requests"], ["Retries", "retries"], ["Tokens", "tokens"]]) {
      assert.equal(shown[term] ?? "0", summary[key].toLocaleString("en-US"), term);
    }
    const legend = (await page.locator("#partitions .legend").textContent()).replaceAll(",", "");
    assert.ok(legend.includes(`✓ ${summary.partitions.done} done`) && legend.includes(`✗ ${summary.partitions.failed} failed`), legend);
    assert.match(await page.locator("header strong").textContent(), summary.status === "ok" ? /ok/ : /failed/);
    assert.ok((await page.locator("#nodes tbody").textContent()).includes(summary.requests.toLocaleString("en-US")));
    assert.ok((await page.locator("#rates figcaption").allTextContents()).some((text) => text.startsWith("Requests in flight")));
    assert.deepEqual(await violations(page), []);
    await screenshot(page, "live-end");
  }),
);

const report = process.env.FLOW_REPORT;
test("the page makes of events what a report makes of them", { skip: skip || (report === undefined && "no report was made") }, async () => {
  const expected = JSON.parse(readFileSync(report, "utf8"));
  const folder = await mkdtemp(join(tmpdir(), "flow-fold-"));
  try {
    const outfile = join(folder, "fold.mjs");
    await build({ entryPoints: [fileURLToPath(new URL("../src/fold.ts", import.meta.url))], bundle: true, format: "esm", outfile });
    const { Fold } = await import(pathToFileURL(outfile).href);
    const begun = await (await fetch(new URL(`/api/runs/${expected.run.id}`, url))).json();
    const fold = new Fold(begun);
    const lines = readFileSync(process.env.FLOW_LEDGER, "utf8").trim().split("\n").map((line) => JSON.parse(line));
    for (let i = 0; i < lines.length; i += 7) fold.take(lines.slice(i, i + 7));
    const runs = await (await fetch(new URL("/api/runs", url))).json();
    fold.entry(runs.find((run) => run.run === expected.run.id));
    assert.deepEqual(JSON.parse(JSON.stringify(fold.page())), expected);
  } finally {
    await rm(folder, { recursive: true });
  }
});

const hostile = process.env.FLOW_HOSTILE;
test("a hostile run is text, and data is shown when it is asked for", { skip: skip || (hostile === undefined && "no hostile run") }, () =>
  opened(async (page) => {
    await page.locator("header h1", { hasText: hostile }).waitFor();
    await until(async () => (await page.locator("#content").getAttribute("data-drawn")) === "over");
    assert.equal(await page.locator("#content script, #content img, #content svg[onload]").count(), 0);
    assert.match(await page.locator("header strong").textContent(), /ended without a last event/);
    assert.ok((await page.locator("#messages").textContent()).includes("1 of 3 partitions failed"));
    await page.locator('.box[data-id="node:embed"]').click();
    assert.match(await page.locator("#details").textContent(), /<b>why<\/b>/);
    await page.locator("#datasets select").selectOption("nodes");
    await page.locator("#datasets button").click();
    await page.locator("#datasets tbody tr").first().waitFor();
    const rows = await page.locator("#datasets").textContent();
    assert.ok(rows.includes("<script>alert(3)</script>") && rows.includes("***") && !rows.includes("canary"), rows);
    assert.deepEqual(await violations(page), []);
    await page.locator("#latest").uncheck();
    await page.locator("#history select").selectOption({ index: 1 });
    await page.locator("header strong", { hasText: "ok" }).waitFor();
    await screenshot(page, "live-hostile");
  }),
);
