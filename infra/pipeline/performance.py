"""Measures a deployment with real programs, and compares the figures with limits."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from uuid import uuid4

from infra.pipeline.client import Client, PipelineError

_PERCENTILES = 20  # in steps of 5 %: the last cut is the 95th percentile


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians and 95th percentiles, milliseconds.

    Attributes:
        accept_p50, accept_p95: from ``POST /intents`` to its answer.
        succeed_p50, succeed_p95: from there to the program's success.
        count: the number of intents.
    """

    accept_p50: float
    accept_p95: float
    succeed_p50: float
    succeed_p95: float
    count: int

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper limits of the 95th percentiles, milliseconds."""

    accept_p95: float
    succeed_p95: float

    def broken_by(self, figures: Figures) -> list[str]:
        """What is too slow, in words; empty if nothing is."""
        pairs = {
            "POST /intents": (figures.accept_p95, self.accept_p95),
            "submitted to succeeded": (figures.succeed_p95, self.succeed_p95),
        }
        return [
            f"{what}: p95 is {found:.0f} ms, the limit is {limit:.0f} ms"
            for what, (found, limit) in pairs.items()
            if found > limit
        ]


async def measure(
    client: Client, count: int, concurrency: int, progress: Callable[[int], None]
) -> Figures:
    """Submit ``count`` programs, ``concurrency`` at a time, and wait for each.

    Raises:
        PipelineError: one of them did not succeed.
    """
    slots = asyncio.Semaphore(concurrency)
    accepted: list[float] = []
    succeeded: list[float] = []

    async def one() -> None:
        async with slots:
            accept, succeed = await _submit(client)
            accepted.append(accept)
            succeeded.append(succeed)
            progress(len(succeeded))

    await _submit(client)  # not counted: its connections and boxes are cold
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(one())
    except ExceptionGroup as errors:
        raise PipelineError(str(errors.exceptions[0])) from None
    accept_cuts = statistics.quantiles(accepted, n=_PERCENTILES, method="inclusive")
    succeed_cuts = statistics.quantiles(succeeded, n=_PERCENTILES, method="inclusive")
    return Figures(
        statistics.median(accepted),
        accept_cuts[-1],
        statistics.median(succeeded),
        succeed_cuts[-1],
        count,
    )


async def _submit(client: Client) -> tuple[float, float]:
    program = {"language": "python", "files": {"main.py": "print(1)"}}
    started = perf_counter()
    reply = await client.request(
        "POST", "/intents", {"program": program}, headers={"Idempotency-Key": str(uuid4())}
    )
    accepted = perf_counter()
    if reply.status != 202:
        raise PipelineError(f"POST /intents answered {reply.status} {str(reply.body)[:300]}")
    path = f"/intents/{reply.body['id']}"
    reply = await client.request("GET", path, headers={"Prefer": "wait=30"})
    ended = perf_counter()
    if reply.body.get("status") != "succeeded":
        raise PipelineError(f"GET {path} answered {reply.status} {str(reply.body)[:300]}")
    return (accepted - started) * 1e3, (ended - accepted) * 1e3
