"""What works, what does not, and how to fix it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import aiohttp

from domain.contracts.redaction import redact
from domain.database.outages import describe_outage, outage_of
from domain.database.pool import Pool
from domain.eventlog.followers import Followers
from domain.eventlog.log import EventLog
from domain.eventlog.models import Lag
from domain.messaging import relay
from domain.messaging.dead_letter_watch import MOST, DeadLetterWatch
from domain.messaging.publisher import Publisher, PublishFailed
from domain.planning.prompts import COMPARE, PLAN, REPAIR
from domain.projections.registry import Projections
from domain.retry import within
from domain.settings import Settings
from domain.similarity.status import EmbedderStatus

T = TypeVar("T")

#: If events wait for the relay for longer than this, nothing is being published; seconds.
RELAY_LAG_SECONDS = 60.0

_CHECK_SECONDS = 2.0

#: How long after an outage it is still reported, though the database answers again; seconds.
_TROUBLE_SECONDS = 10.0


class _NoAnswer(Exception):
    """The database does not answer; the message says why."""


#: ``ok``; ``degraded``: requests are accepted but wait; ``failed``: they are not accepted.
HealthStatus = Literal["ok", "degraded", "failed"]

_WORST_FIRST: tuple[HealthStatus, ...] = ("failed", "degraded")


@dataclass(frozen=True, slots=True)
class PartHealth:
    """One part's health.

    Attributes:
        status: see `HealthStatus`.
        detail: what was found, and the fix where something is wrong.
    """

    status: HealthStatus
    detail: dict[str, Any]


def overall(parts: Iterable[PartHealth]) -> HealthStatus:
    """The worst status among ``parts``."""
    found = {part.status for part in parts}
    return next((status for status in _WORST_FIRST if status in found), "ok")


class SandboxUnreachable(Exception):
    """The sandbox host does not answer, or something else does; the message says so."""


@dataclass(frozen=True, slots=True)
class SandboxHealth:
    """What a sandbox host says of itself.

    Attributes:
        ready: whether it takes jobs.
        report: the body of its ``GET /health``.
    """

    ready: bool
    report: dict[str, Any]


async def ask_sandbox_host(url: str, seconds: float) -> SandboxHealth:
    """Ask the sandbox host at ``url`` how it is.

    Raises:
        SandboxUnreachable: no JSON object came within ``seconds``.
    """
    timeout = aiohttp.ClientTimeout(total=seconds)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url.rstrip('/')}/health") as response,
        ):
            report = await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise SandboxUnreachable(
            f"the sandbox host does not answer ({type(error).__name__}); jobs wait"
        ) from None
    if not isinstance(report, dict):
        raise SandboxUnreachable("what answers is not a sandbox host; jobs wait")
    return SandboxHealth(response.status == 200, report)


class Health:
    """Checks every part that the application depends on, each within two seconds."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        log: EventLog,
        projections: Projections,
        publisher: Publisher,
        embedder: EmbedderStatus,
        dead_letters: DeadLetterWatch,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._log = log
        self._projections = projections
        self._publisher = publisher
        self._embedder = embedder
        self._dead_letters = dead_letters

    async def report(self) -> dict[str, PartHealth]:
        """The health of every part, by its name."""
        log, projections, bus, sandbox, embedder = await asyncio.gather(
            *(self._check_log(), self._check_projections(), self._check_bus()),
            *(self._check_sandbox(), self._check_embedder()),
        )
        return {
            "eventLog": log,
            "projections": projections,
            "serviceBus": bus,
            "deadLetters": self._check_dead_letters(),
            "sandbox": sandbox,
            "embedder": embedder,
            "planner": self._planner(),
        }

    def _planner(self) -> PartHealth:
        settings = self._settings
        sources = ["submitted", "reused"]
        if settings.llm_model is None:
            note = "no language model is configured: a new sentence needs a program"
            return PartHealth("ok", {"sources": sources, "note": note})
        return PartHealth(
            "ok",
            {
                "sources": [*sources, "generated", "repaired"],
                "model": settings.llm_model,
                "prompts": [PLAN.label, REPAIR.label, COMPARE.label],
            },
        )

    async def _check_log(self) -> PartHealth:
        try:
            writable, lag = await self._answer(self._look_at_log())
        except _NoAnswer as error:
            return PartHealth("failed", {"problem": str(error)})
        detail: dict[str, Any] = {
            "relayLagEvents": lag.events,
            "relayLagSeconds": round(lag.seconds, 3),
        }
        if not writable:
            detail["problem"] = (
                "the database is read-only: its disk is full, or it is a standby; "
                "nothing is accepted until it takes writes again"
            )
            return PartHealth("failed", detail)
        if trouble := self._pool.recent_outage(_TROUBLE_SECONDS):
            detail["problem"] = f"recently: {trouble}"
            return PartHealth("degraded", detail)
        if lag.seconds > RELAY_LAG_SECONDS:
            detail["problem"] = (
                f"events wait to be published, longest in lane {lag.oldest}; "
                "is Service Bus reachable?"
            )
            return PartHealth("degraded", detail)
        return PartHealth("ok", detail)

    async def _check_projections(self) -> PartHealth:
        try:
            statuses = await self._answer(self._projections.status())
        except _NoAnswer as error:
            return PartHealth("degraded", {"problem": str(error)})
        detail: dict[str, Any] = {}
        problems = []
        for status in statuses:
            detail[status.name] = {
                "lagEvents": status.lag_events,
                "lagSeconds": round(status.lag_seconds, 3),
                "parkedStreams": status.parked,
            }
            if status.problem:
                problems.append(f"{status.name}: {status.problem}")
        if problems:
            return PartHealth("degraded", {"problem": "; ".join(problems), **detail})
        return PartHealth("ok", detail)

    async def _answer(self, asked: Coroutine[Any, Any, T]) -> T:
        """The database's answer; raises `_NoAnswer` with the reason if there is none."""
        try:
            return await within(_CHECK_SECONDS, asked)
        except TimeoutError:
            trouble = self._pool.recent_outage(_TROUBLE_SECONDS)
            raise _NoAnswer(trouble or "the database does not answer") from None
        except Exception as error:
            if outage_of(error) is None:
                raise
            raise _NoAnswer(describe_outage(error)) from None

    async def _look_at_log(self) -> tuple[bool, Lag]:
        """Whether the database takes writes, and how far the relay lags behind."""
        writable = await self._log.writable()
        return writable, await Followers(self._pool).lag(relay.NAME)

    async def _check_embedder(self) -> PartHealth:
        try:
            report = await self._answer(self._embedder.report())
        except _NoAnswer as error:
            return PartHealth("degraded", {"problem": str(error)})
        return PartHealth("degraded" if report.problem else "ok", report.detail())

    async def _check_bus(self) -> PartHealth:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await self._publisher.open()
        except (PublishFailed, TimeoutError) as error:
            problem = redact(f"Service Bus cannot be reached; events wait in the log: {error}")
            return PartHealth("degraded", {"problem": problem})
        return PartHealth("ok", {})

    def _check_dead_letters(self) -> PartHealth:
        counts = self._dead_letters.counts()
        if counts is None:
            return PartHealth("ok", {"note": "not counted yet"})
        if not counts:
            return PartHealth("ok", {})
        shown = ", ".join(
            f"{count}{' or more' if count >= MOST else ''} of {name}"
            for name, count in counts.items()
        )
        problem = f"messages were given up: {shown}; see qlp dead-letters list"
        return PartHealth("degraded", {"problem": problem, "entities": dict(counts)})

    async def _check_sandbox(self) -> PartHealth:
        url = self._settings.sandbox_url
        if url is None:
            return PartHealth("ok", {"note": "not observed: QLP_SANDBOX_URL is not set"})
        try:
            health = await ask_sandbox_host(url, _CHECK_SECONDS)
        except SandboxUnreachable as error:
            return PartHealth("degraded", {"problem": str(error)})
        return PartHealth("ok" if health.ready else "degraded", health.report)
