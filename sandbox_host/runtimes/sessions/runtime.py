"""The sessions runtime: programs run in Azure Container Apps dynamic sessions, one session each.

A session is a Hyper-V guest in a pool of type ``PythonLTS``. The job is uploaded to its file area
as one archive, `launcher` is executed in it, and an archive of the program's artifacts is
downloaded before the session is deleted. The pool determines memory, disk and processes and turns
the network off; the job's own limits on these are not enforced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from pydantic import ValidationError

from domain.contracts.job import Usage
from domain.contracts.strict_json import read_as
from sandbox_host.run.artifacts import Collected, named_and_counted, skipped_artifact
from sandbox_host.run.background import unless_set
from sandbox_host.run.job import InvalidJob, PreparedJob, refused_for_good
from sandbox_host.run.output import CappedStream
from sandbox_host.run.verdicts import KILLED, Ending, Kill
from sandbox_host.run.wording import without_paths
from sandbox_host.runtimes.base import (
    Readiness,
    RunControl,
    RunRecord,
    RunResult,
    RuntimeFailure,
)
from sandbox_host.runtimes.canary import run_canary
from sandbox_host.runtimes.sessions.api import Refused, SessionPool, TooMuch
from sandbox_host.runtimes.sessions.job import (
    ARCHIVE_OVERHEAD,
    ARTIFACTS,
    JOB_ARCHIVE,
    LauncherOutput,
    NotStarted,
    Report,
    archive_of,
    code_of,
    skipped_in,
    unpack,
)

log = logging.getLogger(__name__)

#: Languages for which a ``PythonLTS`` session has an interpreter.
LANGUAGES = ("python", "shell")

#: Maximum seconds for which the service runs code; the part of them kept for unpacking, starting
#: and packing.
MAX_EXECUTION_SECONDS = 220
_LAUNCH_SECONDS = 10
MAX_WALL_SECONDS = MAX_EXECUTION_SECONDS - _LAUNCH_SECONDS

#: Seconds after its end was due at which this host gives up on an execution.
_GRACE_SECONDS = 15.0

#: Seconds that deleting a session may take; if it takes longer, the pool's cooldown ends it.
_DELETE_SECONDS = 5.0

_FIRST_POLL_SECONDS, _POLL_SECONDS = 0.05, 1.0

#: What the service returns instead of output when an execution took too long.
_SERVICE_TIMED_OUT = "Request timed out"

_UNFINISHED = frozenset({"NotStarted", "Running"})
_KILLS = {"deadline": Kill.DEADLINE, "output": Kill.OUTPUT, None: None}

#: The usual canary without the check of the user, who may be root in a guest of its own.
_CANARY = """\
import os, sys
assert os.getpid() != 1, "the program is PID 1"
open("written", "w").write("x")
sys.stdout.write(sys.stdin.read())
"""

_FIX = (
    "check that QLP_SANDBOX_SESSIONS_ENDPOINT is the management endpoint of a PythonLTS pool, that"
    " this host's identity has the role Azure ContainerApps Session Executor on it, and that the"
    " pool has room"
)


class SessionsRuntime:
    """See the module; satisfies `sandbox_host.runtimes.base.Runtime`.

    Args:
        pool: the session pool.
    """

    name = "sessions"

    def __init__(self, pool: SessionPool) -> None:
        self._pool = pool

    async def preflight(self) -> Readiness:
        """Run the canary in a session."""
        try:
            await run_canary(self, _CANARY)
        except RuntimeFailure as error:
            return Readiness(False, str(error), _FIX, local=False)
        return Readiness(
            True,
            "the canary ran",
            details={
                "limits": "wall time and output; memory, disk and processes are the pool's",
                "seccomp": "the session's own",
                "apparmor": "the session's own",
                "verdicts": "as reported from within the session",
                "max_wall_seconds": str(MAX_WALL_SECONDS),
            },
            languages=LANGUAGES,
            isolation="a Hyper-V guest for each run, in Azure Container Apps",
            local=False,
        )

    async def run(self, job: PreparedJob, control: RunControl | None = None) -> RunResult:
        """See `Runtime.run`; output is reported only when the program has ended."""
        _check(job)
        control = control or RunControl()
        record = RunRecord.of(job, self.name, control)
        session = f"{job.job.run_id.hex}{secrets.token_hex(8)}"
        async with self._deleted_afterwards(session):
            result = await unless_set(control.kill, self._work(session, record))
            return result or _killed(record, Kill.REQUEST)

    async def reap(self) -> int:
        """Remove nothing: the pool itself ends sessions that are not used any more."""
        return 0

    async def aclose(self) -> None:
        """See `Runtime.aclose`."""
        await self._pool.aclose()

    @contextlib.asynccontextmanager
    async def _deleted_afterwards(self, session: str) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.shield(self._delete(session))

    async def _delete(self, session: str) -> None:
        try:
            await asyncio.wait_for(self._pool.delete(session), _DELETE_SECONDS)
        except (RuntimeFailure, TimeoutError) as error:
            log.warning("session %s is left to the pool's cooldown: %s", session[:32], error)

    async def _work(self, session: str, record: RunRecord) -> RunResult:
        job = record.job
        await self._pool.upload(session, JOB_ARCHIVE, archive_of(job))
        record.started = time.perf_counter()
        execution = await self._execute(session, job)
        if execution is None:
            return _killed(record, Kill.DEADLINE)
        result = execution.get("result") or {}
        report = _report_of(execution, result)
        if report is None:
            return _killed(record, Kill.DEADLINE)
        _feed(record.stdout, result.get("stdout"), report.stdout_bytes)
        _feed(record.stderr, result.get("stderr"), report.stderr_bytes)
        ending = Ending(report.returncode, _KILLS[report.killed])
        usage = Usage(wall_ms=float(result.get("executionTimeInMilliseconds") or _elapsed(record)))
        return record.result(ending, usage, await self._artifacts(session, job, report))

    async def _execute(self, session: str, job: PreparedJob) -> dict[str, Any] | None:
        """The execution after its end; None if it did not end in time."""
        seconds = math.ceil(job.job.limits.wall_seconds) + _LAUNCH_SECONDS
        code, stream_limit = code_of(job), job.job.limits.output_bytes + 1
        try:
            async with asyncio.timeout(seconds + _GRACE_SECONDS):
                answer = await self._pool.execute(session, code, seconds, stream_limit)
                execution, pause = _checked(answer), _FIRST_POLL_SECONDS
                while execution["status"] in _UNFINISHED:
                    await asyncio.sleep(pause)
                    pause = min(_POLL_SECONDS, pause * 1.5)
                    execution = _checked(await self._pool.execution(session, execution["id"]))
                return execution
        except TimeoutError:
            return None

    async def _artifacts(self, session: str, job: PreparedJob, report: Report) -> Collected:
        max_bytes = job.job.limits.artifact_bytes
        packed = b""
        if report.packed:
            try:
                packed = await self._pool.download(session, ARTIFACTS, max_bytes + ARCHIVE_OVERHEAD)
            except (TooMuch, Refused) as error:
                lost = skipped_artifact(".", f"could not be fetched: {without_paths(str(error))}")
                skipped, more = named_and_counted((lost,), skipped_in(report), more=report.more)
                return Collected(skipped=skipped, more_skipped=more)
        return await asyncio.to_thread(unpack, packed, max_bytes, report)


def _check(job: PreparedJob) -> None:
    if job.job.language not in LANGUAGES:
        offered = ", ".join(LANGUAGES)
        raise InvalidJob(f"language: sessions run {offered}, not {job.job.language}")
    if job.job.limits.wall_seconds > MAX_WALL_SECONDS:
        raise InvalidJob(
            f"limits.wall_seconds: sessions run programs for at most {MAX_WALL_SECONDS} seconds"
        )


def _checked(execution: Any) -> dict[str, Any]:  # noqa: ANN401
    """An execution in the API's format, with the fields that are needed to follow it."""
    if not isinstance(execution, dict) or not isinstance(execution.get("status"), str):
        raise RuntimeFailure("the session pool's answer is not an execution")
    if execution["status"] in _UNFINISHED and not isinstance(execution.get("id"), str):
        raise RuntimeFailure("the session pool's answer has no ID of the execution")
    return execution


