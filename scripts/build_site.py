#!/usr/bin/env python3
"""Builds the documentation site into target/site, out of docs/ and the pages at the top of the repository.

    python3 scripts/build_site.py

The pages are those that the repository shows; what differs on a site is done here: pages from outside docs/ are copied into it, links
to files that are no pages become text, and the one script that the theme would load from another host is ours. A warning is an
error. The site needs no server: open target/site/index.html. The builder (packaging/site.txt) comes into target/tools on first use.

`--axe FILE --chromium PROGRAM` also looks for problems of accessibility on five pages, with the script of the npm package axe-core, and
tries the search on a page that is opened from the folder.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOP = ["ARCHITECTURE.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md"]
LINK = re.compile(r"\[([^\]\n]*)\]\(([^)\s]+)\)")
# The search of an opened file (`file:`) runs in a frame, since browsers start no workers there.
WORKER = "assets/javascripts/file-worker.js"
AXE_PAGES = ["index", "tutorial", "guides/resume", "reference/commands", "guarantees"]


def tool() -> Path:
    folder = ROOT / "target/tools/site"
    wanted = (ROOT / "packaging/site.txt").read_text()
    installed = folder / "installed"
    if not installed.is_file() or installed.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        command = [folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", ROOT / "packaging/site.txt"]
        subprocess.run(command, check=True)
        installed.write_text(wanted)
    return folder / "bin/zensical"


def rewrite(page: Path, out: Path, pages: dict[Path, Path], text: str) -> str:
    """The page's text with links that lead to the same page on the site."""

    def link(found: re.Match) -> str:
        label, target = found.group(1), found.group(2)
        if "://" in target or target.startswith(("#", "mailto:")):
            return found.group(0)
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve()
        if path == ROOT / "README.md":
            path = ROOT / "docs/index.md"
        if path not in pages:
            return label
        relative = os.path.relpath(pages[path], out.parent)
        return f"[{label}]({relative}{'#' + re.sub('-+', '-', anchor).strip('-') if anchor else ''})"

    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if at % 2 else LINK.sub(link, part) for at, part in enumerate(parts))


def prepare(folder: Path) -> None:
    docs = ROOT / "docs"
    pages = {path: path.relative_to(docs) for path in docs.rglob("*.md")}
    pages |= {ROOT / name: Path("project") / name for name in TOP}
    for page, name in pages.items():
        out = folder / "docs" / name
        out.parent.mkdir(parents=True, exist_ok=True)
        text = page.read_text(encoding="utf-8")
        out.write_text(rewrite(page, name, pages, text), encoding="utf-8")
    for path in docs.rglob("*"):
        if path.is_file() and path.suffix != ".md":
            out = folder / "docs" / path.relative_to(docs)
            out.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, out)
    shutil.copyfile(ROOT / "mkdocs.yml", folder / "mkdocs.yml")


def finish(site: Path) -> None:
    """Replaces the script that the theme loads from another host, and checks that nothing else comes from elsewhere."""
    (site / "sitemap.xml").unlink(missing_ok=True)
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        depth = "../" * len(page.relative_to(site).parent.parts)
        text = text.replace("https://unpkg.com/iframe-worker/shim", depth + WORKER)
        # What scrolls by itself can be reached with the keyboard.
        text = text.replace("<pre>", '<pre tabindex="0">')
        page.write_text(text, encoding="utf-8")
        loaded = re.findall(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="?(https?://[^" >]+)', text)
        if loaded:
            sys.exit(f"{page}: loads {', '.join(loaded)}")


