"""``python -m tests.benchmarks.alone NAME``: runs one benchmark; Ctrl-C ends it with 130."""

from __future__ import annotations

import runpy
import sys

if __name__ == "__main__":
    name, sys.argv[1:] = sys.argv[1], sys.argv[2:]
    try:
        runpy.run_module(f"tests.benchmarks.bench_{name}", run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        sys.exit(130)
