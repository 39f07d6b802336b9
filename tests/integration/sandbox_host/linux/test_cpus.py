"""Without cgroups a program has one CPU, and the first one is left to the host."""

from __future__ import annotations

import os
from contextlib import aclosing

import pytest

from tests.support.sandbox.runtimes import open_runtime, prepared, run

_PROGRAM = """\
import os
print(*os.sched_getaffinity(0))
try: os.sched_setaffinity(0, range(64))
except PermissionError: print("refused")
if os.fork() == 0: os.setsid(); print(*os.sched_getaffinity(0))
else: os.wait()
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.parametrize("name", ["bubblewrap-rlimits", "confined"])
async def test_programs_get_a_cpu_each_but_never_the_first(name: str) -> None:
    first, *others = sorted(os.sched_getaffinity(0))
    async with aclosing(await open_runtime(name)) as runtime:
        results = [await run(runtime, prepared(_PROGRAM)) for _ in others]
    given = []
    for result in results:
        cpu, refused, of_child = result.stdout.splitlines()
        assert (refused, of_child) == ("refused", cpu), result.stderr
        given.append(int(cpu))
    assert sorted(given) == others
    assert first not in given
