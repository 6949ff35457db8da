#!/usr/bin/env python3
"""Tries a wheel as a newcomer does: an empty virtual environment, the wheel, a new project, a run.

    scripts/build_wheel
    python3 scripts/try_wheel.py target/wheels/*.whl

Asks no package index. Exits with 1 if a command fails, prints something else than it should, or if installing, `flow new` and
`flow run` together take longer than `--seconds`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--seconds", type=float, default=10, help="for installing, `flow new` and `flow run` together")
    options = parser.parse_args()
    wheel = options.wheel.resolve(strict=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # Nothing of the caller's environment but what the system needs: no settings of `flow` or of pip.
        environment = {"PATH": os.defpath, "HOME": str(folder)}

        def run(*command, cwd=folder) -> str:
            done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
            return done.stdout + done.stderr

        run(sys.executable, "-m", "venv", "venv")
        scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        start = time.monotonic()
        run(scripts / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", wheel)
        installed = time.monotonic()
        run(scripts / "flow", "new", "x")
        printed = run(scripts / "flow", "run", cwd=folder / "x")
        end = time.monotonic()
        starts = []
        for _ in range(20):
            before = time.monotonic()
            version = run(scripts / "flow", "--version").strip()
            starts.append(time.monotonic() - before)
    print(printed, end="")
    print(f"{version}: {wheel.stat().st_size / 1e6:.1f} MB, installed in {installed - start:.1f} s, new and run in {end - installed:.1f} s")
    print(f"`flow --version`: {sorted(starts)[len(starts) // 2] * 1000:.1f} ms in the median of {len(starts)}")
    if "rows: 1,766 computed" not in printed:
        print("the run did not compute the table of the new project")
        return 1
    if end - start > options.seconds:
        print(f"that is {end - start:.1f} s, more than {options.seconds:g} s")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
