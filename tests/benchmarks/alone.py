"""``python -m tests.benchmarks.alone NAME``: runs one benchmark; Ctrl-C ends it with 130."""

from __future__ import annotations

import runpy
import sys

from tests.benchmarks.parts import skip
from tests.support import ROOT


def main() -> None:
    """Run it; skip it where a package that it compares with is not installed."""
    name, sys.argv[1:] = sys.argv[1], sys.argv[2:]
    try:
        runpy.run_module(f"tests.benchmarks.bench_{name}", run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or (ROOT / package).exists():
            raise
        skip(f"{package} is not installed: pip install -r requirements-bench.txt")


if __name__ == "__main__":
    main()
