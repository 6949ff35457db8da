"""Makes data/nodes.csv from the Bioregistry, a registry of biomedical resources (data: CC0).

    pip download --no-deps bioregistry==0.15.6
    python scripts/make_nodes.py bioregistry-0.15.6-py3-none-any.whl

One row a resource: its prefix, what it is about, its name, and how it describes itself. Needs Python alone.
"""

import csv
import json
import pathlib
import sys
import zipfile

# Where a resource has no name or description of its own, the registries it is listed in are asked in this order.
REGISTRIES = ["obofoundry", "miriam", "ols", "n2t", "go", "bioportal", "fairsharing", "wikidata", "bartoc", "prefixcommons"]
LONGEST = 300


def first(record, key):
    """The record's own value, else that of the first registry that has one; one line, not too long."""
    candidates = [record.get(key)] + [record.get(name, {}).get(key) for name in REGISTRIES]
    text = next((text for text in candidates if isinstance(text, str) and text.strip()), "")
    text = " ".join(text.split())
    if len(text) <= LONGEST:
        return text
    return text[:LONGEST].rsplit(" ", 1)[0] + " …"


def main(wheel):
    with zipfile.ZipFile(wheel) as archive:
        registry = json.loads(archive.read("bioregistry/data/bioregistry.json"))
    rows = []
    for prefix, record in registry.items():
        name = first(record, "name")
        # What is deprecated or nameless would only be noise among the neighbours.
        if name and not record.get("deprecated"):
            rows.append((prefix, record.get("domain") or "resource", name, first(record, "description")))
    rows.sort()
    target = pathlib.Path(__file__).parent.parent / "data" / "nodes.csv"
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "category", "name", "description"])
        writer.writerows(rows)
    print(f"{target}: {len(rows)} rows")


if __name__ == "__main__":
    main(sys.argv[1])
