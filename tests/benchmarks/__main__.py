"""``python -m tests.benchmarks [NAME …]``: runs the benchmarks, all or the named ones."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

_FOLDER = Path(__file__).parent


def main() -> int:
    """Run each benchmark in a process of its own; 1 if one failed, 130 after Ctrl-C."""
    names = sorted(path.stem.removeprefix("bench_") for path in _FOLDER.glob("bench_*.py"))
    parser = argparse.ArgumentParser(
        prog="make bench",
        description="Medians, and ratios against a floor that is measured in the same run.",
    )
    parser.add_argument("names", nargs="*", choices=[*names, []], metavar="NAME", help=str(names))
    failed = []
    for name in parser.parse_args().names or names:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", "tests.benchmarks.alone", name]
        try:
            if subprocess.run(command, check=False).returncode != 0:
                failed.append(name)
        except KeyboardInterrupt:
            return 130
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
