"""A host that runs one program until it is killed.

Started with ``cgroups`` or ``rlimits``, the program's file, and a word that it gets as argument.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from sandbox_host.runtimes.bubblewrap.runtime import BubblewrapRuntime
from tests.support.sandbox.runtimes import prepared, run


async def _run(mode: str, program: str, marker: str) -> None:
    runtime = BubblewrapRuntime(use_cgroups=mode == "cgroups")
    readiness = await runtime.preflight()
    assert readiness.ready, readiness.reason
    await run(runtime, prepared(Path(program).read_text(), args=(marker,), wall_seconds=90))


if __name__ == "__main__":
    asyncio.run(_run(*sys.argv[1:]))
