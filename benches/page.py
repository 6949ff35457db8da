"""Writes docs/benchmarks.md from the results that `run.py` keeps."""

import statistics

from suites import SUITES

HEAD = """# Benchmarks

`benches/run.py` measures and writes this page; run it to get the page for your machine. The top of that file explains the
method, `benches/suites.py` defines the jobs. These figures were measured with

{commands}

Machine: {machine}. Python {python}. Measured on {date}.

Versions: {versions}.

See also: projects of ten thousand nodes compared with Kedro in [benchmarks-projects.md](benchmarks-projects.md); the API
client, its limits and faults in [benchmarks-client.md](benchmarks-client.md); the embedding cache compared with key-value
stores in [benchmarks-cache.md](benchmarks-cache.md); partitions divided among processes in [benchmarks-shards.md](benchmarks-shards.md).
"""


class Suite:
    """The medians of one suite."""

    def __init__(self, name, taken):
        self.name, self.taken, self.runs = name, taken, taken["runs"]
        self.first = next(iter(self.runs))

    def median(self, contender, figure):
        return statistics.median(run[figure] for run in self.runs[contender])

    def seconds(self, contender):
        return self.median(contender, "seconds")


def goal(suite, others, kind, whom, bound):
    """The target, the result, and whether it is reached; None when a contender that it needs was not measured."""
    flow = suite.first
    if kind == "times":
        peers = [name for name in suite.runs if not name.startswith("flow")] if whom == "best" else [whom]
        peers = [name for name in peers if name in suite.runs]
        if not peers:
            return None
        peer = min(peers, key=suite.seconds)
        ratio = suite.seconds(peer) / suite.seconds(flow)
        return f"≥ {bound} × faster than {peer}", f"{ratio:.1f} ×", ratio >= bound
    if kind == "memory":
        if whom not in suite.runs:
            return None
        ratio = suite.median(flow, "peak_mb") / suite.median(whom, "peak_mb")
        return f"≤ {bound} of {whom}'s memory", f"{ratio:.2f}", ratio <= bound
    if kind == "megabytes":
        peak = max(run["peak_mb"] for run in suite.runs[whom or flow])
        return f"≤ {bound} MB", f"{peak:,.0f} MB", peak <= bound
    if kind == "seconds":
        if whom not in suite.runs:
            return None
        return f"`{whom}` ≤ {bound} s", f"{suite.seconds(whom):.2f} s", suite.seconds(whom) <= bound
    if kind == "growth":
        if whom not in others:
            return None
        ratio = suite.seconds(flow) / others[whom].seconds(flow)
        return f"≤ {bound} × the time of a tenth of the rows", f"{ratio:.1f} ×", ratio <= bound
    if kind == "texts a core":
        # The two runs differ in the embedding only, and that of `hash` takes almost no time.
        cpu = suite.median(flow, "cpu") - suite.median(whom, "cpu")
        rate = suite.taken["rows"] / cpu
        return f"≥ {bound:,} texts per second and core, without the time of `{whom}`", f"{rate:,.0f}", rate >= bound
    if kind == "flat":
        peaks = [run["peak_mb"] for run in suite.runs[whom]]
        spread = max(peaks) / min(peaks) - 1
        return f"`{whom}`: memory within {bound:.0%} at all sizes", f"{spread:.0%}", spread <= bound
    raise ValueError(kind)


def table(suite):
    """The lines of one suite's table."""
    sizes = suite.taken["sizes"]
    yield "| | rows | seconds | fastest – slowest | CPU seconds | rows a second | " + f"against `{suite.first}` | peak memory |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for contender, runs in suite.runs.items():
        for rows in sizes:
            here = [run for run in runs if run["rows"] == rows]
            if not here:
                continue
            seconds = [run["seconds"] for run in here]
            median = statistics.median(seconds)
            base = statistics.median(run["seconds"] for run in suite.runs[suite.first] if run["rows"] == rows)
            cpu = statistics.median(run["cpu"] for run in here)
            peak = statistics.median(run["peak_mb"] for run in here)
            spread = f"{min(seconds):.2f} – {max(seconds):.2f}" if len(here) > 1 else "once"
            yield (
                f"| {contender} | {rows:,} | {median:.2f} | {spread} | {cpu:.1f} | {rows / median:,.0f} "
                f"| {median / base:.2f} × | {peak:,.0f} MB |"
            )


def render(results):
    named = ", ".join(f"{name} ({version})" for name, version in results["versions"].items())
    commands = dict.fromkeys(f"    {suite['command']}" for suite in results["suites"].values())
    lines = [HEAD.format(**results | {"versions": named, "commands": "\n".join(commands)})]
    suites = {name: Suite(name, results["suites"][name]) for name in SUITES if name in results["suites"]}
    lines += ["## Targets and results", "", "| job | target | result | |", "|---|---|---:|---|"]
    for name, suite in suites.items():
        if suite.taken["rows"] != (wanted_rows := SUITES[name]["rows"]) and suite.taken["sizes"] != wanted_rows:
            # A target holds for one size.
            continue
        for wanted in SUITES[name].get("goals", []):
            said = goal(suite, suites, *wanted)
            if said:
                lines += [f"| {SUITES[name]['title']} | {said[0]} | {said[1]} | {'reached' if said[2] else 'missed'} |"]
    for name, suite in suites.items():
        lines += ["", f"## {SUITES[name]['title']}", "", SUITES[name]["about"]]
        repeats = max(map(len, suite.runs.values())) // len(suite.taken["sizes"])
        if repeats > 1:
            lines[-1] += f" Medians of {repeats} runs."
        lines += ["", *table(suite)]
        if note := SUITES[name].get("note"):
            lines += ["", note]
    return "\n".join(lines) + "\n"
