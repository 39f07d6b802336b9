"""``python -m sandbox_host.run_once``: run jobs from standard input, without a bus.

For tools that need to know what a program does in this sandbox and record nothing. Each input line
is a `SandboxJob` as JSON, each output line a `SandboxResult`, in the order in which jobs end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import stat
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from domain.contracts.connections import private_http_url
from domain.contracts.job import MAX_JOB_NODES, SandboxJob, SandboxResult, Verdict
from domain.contracts.redaction import guard
from domain.contracts.strict_json import read_as
from domain.contracts.validation import describe
from sandbox_host.host.messages import failure
from sandbox_host.linux.processes import adopt_orphans, stop_ignoring_signals
from sandbox_host.logs import configure
from sandbox_host.run.job import InvalidJob, prepare
from sandbox_host.runtimes.base import Runtime, RuntimeFailure
from sandbox_host.runtimes.choice import RUNTIME_NAMES, RuntimeOptions, make_runtime
from sandbox_host.settings import DEFAULT_IMAGES

#: Maximum bytes of a job's line; a job that fits into a message is far smaller.
MAX_LINE_BYTES = 1024**2


class WrongInput(ValueError):
    """A line is not a job, or standard input cannot be read; the message says which and why."""


class NotReady(Exception):
    """The runtime cannot run jobs here; the message says why, and what to do."""


async def run_jobs(runtime: Runtime, concurrency: int) -> None:
    """Run every job on standard input, at most ``concurrency`` at once.

    Raises:
        NotReady: the runtime's canary does not run.
        WrongInput: a line is not a job; the jobs before it are answered.
        ExceptionGroup: with BrokenPipeError: nobody reads the results any more.
    """
    readiness = await runtime.preflight()
    if not readiness.ready:
        raise NotReady(f"{runtime.name} is not ready: {readiness.reason}; {readiness.fix}")
    await runtime.reap()
    slots = asyncio.Semaphore(concurrency)
    lines = await _standard_input()
    async with asyncio.TaskGroup() as running:
        problem = await _start_all(runtime, lines, slots, running)
    if problem is not None:
        raise problem


async def _start_all(
    runtime: Runtime,
    lines: asyncio.StreamReader,
    slots: asyncio.Semaphore,
    running: asyncio.TaskGroup,
) -> WrongInput | None:
    """Start a run for each line; the error that ended the input early, if there was one."""
    number = 0
    while True:
        await slots.acquire()  # before reading, so that waiting jobs stay with the sender
        number += 1
        try:
            line = await lines.readline()
        except ValueError:
            return WrongInput(f"line {number}: longer than {MAX_LINE_BYTES} bytes")
        if not line:
            return None
        try:
            job = read_as(SandboxJob, line, max_nodes=MAX_JOB_NODES)
        except ValidationError as error:
            return WrongInput(f"line {number}: {describe(error)}")
        running.create_task(_answer(runtime, job, slots))


async def _standard_input() -> asyncio.StreamReader:
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):  # the loop cannot wait for other kinds
        raise WrongInput("standard input must be a pipe: cat jobs.jsonl | …")
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return reader


async def _answer(runtime: Runtime, job: SandboxJob, slots: asyncio.Semaphore) -> None:
    try:
        result = await _run(runtime, job)
    finally:
        slots.release()
    # In a thread: a slow reader of the results must not delay the programs' deadlines.
    await asyncio.to_thread(_write, result.model_dump_json().encode() + b"\n")


async def _run(runtime: Runtime, job: SandboxJob) -> SandboxResult:
    if job.inputs:
        why = "inputs: nothing is fetched here; add them to files"
        return failure(job.run_id, job.intent_id, Verdict.INVALID_JOB, why)
    try:
        return (await runtime.run(prepare(job))).result
    except InvalidJob as error:
        return failure(job.run_id, job.intent_id, Verdict.INVALID_JOB, str(error))
    except RuntimeFailure as error:
        return failure(job.run_id, job.intent_id, Verdict.INFRASTRUCTURE_ERROR, str(error))


def _write(line: bytes) -> None:
    sys.stdout.buffer.write(line)  # a buffered writer takes one thread at a time
    sys.stdout.buffer.flush()


async def _until_told_to_stop(runtime: Runtime, concurrency: int) -> None:
    working = asyncio.ensure_future(run_jobs(runtime, concurrency))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, working.cancel)
    try:
        await working  # cancelled, it kills its boxes first
    finally:
        await runtime.aclose()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox_host.run_once",
        description="Run jobs (SandboxJob, one JSON object per line) from standard input and write "
        "their results (SandboxResult) to standard output. Logs go to standard error.",
    )
    parser.add_argument("--runtime", choices=RUNTIME_NAMES, required=True)
    parser.add_argument(
        "--image",
        default=DEFAULT_IMAGES,
        metavar="NAME",
        help="image for the docker runtime; {language} is replaced by the job's (%(default)s)",
    )
    parser.add_argument(
        "--engine-runtime", metavar="NAME", help="the engine's OCI runtime, such as runsc"
    )
    parser.add_argument("--sessions-endpoint", metavar="URL", help="for the sessions runtime")
    parser.add_argument("--concurrency", type=int, default=1, metavar="N", help="1 to 256")
    given = parser.parse_args(arguments)
    if not 1 <= given.concurrency <= 256:
        parser.error("--concurrency: 1 to 256")
    if given.runtime == "sessions" and not given.sessions_endpoint:
        parser.error("--sessions-endpoint: the sessions runtime needs it")
    try:
        if given.sessions_endpoint:
            given.sessions_endpoint = private_http_url(given.sessions_endpoint)
    except ValueError as error:
        parser.error(f"--sessions-endpoint: {error}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if all jobs were answered, 1 if none can run, 2 for wrong input."""
    given = _parse(arguments)
    configure()
    guard(os.environ)
    adopt_orphans()
    stop_ignoring_signals()
    options = RuntimeOptions(
        images=given.image,
        engine_runtime=given.engine_runtime,
        sessions_endpoint=given.sessions_endpoint,
    )
    runtime = make_runtime(given.runtime, options)
    try:
        asyncio.run(_until_told_to_stop(runtime, given.concurrency))
    except asyncio.CancelledError:
        return 130
    except (NotReady, WrongInput) as error:
        sys.stderr.write(f"sandbox: {error}\n")
        return 2 if isinstance(error, WrongInput) else 1
    except ExceptionGroup as group:
        if group.split(BrokenPipeError)[1] is not None:
            raise
        # Nobody reads the results any more; without this, Python's flush at exit would fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
