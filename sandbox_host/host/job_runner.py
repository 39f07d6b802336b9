"""Runs one job from admission to its result: inputs, memory, heartbeat, the run, artifacts."""

from __future__ import annotations

import contextlib
import logging
from contextlib import AbstractContextManager
from uuid import UUID

from domain.contracts.job import SandboxResult, Verdict
from sandbox_host.host.admission import MemoryBudget
from sandbox_host.host.heartbeat import HeartbeatClient
from sandbox_host.host.inputs import InputFetcher, InputsUnavailable
from sandbox_host.host.messages import failure
from sandbox_host.host.status import HostStatus
from sandbox_host.host.supervisor import Supervisor
from sandbox_host.host.uploads import Uploader
from sandbox_host.run.background import unless_set
from sandbox_host.run.events import run_ended
from sandbox_host.run.job import InvalidJob, PreparedJob
from sandbox_host.runtimes.base import RunControl, RunResult, Runtime, RuntimeFailure

log = logging.getLogger(__name__)


class NotNow(Exception):
    """The job cannot run on this host at present; another host may be able to run it."""


class Runner:
    """Runs jobs with the supervisor's runtime.

    Args:
        memory: shared by all programs.
        heartbeat: None if there is no application to report to.
        inputs: fetches a job's inputs.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        memory: MemoryBudget,
        heartbeat: HeartbeatClient | None,
        inputs: InputFetcher,
        uploader: Uploader,
        status: HostStatus,
    ) -> None:
        self._supervisor = supervisor
        self._memory = memory
        self._heartbeat = heartbeat
        self._inputs = inputs
        self._uploader = uploader
        self._status = status

    async def wait_for_capacity(self) -> bool:
        """Wait until an arriving job could start; returns True."""
        await self._memory.wait_for_capacity()
        return True

    async def run(self, job: PreparedJob) -> SandboxResult:
        """Run ``job`` and upload its artifacts; a failure shows in the verdict.

        Raises:
            NotNow: the runtime has failed since the job was received.
        """
        runtime = self._supervisor.runtime
        if runtime is None:
            raise NotNow("no runtime is ready any more")
        try:
            finished = await self._run(runtime, job)
        except InvalidJob as error:
            result = failure(*_ids(job), Verdict.INVALID_JOB, f"data.{error}")
        except InputsUnavailable as error:
            result = failure(*_ids(job), Verdict.INFRASTRUCTURE_ERROR, str(error))
        except RuntimeFailure as error:
            self._status.failed(f"{runtime.name}: {error}")
            log.error("run %s: %s failed: %s", job.job.run_id, runtime.name, error)
            self._supervisor.suspect()
            why = f"{runtime.name}: {error}"
            result = failure(*_ids(job), Verdict.INFRASTRUCTURE_ERROR, why)
        else:
            self._supervisor.proved()
            result = await self._uploader.deliver(job.job, finished)
        self._status.finished[result.verdict] += 1
        run_ended(result)
        return result

    async def _run(self, runtime: Runtime, job: PreparedJob) -> RunResult:
        control = RunControl()
        # Followed from here on, so that a job cancelled while it waits for memory never starts.
        with self._following(job, control):
            fetched = await unless_set(control.kill, self._inputs.fetch(job))
            if fetched is None:
                return _killed(job)
            job = fetched
            async with self._memory.reserve(self._memory_of(runtime, job)):
                if control.kill.is_set():
                    return _killed(job)
                self._status.running += 1
                try:
                    return await runtime.run(job, control)
                finally:
                    self._status.running -= 1

    def _following(self, job: PreparedJob, control: RunControl) -> AbstractContextManager[None]:
        if self._heartbeat is None:
            return contextlib.nullcontext()
        return self._heartbeat.following(job.job, control)

    def _memory_of(self, runtime: Runtime, job: PreparedJob) -> int:
        """Bytes of this machine's memory that the program may use."""
        readiness = self._supervisor.readiness.get(runtime.name)
        local = readiness is None or readiness.local
        return job.job.limits.memory_bytes if local else 0


def _killed(job: PreparedJob) -> RunResult:
    why = "killed on request before it started"
    return RunResult(failure(*_ids(job), Verdict.KILLED_BY_OPERATOR, why))


def _ids(job: PreparedJob) -> tuple[UUID, UUID]:
    return job.job.run_id, job.job.intent_id
