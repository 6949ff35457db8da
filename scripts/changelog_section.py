#!/usr/bin/env python3
"""Prints the section of CHANGELOG.md for a version, as the text of a release.

    python3 scripts/changelog_section.py 0.1.0

Exits with 1 if there is none, or if it is empty.
"""

import re
import sys
from pathlib import Path


def section(text: str, version: str) -> str:
    found = re.search(rf"^## \[?{re.escape(version)}\]?(?: .*)?$\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found.group(1).strip() if found else ""


def main() -> int:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    text = section((Path(__file__).parent.parent / "CHANGELOG.md").read_text(encoding="utf-8"), sys.argv[1].removeprefix("v"))
    if not text:
        print(f"CHANGELOG.md has no section `## {sys.argv[1]}` with text", file=sys.stderr)
        return 1
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
