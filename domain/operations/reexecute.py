"""Runs recorded programs again and says what comes out differently. Writes nothing to the log.

The programs run in a sandbox of their own, outside of the queues: results on `sandbox-results`
would be recorded. What a program prints may differ by itself (clocks, random numbers).
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import msgspec
from psycopg_pool import AsyncConnectionPool

from domain.application.repository import IntentRepository
from domain.contracts.job import JobFile, SandboxJob, SandboxResult, Verdict
from domain.eventlog.log import EventLog
from domain.intents.content import MAX_FILES
from domain.intents.event_parts import RunOutcome
from domain.intents.evolve import CorruptStream
from domain.intents.state import IntentState, Run
from domain.messaging.routing import job_of
from domain.operations.sandbox_process import SandboxCommand, SandboxProcess
from domain.operations.selection import Selected
from domain.runs.artifacts import Artifacts

#: Costs are compared above these differences alone: below, it is the machine's noise.
NOISE = {"wall_ms": 50.0, "cpu_ms": 50.0, "peak_memory_bytes": 8.0 * 1024**2}

_OUTCOME = (
    *("verdict", "exit_code", "signal", "stdout", "stderr"),
    *("stdout_truncated", "stderr_truncated"),
)

#: What a job that is handed over as one line may carry beside its program, bytes.
MAX_INPUT_BYTES = 512 * 1024


class _InputsMissing(Exception):
    """What a step needs of others cannot be had; the message says why."""


Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One program, then and now; values as ``field: (recorded, now)``.

    Attributes:
        outcome: verdict, exit code, signal and outputs that differ.
        costs: time in ms and memory in bytes that differ beyond the tolerance.
        recorded_by, run_by: runtime, and image where there is one.
    """

    intent_id: UUID
    outcome: dict[str, tuple[Any, Any]]
    costs: dict[str, tuple[float, float]]
    recorded_by: str
    run_by: str


