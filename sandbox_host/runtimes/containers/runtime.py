"""A runtime of containers: a hardened one per program, made ahead of jobs as demand suggests.

How a run ended is known from the host's own observation, the agent and the engine, never from what
the program printed. What a box is made with depends on this host's privileges: a host that is root
on the engine's machine makes each box's cgroup and mounts its writable space.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from domain.contracts.job import JobLimits, SandboxResult
from domain.contracts.languages import LANGUAGES
from sandbox_host.linux.processes import host_tag, is_alive
from sandbox_host.run.events import security_event
from sandbox_host.run.job import PreparedJob
from sandbox_host.runtimes.base import (
    Readiness,
    RunControl,
    RunRecord,
    RunResult,
    RuntimeFailure,
)
from sandbox_host.runtimes.canary import languages_that_run, prove, run_canary
from sandbox_host.runtimes.containers.box import ContainerBox
from sandbox_host.runtimes.containers.capabilities import HostCapabilities, candidates
from sandbox_host.runtimes.containers.engine import Engine, EngineFacts, ImageMissing
from sandbox_host.runtimes.containers.maker import BoxMaker
from sandbox_host.runtimes.containers.run import run_in
from sandbox_host.runtimes.containers.workspace import reap_workspaces
from sandbox_host.runtimes.pool.pool import BoxPool
from sandbox_host.runtimes.pool.run import run_in_a_box
from sandbox_host.runtimes.provisions import Provisions
from sandbox_host.settings import DEFAULT_IMAGES

log = logging.getLogger(__name__)

#: The canary's language; without its image, the runtime is not ready.
_CANARY = "python"


@dataclass(frozen=True)
class _Provisioned:
    """What runs are made with.

    Attributes:
        images: IDs of the images that the engine has, by language.
        offered: the languages whose programs run.
    """

    capabilities: HostCapabilities
    images: dict[str, str]
    offered: tuple[str, ...]
    maker: BoxMaker
    pool: BoxPool[ContainerBox]

    async def aclose(self) -> None:
        """Remove the waiting boxes and release the rest."""
        await self.pool.aclose()
        await self.maker.removals.wait_until_none()
        if self.capabilities.tree is not None:
            self.capabilities.tree.close()


class ContainerRuntime:
    """See the module; satisfies `sandbox_host.runtimes.base.Pooled`."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        images: str = DEFAULT_IMAGES,
        *,
        engine_runtime: str | None = None,
        pool_memory_bytes: int = 0,
    ) -> None:
        """Prepare; nothing is probed before `preflight`.

        Args:
            name: see `sandbox_host.runtimes.base.Runtime`.
            engine: makes the containers.
            images: the images' name with ``{language}`` in it, or one image for all languages.
            engine_runtime: an OCI runtime of the engine, such as ``runsc``; None for its default.
            pool_memory_bytes: for all waiting boxes; 0 keeps none waiting.
        """
        self.name = f"{name}+{engine_runtime}" if engine_runtime else name
        self._images = images
        self._engine_runtime = engine_runtime
        self._pool_bytes = pool_memory_bytes
        self._engine = engine
        self._provisions = Provisions(_Provisioned.aclose)
        self._tag = host_tag()
        self._stuck: set[str] = set()
        self._on_trouble: Callable[[], None] = lambda: None

    async def preflight(self) -> Readiness:
        """Ask the engine, find the images, run the canary, and start to fill the pool."""
        try:
            facts = await self._engine.facts()
            images = await self._find_images()
        except RuntimeFailure as error:
            await self._provisions.retire()
            fix = "start a Docker engine, or point DOCKER_HOST at one this user may use"
            return Readiness(False, str(error), fix)
        unready = self._unready(facts, images)
        if unready is not None:
            await self._provisions.retire()
            return unready
        try:
            provisioned = self._provisions.current
            if provisioned is not None and provisioned.images == images:
                await prove(self, self._provisions.busy)
            else:
                await self._provisions.retire()
                await self._provision(facts, images)
        except RuntimeFailure as error:
            await self._provisions.retire()
            return Readiness(False, str(error), "see the engine's own log")
        return self._readiness()

    async def run(self, job: PreparedJob, control: RunControl | None = None) -> RunResult:
        """See `Runtime.run`."""
        with self._provisions.for_a_run() as provisioned:
            return await self._run(provisioned, job, control or RunControl())

    async def _run(
        self, provisioned: _Provisioned, job: PreparedJob, control: RunControl
    ) -> RunResult:
        language = job.job.language
        if language not in provisioned.offered:
            reason, fix = self._no_image(language)
            raise RuntimeFailure(f"{reason}; {fix}")

        async def run_in_this(box: ContainerBox, warm: bool) -> RunResult:
            record = RunRecord.of(job, self.name, control, provisioned.images[language])
            record.warm = warm
            return await run_in(box, record, control)

        maker, limits = provisioned.maker, job.job.limits
        fits = provisioned.capabilities.adjustable or _of_box(limits) == _of_box(JobLimits())
        make = None if fits else partial(maker.make, provisioned.images[language], limits)
        return await run_in_a_box(provisioned.pool, language, maker, run_in_this, make)

    def pool_state(self) -> dict[str, object]:
        """See `Pooled.pool_state`."""
        provisioned = self._provisions.current
        return provisioned.pool.state() if provisioned is not None else {}

    def tell_of_trouble(self, suspect: Callable[[], None]) -> None:
        """See `Pooled.tell_of_trouble`."""
        self._on_trouble = suspect

    async def reap(self) -> int:
        """See `Runtime.reap`."""
        try:
            boxes = await self._engine.boxes()
        except RuntimeFailure:
            return 0  # there is no engine, which preflight reports
        dead = self._stuck | {box for box, host in boxes.items() if not is_alive(host)}
        for box in dead:
            try:
                await self._engine.remove(box)
                self._stuck.discard(box)
            except RuntimeFailure as error:
                security_event("leftover_box", f"a box was again not removed: {error}", box=box)
        await asyncio.to_thread(reap_workspaces)
        provisioned = self._provisions.current
        if provisioned is not None and provisioned.capabilities.tree is not None:
            await asyncio.to_thread(provisioned.capabilities.tree.reap)
        return len(dead)

    async def aclose(self) -> None:
        """See `Runtime.aclose`."""
        await self._provisions.aclose()
        self._engine.close()

    async def _find_images(self) -> dict[str, str]:
        found = {}
        for language in LANGUAGES:
            with contextlib.suppress(ImageMissing):
                found[language] = await self._engine.image_id(self._image_of(language))
        return found

    def _image_of(self, language: str) -> str:
        return self._images.replace("{language}", language)

    def _no_image(self, language: str) -> tuple[str, str]:
        """Why a language is not offered, and what to do."""
        image = self._image_of(language)
        build = f"build it: python -m sandbox_host.images.build --language {language}"
        if "{language}" not in self._images:
            build += f" --image {image}"
        return f"the engine has no working image {image}", build

    def _unready(self, facts: EngineFacts, images: dict[str, str]) -> Readiness | None:
        """What the engine lacks; None if it has what is needed."""
        runtime = self._engine_runtime
        if runtime is not None and runtime not in facts.runtimes:
            reason = f"the engine has no runtime {runtime}"
            return Readiness(False, reason, "register it in the engine's daemon.json")
        return None if _CANARY in images else Readiness(False, *self._no_image(_CANARY))

    async def _provision(self, facts: EngineFacts, images: dict[str, str]) -> None:
        """Find the best capabilities with which the canary runs, and the languages that run.

        Raises:
            RuntimeFailure: the canary runs with none.
        """
        *better, last = await asyncio.to_thread(candidates, facts, self._engine_runtime)
        drawback = ""
        for capabilities in better:
            try:
                await self._prove(replace(capabilities, drawback=drawback), images)
                break
            except RuntimeFailure as error:
                log.warning("boxes cannot be made in the best way: %s", error)
                drawback = drawback or str(error)
        else:
            await self._prove(replace(last, drawback=drawback), images)
        runs = await asyncio.gather(*(self._runs(language) for language in images))
        offered = tuple(name for name, ran in zip(images, runs, strict=True) if ran)
        provisioned = self._provisions.current
        if provisioned is not None:
            self._use(provisioned.capabilities, images, offered).pool.start()

    async def _prove(self, capabilities: HostCapabilities, images: dict[str, str]) -> None:
        """Run the canary; if our cgroups counted nothing, the engine uses others: do without ours.

        Raises:
            RuntimeFailure: the canary does not run.
        """
        self._use(capabilities, images, tuple(images))
        canary = await run_canary(self)
        if capabilities.tree is not None and not _counted(canary):
            capabilities.tree.close()
            self._use(replace(capabilities, tree=None), images, tuple(images))

    async def _runs(self, language: str) -> bool:
        try:
            return bool(await languages_that_run(self, (language,)))
        except RuntimeFailure as error:
            log.warning("%s programs cannot run here: %s", language, error)
            return False

    def _use(
        self, capabilities: HostCapabilities, images: dict[str, str], offered: tuple[str, ...]
    ) -> _Provisioned:
        maker = BoxMaker(self._engine, capabilities, self._tag, self._stuck)

        async def make(language: str) -> ContainerBox:
            return await maker.make(images[language], JobLimits())

        pool = BoxPool(offered, make, maker.discard, self._pool_bytes, self._on_trouble)
        provisioned = _Provisioned(capabilities, images, offered, maker, pool)
        self._provisions.provide(provisioned)
        return provisioned

    def _readiness(self) -> Readiness:
        provisioned = self._provisions.current
        if provisioned is None:
            return Readiness(False, "the engine went away", "see the engine's own log")
        images = {f"image of {name}": provisioned.images[name] for name in provisioned.offered}
        return Readiness(
            True,
            "the canary ran",
            details={**provisioned.capabilities.details(), **images},
            languages=provisioned.offered,
            isolation=provisioned.capabilities.isolation,
        )


def _counted(canary: SandboxResult) -> bool:
    return bool(canary.usage and canary.usage.peak_memory_bytes)


def _of_box(limits: JobLimits) -> tuple[int, int, int]:
    """The limits that are fixed when a box is made, unless it is adjustable."""
    return limits.memory_bytes, limits.processes, limits.disk_bytes
