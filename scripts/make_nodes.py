#!/usr/bin/env python3
"""Makes the shipped input table (data/nodes.csv) from the Bioregistry.

    pip download --no-deps -d wheels bioregistry==0.15.6
    python3 scripts/make_nodes.py wheels/bioregistry-0.15.6-py3-none-any.whl data/nodes.csv

Needs nothing but Python 3.9 or later, and writes the same bytes every time. data/README.md says what the table is.
"""

import csv
import hashlib
import json
import pathlib
import sys
import zipfile

WHEEL_SHA256 = "409cc337aa320f32af7563c7aa0915bd41c8d7a28f6cf4cb5c057d3ece353437"
REGISTRY = "bioregistry/data/bioregistry.json"


def rows(registry):
    """One row for each resource that has a name and is in use.

    Only keys at the top of an entry are read: those are the Bioregistry's own curation, which is in the public domain
    (CC0). What it gathers from other registries is under their keys, with their licences.
    """
    for prefix, entry in sorted(registry.items()):
        if not entry.get("name") or entry.get("deprecated"):
            continue
        description = " ".join((entry.get("description") or "").split())
        yield prefix, entry.get("domain") or "resource", " ".join(entry["name"].split()), description


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = map(pathlib.Path, sys.argv[1:])
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        sys.exit(f"{source}: sha256 is {digest}, expected {WHEEL_SHA256}")
    with zipfile.ZipFile(source) as wheel:
        registry = json.loads(wheel.read(REGISTRY))
    with open(target, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "category", "name", "description"])
        table = list(rows(registry))
        writer.writerows(table)
    print(f"{target}: {len(table)} rows, {len({row[1] for row in table})} categories")


if __name__ == "__main__":
    main()