@dataclass(slots=True)
class Reexecuted:
    """What came of it, in the order of the selection.

    Attributes:
        total: intents that were selected.
        same: programs that came out as recorded, at the same cost.
        changed: those that did not.
        not_run: programs the sandbox could not run, and why.
        skipped: intents without a recorded run to compare with, and why.
    """

    total: int
    same: int = 0
    changed: list[Comparison] = field(default_factory=list)
    not_run: dict[UUID, str] = field(default_factory=dict)
    skipped: dict[UUID, str] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether every program ran and came out as recorded, whatever it cost."""
        return not self.not_run and not any(each.outcome for each in self.changed)

    def summary(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "total": self.total,
            "same": self.same,
            "agrees": self.agrees,
            "changed": self.changed,
            "not_run": {str(key): why for key, why in self.not_run.items()},
            "skipped": {str(key): why for key, why in self.skipped.items()},
        }


class Reexecution:
    """Runs the recorded programs of ``selected`` with ``command``.

    Args:
        pool: the application's connections.
        command: how to start the sandbox.
        tolerance: by what part a cost may differ, 0.5 for 50 %.
    """

    def __init__(
        self, pool: AsyncConnectionPool, command: SandboxCommand, tolerance: float
    ) -> None:
        self._repository = IntentRepository(EventLog(pool))
        self._artifacts = Artifacts(pool)
        self._command = command
        self._tolerance = tolerance

    async def run(
        self,
        selected: Sequence[Selected],
        progress: Progress = lambda _done, _total: None,
    ) -> Reexecuted:
        """Run and compare all of them.

        Raises:
            OperationError: the sandbox cannot run here, or it ended before all was answered.
        """
        result = Reexecuted(total=len(selected))
        waiting: dict[UUID, tuple[UUID, RunOutcome]] = {}
        async with self._command.started() as process:
            sending = asyncio.create_task(self._send(process, selected, waiting, result))
            try:
                async for answer in process.results():
                    intent_id, recorded = waiting.pop(answer.run_id)
                    self._compare(intent_id, recorded, answer, result)
                    progress(_done(result), result.total)
                await sending
            finally:
                sending.cancel()
                await asyncio.wait({sending})
        process.check_ended(unanswered=len(waiting))
        order = {item.intent_id: place for place, item in enumerate(selected)}
        result.changed.sort(key=lambda comparison: order[comparison.intent_id])
        result.not_run = dict(sorted(result.not_run.items(), key=lambda item: order[item[0]]))
        return result

    async def _send(
        self,
        process: SandboxProcess,
        selected: Sequence[Selected],
        waiting: dict[UUID, tuple[UUID, RunOutcome]],
        result: Reexecuted,
    ) -> None:
        try:
            for item in selected:
                try:
                    found = _recorded(await self._repository.load(item.intent_id))
                except (CorruptStream, ValueError) as error:
                    result.skipped[item.intent_id] = f"the stream cannot be read: {error}"
                    continue
                if found is None:
                    result.skipped[item.intent_id] = "no run of it has ended by itself"
                    continue
                job, outcome = found
                try:
                    job = await self._with_inputs(item.tenant_id, job)
                except _InputsMissing as error:
                    result.skipped[item.intent_id] = str(error)
                    continue
                waiting[job.run_id] = (item.intent_id, outcome)
                await process.send(job)
        finally:
            process.end_of_jobs()

    async def _with_inputs(self, tenant_id: str, job: SandboxJob) -> SandboxJob:
        """``job`` with the artifacts of other steps among its files: nobody fetches them there."""
        if not job.inputs:
            return job
        if len(job.files) + len(job.inputs) > MAX_FILES or (
            sum(wanted.size for wanted in job.inputs) > MAX_INPUT_BYTES
        ):
            raise _InputsMissing("the artifacts it needs are too many or too large to hand over")
        files = []
        for wanted in job.inputs:
            content = await self._artifacts.content(tenant_id, wanted.sha256)
            if content is None:
                raise _InputsMissing(f"{wanted.path!r}, which it needs, is kept no longer")
            encoded = base64.b64encode(content).decode()
            files.append(JobFile(path=wanted.path, content=encoded, encoding="base64"))
        return job.model_copy(update={"files": (*job.files, *files), "inputs": ()})

    def _compare(
        self, intent_id: UUID, recorded: RunOutcome, now: SandboxResult, result: Reexecuted
    ) -> None:
        if now.verdict is Verdict.INFRASTRUCTURE_ERROR:
            result.not_run[intent_id] = now.error or "the sandbox failed"
            return
        outcome = outcome_differences(recorded, now)
        usage = now.usage.model_dump() if now.usage else {}
        costs = cost_differences(recorded.usage, usage, self._tolerance)
        if not outcome and not costs:
            result.same += 1
            return
        result.changed.append(
            Comparison(
                intent_id,
                outcome,
                costs,
                _where(recorded.runtime, recorded.image),
                _where(now.runtime, now.image),
            )
        )


def outcome_differences(recorded: RunOutcome, now: SandboxResult) -> dict[str, tuple[Any, Any]]:
    """Fields of the outcome that differ, as ``field: (recorded, now)``."""
    after = now.model_dump(mode="json")
    before = msgspec.structs.asdict(recorded)
    return {name: (before[name], after[name]) for name in _OUTCOME if before[name] != after[name]}


def cost_differences(
    recorded: Mapping[str, float | int | None],
    now: Mapping[str, float | int | None],
    tolerance: float,
) -> dict[str, tuple[float, float]]:
    """Costs that differ by more than ``tolerance`` of what was recorded, and more than `NOISE`.

    What either side did not measure is not compared.
    """
    before, after = _costs(recorded), _costs(now)
    return {
        name: (before[name], after[name])
        for name in before.keys() & after.keys()
        if abs(after[name] - before[name]) > max(tolerance * before[name], NOISE[name])
    }


def _costs(usage: Mapping[str, float | int | None]) -> dict[str, float]:
    user, system = usage.get("cpu_user_ms"), usage.get("cpu_system_ms")
    measured = {
        "wall_ms": usage.get("wall_ms"),
        "cpu_ms": None if user is None or system is None else user + system,
        "peak_memory_bytes": usage.get("peak_memory_bytes"),
    }
    return {name: float(value) for name, value in measured.items() if value is not None}


def _recorded(state: IntentState | None) -> tuple[SandboxJob, RunOutcome] | None:
    """The last run that the program, not the sandbox, has ended, as a job under a new id."""
    if state is None:
        return None
    for run in reversed(state.runs):
        if run.outcome is not None and not run.outcome.retryable:
            again = Run(uuid4(), run.attempt, None, limits=run.limits, step=run.step)
            return job_of(state, again), run.outcome
    return None


def _where(runtime: str, image: str | None) -> str:
    return f"{runtime} {image}" if image else runtime


def _done(result: Reexecuted) -> int:
    return result.same + len(result.changed) + len(result.not_run) + len(result.skipped)