def check_links(site: Path) -> int:
    """Every link of the built site leads to a file and an anchor that exist, and every page can be reached."""
    texts = {page.relative_to(site): page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    ids = {page: set(re.findall(r'\bid="?([^"\s>]+)', text)) for page, text in texts.items()}
    wrong, reached, links = [], {Path("index.html")}, 0
    for page, text in texts.items():
        if page.name == "404.html":
            continue
        for target in re.findall(r'<a\b[^>]*\bhref="?([^"\s>]+)', text):
            if "://" in target or target.startswith("mailto:"):
                continue
            links += 1
            file, _, anchor = target.partition("#")
            other = Path(os.path.normpath(page.parent / file)) if file not in ("", ".") else page
            other = other / "index.html" if str(other) == "." else other
            if other not in texts or (anchor and anchor not in ids[other] and anchor != "__codelineno"):
                wrong.append(f"{page}: {target}")
            elif other != page:
                reached.add(other)
    lost = set(texts) - reached - {Path("404.html")}
    wrong += [f"{page} cannot be reached" for page in sorted(lost)]
    if wrong:
        sys.exit("\n".join(sorted(set(wrong))))
    print(f"{len(texts)} pages, {links} links")
    return links


def in_browser(page: Path, scripts: list[str], chromium: str) -> list:
    """What `scripts` hand to `done` on a copy of a page, opened from its folder."""
    probe = page.with_name(f"probe-{page.name}")
    done = (
        'const done = (value) => { const out = document.createElement("script"); out.type = "application/json"; out.id = "probe";'
        " out.textContent = JSON.stringify(value); document.body.append(out); };"
    )
    added = "".join(f"<script>{script}</script>" for script in [done, *scripts])
    probe.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{added}</body>"), encoding="utf-8")
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        command += ["--virtual-time-budget=20000", "--dump-dom", probe.as_uri()]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=180).stdout
    probe.unlink()
    found = re.search(r'id="probe">(.*?)</script>', dom, re.DOTALL)
    if not found:
        sys.exit(f"{page}: the browser had no result")
    return json.loads(found.group(1))


# Opens the search as a reader does, types a word, and collects where the results lead. The theme draws them in shadow roots.
SEARCH = """
const all = (root) => [...root.querySelectorAll("*")].flatMap((e) => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])]);
const later = (work) => new Promise((resolve) => setTimeout(() => resolve(work()), 2000));
addEventListener("load", async () => {
  await later(() => document.querySelector(".md-search__button").click());
  await later(() => {
    const input = all(document).find((e) => e.tagName === "INPUT" && e.type === "text");
    input.value = "resume";
    input.dispatchEvent(new Event("input", { bubbles: true, composed: true }));
  });
  await later(() => done(all(document).filter((e) => e.tagName === "A" && e.getRootNode() !== document).map((e) => e.getAttribute("href"))));
});
"""


def browse(site: Path, axe: Path, chromium: str) -> None:
    """Runs axe-core on some pages as a browser shows them, and the search."""
    failed = False
    run = (
        'addEventListener("load", () => axe.run().then((result) => done(result.violations.map('
        "(v) => [v.id, v.impact, v.help, v.nodes.map((n) => n.html.slice(0, 200)).slice(0, 3)]))));"
    )
    for name in AXE_PAGES:
        violations = in_browser(site / f"{name}.html", [axe.read_text(encoding="utf-8"), run], chromium)
        failed |= bool(violations)
        print(f"axe-core, {name}: {len(violations)} violations")
        for violation in violations:
            print(f"  {violation}")
    found = in_browser(site / "index.html", [SEARCH], chromium)
    hit = any("guides/resume.html" in target for target in found)
    print(f"search for `resume` in an opened file: {len(found)} results, {'with' if hit else 'without'} the page about it")
    if failed or not hit:
        sys.exit(1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "target/site")
    parser.add_argument("--axe", type=Path, help="axe.min.js of the npm package axe-core")
    parser.add_argument("--chromium", default="chromium")
    options = parser.parse_args()
    zensical = tool()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        prepare(folder)
        built = subprocess.run([zensical, "build", "--strict", "--clean", "--config-file", "mkdocs.yml"], cwd=folder, capture_output=True, text=True)
        if built.returncode != 0 or "No issues found" not in built.stdout + built.stderr:
            sys.exit(f"{built.stdout}{built.stderr}\nthe site has warnings or errors")
        finish(folder / "site")
        shutil.rmtree(options.out, ignore_errors=True)
        shutil.copytree(folder / "site", options.out)
    check_links(options.out)
    if options.axe:
        browse(options.out, options.axe, options.chromium)
    return 0


if __name__ == "__main__":
    sys.exit(main())
