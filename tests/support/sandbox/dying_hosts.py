"""Hosts that are killed at any moment of setting boxes up, one after the other.

Started by `test_bubblewrap` with ``cgroups`` or ``rlimits``, the number of hosts, and a word that
every program gets as its argument. Prints how each host names itself. Forked after preflight, so
that each costs little.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from dataclasses import replace

from sandbox_host.linux.cgroups import cgroups
from sandbox_host.linux.processes import host_tag
from sandbox_host.runtimes.bubblewrap.inputs import InputFolders
from sandbox_host.runtimes.bubblewrap.keeper import Keeper
from sandbox_host.runtimes.bubblewrap.runtime import BubblewrapRuntime, _Provisioned
from tests.support.sandbox.runtimes import prepared, run

#: Seconds in which a host may die; a box takes 10 to 20 ms to be set up, and then some wait.
_LIFE = 0.12


async def _started(use_cgroups: bool) -> BubblewrapRuntime:
    runtime = BubblewrapRuntime(use_cgroups=use_cgroups)
    readiness = await runtime.preflight()
    assert readiness.ready, readiness.reason
    return runtime


def _provision_again(runtime: BubblewrapRuntime) -> None:
    """Give a fork a keeper and groups of its own, as every host has them, and a pool."""
    assert runtime._provisions.current is not None
    inputs = InputFolders()
    keeper = Keeper(host_tag() + "-0", sys.executable, inputs.path)
    tree = None if runtime._provisions.current.capabilities.tree is None else cgroups.open_tree()
    capabilities = replace(
        runtime._provisions.current.capabilities, inputs=inputs, keeper=keeper, tree=tree
    )
    runtime._provisions.provide(_Provisioned.of(capabilities, 64 << 20, lambda: None))


async def _busy(runtime: BubblewrapRuntime, marker: str) -> None:
    """Boxes that are set up, wait and run; more wait the longer it lives."""
    assert runtime._provisions.current is not None
    runtime._provisions.current.pool.start()
    program = "import time; time.sleep(600)"
    job = prepared(program, args=(marker,), wall_seconds=300)
    await asyncio.gather(*(run(runtime, job) for _ in range(3)))


def main() -> None:
    """Let one host after the other die."""
    mode, rounds, marker = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    runtime = asyncio.run(_started(mode == "cgroups"))
    chance = random.Random(marker)
    for _ in range(rounds):
        ready, begun = os.pipe()
        host = os.fork()
        if host == 0:
            _provision_again(runtime)
            os.write(begun, host_tag().encode())
            asyncio.run(_busy(runtime, marker))
            os._exit(1)
        print(os.read(ready, 256).decode(), flush=True)
        time.sleep(chance.uniform(0, _LIFE))
        os.kill(host, signal.SIGKILL)
        _, status = os.waitpid(host, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, "it had ended by itself"
        for descriptor in (ready, begun):
            os.close(descriptor)


if __name__ == "__main__":
    main()
