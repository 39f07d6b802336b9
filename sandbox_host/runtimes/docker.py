"""The docker runtime: a fresh hardened container per program.

The end of a run is taken from the engine's record and the box's own cgroup, never from what the
program printed. Where this host can make cgroups beside a local engine, each container lies under
a group of ours, which still has the counters when the container is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from domain.sandbox.contract import SandboxResult, Usage
from sandbox_host.images.build import DEFAULT_IMAGE
from sandbox_host.jobs import PreparedJob
from sandbox_host.processes import host_tag, is_alive
from sandbox_host.runtimes.base import Readiness, RunRecord, RuntimeFailure
from sandbox_host.runtimes.canary import fly_canary
from sandbox_host.runtimes.cgroup_types import Cgroup, CgroupsUnavailable, CgroupTree
from sandbox_host.runtimes.cgroups import open_tree
from sandbox_host.runtimes.docker_box import agent_header, container_settings
from sandbox_host.runtimes.docker_engine import DockerEngine, EngineFacts, ImageMissing
from sandbox_host.runtimes.docker_stream import drain
from sandbox_host.verdicts import SIGKILL, Ending, Kill

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Equipment:
    facts: EngineFacts
    image_id: str
    tree: CgroupTree | None


class DockerRuntime:
    """See the module; satisfies `sandbox_host.runtimes.base.Runtime`."""

    name = "docker"

    def __init__(self, image: str = DEFAULT_IMAGE) -> None:
        """Prepare; nothing is probed before `preflight`.

        Args:
            image: name of the image whose Python and shell run the programs.
        """
        self._image = image
        self._engine = DockerEngine()
        self._equipment: _Equipment | None = None
        self._tag = host_tag()

    async def preflight(self) -> Readiness:
        """Ask the engine, look for the image, run the canary."""
        try:
            facts = await self._engine.facts()
        except RuntimeFailure as error:
            fix = "start a Docker engine, or point DOCKER_HOST at one this user may use"
            return Readiness(False, str(error), fix)
        try:
            image_id = await self._engine.image_id(self._image)
            if self._equipment is None:
                tree = await asyncio.to_thread(_tree_beside, facts)
                self._equipment = _Equipment(facts, image_id, tree)
            self._drop_blind_tree(await fly_canary(self))
        except ImageMissing:
            fix = f"build it: python -m sandbox_host.images.build --image {self._image}"
            return Readiness(False, f"the engine has no image {self._image}", fix)
        except RuntimeFailure as error:
            self._release_equipment()
            return Readiness(False, str(error), "see the engine's own log")
        return Readiness(True, "the canary ran", details=self._details(self._equipment))

    def _drop_blind_tree(self, canary: SandboxResult) -> None:
        """Do without cgroups of ours where the engine's are others, as seen by an empty count."""
        equipment = self._equipment
        counted = canary.usage and canary.usage.peak_memory_bytes
        if equipment is not None and equipment.tree is not None and not counted:
            equipment.tree.close()
            self._equipment = replace(equipment, tree=None)

    async def run(self, job: PreparedJob) -> SandboxResult:
        """See `Runtime.run`."""
        if self._equipment is None:
            raise RuntimeFailure("preflight has not passed")
        record = RunRecord.of(job, self.name, self._equipment.image_id)
        async with (
            self._cgroup(self._equipment, job) as (group, parent),
            self._container(self._equipment, job, parent) as container,
        ):
            return await self._run_box(record, container, group)

    async def reap(self) -> int:
        """See `Runtime.reap`."""
        try:
            boxes = await self._engine.boxes()
        except RuntimeFailure:
            return 0  # no engine, no boxes; preflight reports it
        dead = [box for box, host in boxes.items() if not is_alive(host)]
        for box in dead:
            try:
                await self._engine.remove(box)
            except RuntimeFailure as error:
                log.warning("a box of a dead host stays: %s", error)
        if self._equipment and self._equipment.tree:
            await asyncio.to_thread(self._equipment.tree.reap)
        return len(dead)

    async def aclose(self) -> None:
        """See `Runtime.aclose`."""
        self._release_equipment()
        self._engine.close()

    def _release_equipment(self) -> None:
        if self._equipment is not None and self._equipment.tree is not None:
            self._equipment.tree.close()
        self._equipment = None

    def _details(self, equipment: _Equipment) -> dict[str, str]:
        facts = equipment.facts
        return {
            "engine": facts.version,
            "image": equipment.image_id,
            "limits": f"{equipment.tree.version} (counters read)"
            if equipment.tree
            else "the engine's cgroups (counters not readable from here)",
            "seccomp": "on" if facts.seccomp else "off (the engine has no support)",
            "apparmor": "on" if facts.apparmor else "off (the engine has no support)",
        }

    @contextlib.asynccontextmanager
    async def _cgroup(
        self, equipment: _Equipment, job: PreparedJob
    ) -> AsyncIterator[tuple[Cgroup | None, str | None]]:
        if equipment.tree is None:
            yield None, None
            return
        name = f"{job.job.run_id}-{time.monotonic_ns()}"
        try:
            group = equipment.tree.create(name, None)
        except OSError as error:
            raise RuntimeFailure(f"make a cgroup: {error}") from error
        try:
            yield group, equipment.tree.engine_path(name)
        finally:
            await asyncio.shield(asyncio.to_thread(group.remove))

    @contextlib.asynccontextmanager
    async def _container(
        self, equipment: _Equipment, job: PreparedJob, parent: str | None
    ) -> AsyncIterator[str]:
        settings = container_settings(
            job,
            equipment.image_id,
            self._tag,
            seccomp=equipment.facts.seccomp,
            cgroup_parent=parent,
        )
        container = await self._engine.create(settings)
        try:
            yield container
        finally:
            await asyncio.shield(self._engine.remove(container))

    async def _run_box(
        self, record: RunRecord, container: str, group: Cgroup | None
    ) -> SandboxResult:
        limits = record.job.job.limits
        loop = asyncio.get_running_loop()
        flood = asyncio.Event()
        with await self._engine.attach(container) as connection:
            draining = asyncio.create_task(drain(connection, record.stdout, record.stderr, flood))
            try:
                await self._engine.start(container)
                record.started = time.perf_counter()
                await loop.sock_sendall(connection, agent_header(record.job))
                kill = await self._watch(container, draining, flood, limits.wall_seconds)
                state = await self._engine.ended(container)
            except OSError as error:
                raise RuntimeFailure(f"the box's stream broke: {error}") from error
            finally:
                draining.cancel()
                await asyncio.gather(draining, return_exceptions=True)
        wall_ms = (time.perf_counter() - record.started) * 1e3
        return _conclude(record, state, kill, group, wall_ms)

    async def _watch(
        self,
        container: str,
        draining: asyncio.Task[None],
        flood: asyncio.Event,
        seconds: float,
    ) -> Kill | None:
        """Wait for the end of the output, or kill the box at its deadline or when it floods."""
        flooding = asyncio.create_task(flood.wait())
        try:
            await asyncio.wait(
                {draining, flooding}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            flooding.cancel()
        if draining.done() and not flood.is_set():
            return None
        await self._engine.kill(container)
        return Kill.OUTPUT if flood.is_set() else Kill.DEADLINE


def _conclude(
    record: RunRecord,
    state: dict[str, Any],
    kill: Kill | None,
    group: Cgroup | None,
    wall_ms: float,
) -> SandboxResult:
    counted = group.usage() if group is not None else None
    status, peak = int(state["ExitCode"]), (counted and counted.peak_memory_bytes) or 0
    # The engine may miss the kernel's event; a kill at the limit has no other cause.
    at_limit = status == 128 + SIGKILL and peak >= record.job.job.limits.memory_bytes
    oom = bool(state.get("OOMKilled")) or at_limit or bool(counted and counted.oom_kills)
    ending = Ending(status, kill, oom)
    usage = Usage(
        wall_ms=wall_ms,
        cpu_user_ms=counted and counted.cpu_user_ms,
        cpu_system_ms=counted and counted.cpu_system_ms,
        peak_memory_bytes=counted and counted.peak_memory_bytes,
    )
    return record.result(ending, usage)


def _tree_beside(facts: EngineFacts) -> CgroupTree | None:
    """Cgroups that the engine can put containers under: a local engine that uses cgroupfs."""
    if not facts.local or facts.cgroup_driver != "cgroupfs":
        return None
    try:
        return open_tree(at_root=True)
    except CgroupsUnavailable:
        return None