def _report_of(execution: dict[str, Any], result: dict[str, Any]) -> Report | None:
    """The launcher's report; None if the service ended the execution because it took too long.

    Raises:
        InvalidJob: the session's kernel cannot accept the job's file names or arguments.
        RuntimeFailure: the session failed; the program may have run.
    """
    if execution["status"] != "Succeeded":
        problem = str(result.get("stderr") or execution.get("error") or execution["status"])
        if problem.startswith(_SERVICE_TIMED_OUT):
            return None
        raise RuntimeFailure(f"the session failed: {problem.strip().splitlines()[-1][:300]}")
    try:
        output = str(result.get("executionResult")).encode(errors="replace")
        report = read_as(LauncherOutput, output).root
    except ValidationError:
        raise RuntimeFailure("the session's launcher gave no report") from None
    if isinstance(report, NotStarted):
        refused = OSError(report.errno, os.strerror(report.errno))
        raise refused_for_good(refused, "files or args") or RuntimeFailure(
            f"the session could not start the program: {refused.strerror}"
        )
    return report


def _feed(stream: CappedStream, text: object, written: int) -> None:
    """Give ``stream`` what the session returned, which may be less than was written."""
    stream.feed(str(text or "").encode(errors="replace"))
    stream.total = max(stream.total, written)


def _killed(record: RunRecord, kill: Kill) -> RunResult:
    return record.result(Ending(KILLED, kill), Usage(wall_ms=_elapsed(record)), Collected())


def _elapsed(record: RunRecord) -> float:
    return (time.perf_counter() - record.started) * 1e3
