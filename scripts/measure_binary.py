#!/usr/bin/env python3
"""Measures a binary: its size, its start, and which crates its code comes from.

    cargo build --release --locked
    python3 scripts/measure_binary.py target/release/flow

    CARGO_PROFILE_RELEASE_STRIP=none cargo build --release --locked --target-dir target/symbols
    python3 scripts/measure_binary.py target/release/flow --symbols target/symbols/release/flow

With `--symbols`, the same binary with symbols, it also prints how much code each crate has, by the symbols that `nm` (of
binutils) lists: generic code counts for the crate that defines it. `--limits` exits with 1 if the binary is larger than 70 MB
or `flow --version` takes longer than 10 ms in the median.
"""

import argparse
import collections
import re
import subprocess
import sys
import time
from pathlib import Path

#: Megabytes, and milliseconds of `flow --version`.
LARGEST, SLOWEST = 70, 10


def starts(binary: Path) -> list[float]:
    times = []
    for _ in range(41):
        before = time.perf_counter()
        subprocess.run([binary, "--version"], check=True, capture_output=True)
        times.append((time.perf_counter() - before) * 1000)
    return sorted(times[1:])


def crate_of(symbol: str) -> str:
    """The crate of a demangled symbol: of a trait's implementation, that of the type."""
    symbol = symbol.lstrip("<&*( ")
    for prefix in ("dyn ", "mut ", "[", "const "):
        symbol = symbol.removeprefix(prefix)
    found = re.match(r"([a-zA-Z_][a-zA-Z0-9_]*)(?:\[[0-9a-f]+\])?::", symbol)
    if found:
        name = found.group(1)
        return "std" if name in ("core", "alloc", "std", "hashbrown") else name
    if symbol.startswith(("ZSTD", "HUF", "FSE", "HIST", "ZDICT")):
        return "zstd (C)"
    if symbol.startswith(("mi_", "_mi_")):
        return "mimalloc (C)"
    if "ring_core" in symbol or symbol.startswith(("GFp", "x25519", "bn_", "aes")):
        return "ring (C)"
    return "other"


def crates(binary: Path) -> collections.Counter:
    listed = subprocess.run(["nm", "-S", "-C", binary], check=True, capture_output=True, text=True, errors="replace").stdout
    sizes, seen = collections.Counter(), set()
    for line in listed.splitlines():
        parts = line.split(" ", 3)
        # A symbol without a size has one column less.
        if len(parts) == 4 and re.fullmatch("[0-9a-f]+", parts[1]) and parts[2] in "tTwWvVrRdD" and parts[0] not in seen:
            seen.add(parts[0])
            sizes[crate_of(parts[3]) if parts[2] in "tTwWvV" else "data (tables, strings, the model)"] += int(parts[1], 16)
    return sizes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path, nargs="?", default=Path("target/release/flow"))
    parser.add_argument("--symbols", type=Path, help="the same binary with symbols")
    parser.add_argument("--limits", action="store_true")
    options = parser.parse_args()
    size, times = options.binary.stat().st_size / 1e6, starts(options.binary)
    median = times[len(times) // 2]
    print(f"size {size:.1f} MB; `flow --version` {median:.1f} ms in the median of {len(times)}, {times[0]:.1f} ms at best")
    listed = subprocess.run(["size", "-A", "-d", options.binary], capture_output=True, text=True).stdout
    sections = [(int(line.split()[1]), line.split()[0]) for line in listed.splitlines() if re.match(r"\.\S+\s+\d+", line)]
    print("sections: " + ", ".join(f"{name} {bytes / 1e6:.1f} MB" for bytes, name in sorted(sections, reverse=True)[:6]))
    tree = subprocess.run(["cargo", "tree", "--offline", "--locked", "-e", "normal", "--prefix", "none"], capture_output=True, text=True)
    names = {tuple(line.split()[:2]) for line in tree.stdout.splitlines() if line.strip()}
    twice = [name for name, count in collections.Counter(name for name, _ in names).items() if count > 1]
    print(f"crates: {len(names)}, of these in several versions: {', '.join(sorted(twice)) or 'none'}")
    if options.symbols:
        sizes = crates(options.symbols)
        print("| crate | MB |\n|---|---|")
        for name, bytes in sizes.most_common(30):
            print(f"| {name} | {bytes / 1e6:.2f} |")
        print(f"| {len(sizes) - 30} more | {sum(sorted(sizes.values())[:-30]) / 1e6:.2f} |")
    failed = options.limits and (size > LARGEST or median > SLOWEST)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
