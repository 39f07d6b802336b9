"""Makes and removes docker boxes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine

from domain.contracts.job import JobLimits
from sandbox_host.linux.box_users import DOCKER_USERS, BoxUser, NoUserFree
from sandbox_host.linux.cgroups.types import Cgroup
from sandbox_host.linux.folders import make_folder
from sandbox_host.run.events import security_event
from sandbox_host.runtimes.base import RuntimeFailure
from sandbox_host.runtimes.containers.box import BoxResources, ContainerBox, group_limits
from sandbox_host.runtimes.containers.capabilities import HostCapabilities
from sandbox_host.runtimes.containers.engine import Engine
from sandbox_host.runtimes.containers.plan import AGENT_UID, Plan
from sandbox_host.runtimes.containers.workspace import WORKSPACES, Workspace
from sandbox_host.runtimes.pool.removal import Removals

#: Limits that no job exceeds, for containers whose parent group has the job's own limits.
_CEILINGS = JobLimits(memory_bytes=2 * 1024**3, processes=512, disk_bytes=1024**3, wall_seconds=300)

#: Numbers the boxes of this process, across all makers.
_serial = itertools.count()


class BoxMaker:
    """Makes boxes, and removes them in the background.

    Args:
        engine: runs them.
        capabilities: what this host and its engine offer for boxes.
        tag: names this host process.
        stuck: collects the IDs of containers that could not be removed, and the names of those
            that a failed call may have made.

    Attributes:
        removals: the boxes being removed.
    """

    def __init__(
        self, engine: Engine, capabilities: HostCapabilities, tag: str, stuck: set[str]
    ) -> None:
        self.capabilities = capabilities
        self._engine = engine
        self._tag = tag
        self._stuck = stuck
        self.removals = Removals()

    async def make(self, image: str, limits: JobLimits) -> ContainerBox:
        """Make a box whose agent waits for a job.

        Raises:
            RuntimeFailure: it cannot be made; nothing of it is left.
        """
        name = f"box-{next(_serial)}"
        try:
            user = DOCKER_USERS.take()
        except NoUserFree as error:
            raise RuntimeFailure(f"prepare a box: {error}") from None
        own = BoxResources(user, *await asyncio.to_thread(self._prepare, name, limits, user))
        try:
            container = await self._create(image, limits, name, own)
        except BaseException:
            await asyncio.to_thread(own.release)
            raise
        box: ContainerBox | None = None
        try:
            attached = await self._engine.attach(container)
            box = ContainerBox(
                self._engine, container, attached, own, limits, self.capabilities.overhead
            )
            await self._engine.start(container)
            await box.ready()
        except BaseException:
            self._begin_removal(container, box.close() if box else self._remove(container, own))
            raise
        return box

    def discard(self, box: ContainerBox) -> None:
        """Remove a box in the background."""
        self._begin_removal(box.container, box.close())

    def _prepare(
        self, name: str, limits: JobLimits, user: BoxUser
    ) -> tuple[Workspace | None, Cgroup | None]:
        capabilities, group = self.capabilities, None
        try:
            if capabilities.tree is not None:
                held = (
                    group_limits(limits, capabilities.overhead) if capabilities.adjustable else None
                )
                group = capabilities.tree.create(name, held)
            if not capabilities.workspaces:
                return None, group
            host, first = WORKSPACES / self._tag, capabilities.facts.first_uid
            make_folder(WORKSPACES, 0o711, exist_ok=True)
            # With remapped users the containers' root is an ordinary user here, and must be able
            # to pass through the folder.
            make_folder(host, 0o711 if first else 0o700, exist_ok=True)
            size, pipes = limits.disk_bytes, capabilities.pipes
            workspace = Workspace(
                host / name, first + user.uid, first + AGENT_UID, size, pipes=pipes
            )
            return workspace, group
        except OSError as error:
            BoxResources(user, None, group).release()
            raise RuntimeFailure(f"prepare a box: {error}") from error

    async def _create(self, image: str, limits: JobLimits, name: str, own: BoxResources) -> str:
        capabilities = self.capabilities
        container = f"qlp-{self._tag}-{name}"
        plan = Plan(
            image=image,
            name=container,
            host=self._tag,
            uid=own.user.uid,
            limits=_CEILINGS if capabilities.adjustable else limits,
            seccomp=capabilities.facts.seccomp,
            apparmor=capabilities.facts.apparmor,
            engine_runtime=capabilities.engine_runtime,
            cgroup_parent=capabilities.tree.engine_path(name)
            if capabilities.tree is not None
            else None,
            workspace=own.workspace,
            extra_processes=capabilities.overhead.processes,
            extra_memory_bytes=capabilities.overhead.memory_bytes,
        )
        try:
            return await self._engine.create(plan)
        except BaseException:
            self._stuck.add(container)  # the engine may have made it nevertheless
            raise

    async def _remove(self, container: str, own: BoxResources) -> None:
        try:
            await self._engine.remove(container)
        finally:
            await asyncio.to_thread(own.release)

    def _begin_removal(self, container: str, work: Coroutine[None, None, None]) -> None:
        self.removals.begin(self._finish(container, work))

    async def _finish(self, container: str, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except RuntimeFailure as error:
            self._stuck.add(container)
            security_event(
                "leftover_box", f"a box was not removed; it will be reaped: {error}", box=container
            )
