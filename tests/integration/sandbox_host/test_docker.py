"""What only the docker runtime has: an engine, an image, leftovers of dead hosts."""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox_host.runtimes.docker import DockerRuntime
from sandbox_host.runtimes.docker_engine import DockerEngine
from tests.fixtures.sandbox import ROOT, ensure_image

pytestmark = pytest.mark.docker

#: A host that starts a long program and tells when it runs.
_HOST = """\
import asyncio, sys
from tests.fixtures.sandbox import prepared
from sandbox_host.runtimes.docker import DockerRuntime
async def main():
    runtime = DockerRuntime()
    assert (await runtime.preflight()).ready
    print("ready", flush=True)
    await runtime.run(prepared("import time; time.sleep(100)", wall_seconds=100))
asyncio.run(main())
"""


async def test_a_missing_image_is_named_with_the_command_that_builds_it() -> None:
    await ensure_image()
    runtime = DockerRuntime("qlp-no-such-image:1")
    readiness = await runtime.preflight()
    await runtime.aclose()
    assert not readiness.ready
    assert (
        readiness.fix == "build it: python -m sandbox_host.images.build --image qlp-no-such-image:1"
    )


async def test_a_killed_hosts_program_ends_and_its_box_is_reaped_by_the_next() -> None:
    await ensure_image()
    engine = DockerEngine()
    host = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _HOST), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert host.stdout is not None
    await asyncio.wait_for(host.stdout.readline(), 30)
    box = await _running_box_of(engine, host.pid)
    host.kill()
    await host.wait()
    # Its stdin ends with the host, and PID 1 with its stdin.
    state = await engine.ended(box)
    assert not state["Running"], json.dumps(state)
    runtime = DockerRuntime()
    assert (await runtime.preflight()).ready
    assert await runtime.reap() >= 1
    assert box not in await engine.boxes()
    await runtime.aclose()
    # The engine makes groups in every hierarchy, and leaves them.
    assert not list(Path("/sys/fs/cgroup").glob(f"*/qlp-sandbox-*-{host.pid}-*"))
    engine.close()


async def _running_box_of(engine: DockerEngine, pid: int) -> str:
    """The box in which the host ``pid`` runs its long program, once its canary's is gone."""
    async with asyncio.timeout(20):
        while True:
            boxes = [box for box, host in (await engine.boxes()).items() if f"-{pid}-" in host]
            for box in boxes:
                state = await engine.call("look", functools.partial(_inspect, box))
                if state["State"]["Running"]:
                    return box
            await asyncio.sleep(0.05)


def _inspect(box: str, api: Any) -> dict[str, Any]:
    return dict(api.inspect_container(box))
