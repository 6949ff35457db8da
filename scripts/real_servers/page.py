"""Writes the measured tables into docs/real-servers.md, between its marks."""

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def embedding_table(results):
    lines = [
        "| server | `openai`, 4 threads | `flow` | requests | computed for each text | largest difference | rows without a vector | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in results.items():
        if "skipped" in one:
            lines.append(f"| {name} | not measured: {one['skipped']} | | | | | | |")
            continue
        lines.append(
            f"| {name} | {one['client_seconds']:.0f} s | {one['seconds']:.0f} s | {one['requests']} "
            f"| {one['computed']:.2f} times | {one['largest']:.1e} | {one['missing']} | {verdict(one)} |"
        )
    return lines


def gateway_table(results):
    lines = ["| limits of the key | seconds | granted | refused | of the limit used | |", "|---|---|---|---|---|---|"]
    for name, one in results.items():
        if "skipped" in one:
            lines.append(f"| {name} | not measured: {one['skipped']} | | | | |")
            continue
        lines.append(
            f"| {name} | {one['seconds']:.0f} s | {one['granted']} | {one['refused']} | {one['used']:.0%} | {verdict(one)} |"
        )
    return lines


def verdict(one):
    failed = [name for name, holds in one["verdicts"].items() if not holds]
    return "**fails**: " + ", ".join(failed) if failed else "holds"


def tables(results):
    """The lines of the page between the marks, and what is printed."""
    lines = []
    if results.get("servers"):
        lines += embedding_table(results["servers"])
    if results.get("gateway"):
        lines += ["", *gateway_table(results["gateway"])]
    versions = ", ".join(f"{name} {number}" for name, number in sorted(results["versions"].items()) if number)
    return [*lines, "", f"Measured on {results['date']}, {results['machine']}. Versions: {versions}. {results['note']}".rstrip()]


def write(page, results):
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text("\n".join([before + BEGIN, *tables(results), END + after]), encoding="utf-8")
