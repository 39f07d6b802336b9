"""Runs recorded programs again, and compares the results. Writes nothing to the log.

The programs run in a sandbox of their own, without the queues: results on `sandbox-results` would
be recorded. Outputs may differ for reasons of the program's own, such as clocks or random numbers.
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

#: Smaller differences of costs are noise of the machine, and not reported.
NOISE = {"wall_ms": 50.0, "cpu_ms": 50.0, "peak_memory_bytes": 8.0 * 1024**2}

_OUTCOME = (
    *("verdict", "exit_code", "signal", "stdout", "stderr"),
    *("stdout_truncated", "stderr_truncated"),
)

#: Most bytes of artifacts that a job, sent as one line, may carry besides its program.
MAX_INPUT_BYTES = 512 * 1024


class _InputsMissing(Exception):
    """Artifacts of other steps that a step needs cannot be sent; the message says why."""


Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs for one program, as ``field: (recorded, now)``.

    Attributes:
        outcome: of verdict, exit code, signal and outputs.
        costs: of times in ms and memory in bytes, beyond the tolerance.
        recorded_by, run_by: the runtime, with its image if it has one.
    """

    intent_id: UUID
    outcome: dict[str, tuple[Any, Any]]
    costs: dict[str, tuple[float, float]]
    recorded_by: str
    run_by: str


@dataclass(slots=True)
class Reexecuted:
    """The results, in the order of the selection.

    Attributes:
        total: selected intents.
        same: programs with the recorded outcome and costs.
        changed: programs whose outcome or costs differ.
        not_run: programs that the sandbox could not run, and why.
        skipped: intents without a recorded run to compare with, and why.
    """

    total: int
    same: int = 0
    changed: list[Comparison] = field(default_factory=list)
    not_run: dict[UUID, str] = field(default_factory=dict)
    skipped: dict[UUID, str] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether every program ran and had the recorded outcome, whatever its costs."""
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
        tolerance: the part by which a cost may differ, 0.5 for 50 %.
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
            OperationError: the sandbox cannot run here, or ended before it had answered everything.
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
                    result.skipped[item.intent_id] = "it has no run that the program ended"
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
        """``job`` with the artifacts it needs among its files: this sandbox cannot fetch them."""
        if not job.inputs:
            return job
        if len(job.files) + len(job.inputs) > MAX_FILES or (
            sum(wanted.size for wanted in job.inputs) > MAX_INPUT_BYTES
        ):
            raise _InputsMissing(
                "it needs more artifacts of other steps, or larger ones, than can be sent"
            )
        files = []
        for wanted in job.inputs:
            content = await self._artifacts.content(tenant_id, wanted.sha256)
            if content is None:
                raise _InputsMissing(
                    f"the artifact {wanted.path!r}, which it needs, has expired and is deleted"
                )
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
    """Costs that differ by more than ``tolerance`` of the recorded value, and more than `NOISE`.

    Costs that either side did not measure are not compared.
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
    """The last run that the program and not the sandbox has ended, as a job with a new id."""
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
