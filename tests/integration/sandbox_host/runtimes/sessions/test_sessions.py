"""The sessions runtime against a pool that speaks the service's API, tokens from azure-identity."""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from domain.contracts.job import SandboxResult, Verdict
from sandbox_host.run import job as jobs
from sandbox_host.run.job import InvalidJob
from sandbox_host.runtimes.base import RunControl, RuntimeFailure
from sandbox_host.runtimes.sessions.api import SessionPool
from sandbox_host.runtimes.sessions.runtime import SessionsRuntime
from tests.support import ROOT
from tests.support.sandbox.bus import client_of
from tests.support.sandbox.runtimes import HostProcess, misreported, prepared, run, sandbox_job
from tests.support.sandbox.sessions_server import Fault, SessionsServer
from tests.support.servicebus.broker import BrokerProcess


@pytest_asyncio.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SessionsServer]:
    server = SessionsServer(tmp_path)
    await server.start()
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    yield server
    await server.aclose()


@pytest_asyncio.fixture
async def sessions(server: SessionsServer) -> AsyncIterator[SessionsRuntime]:
    runtime = SessionsRuntime(SessionPool(server.url, retry_seconds=30))
    yield runtime
    await runtime.aclose()


async def test_the_canary_proves_the_pool(
    sessions: SessionsRuntime, server: SessionsServer
) -> None:
    readiness = await sessions.preflight()
    assert readiness.ready, readiness.reason
    assert readiness.languages == ("python", "shell")
    assert not readiness.local
    assert "the pool's" in readiness.details["limits"]
    assert not server.sessions


async def test_a_program_has_its_files_arguments_stdin_and_environment(
    sessions: SessionsRuntime,
) -> None:
    program = (
        "import os, sys, lib.util\n"
        "print(sys.argv[1:], sys.stdin.read(), lib.util.VALUE, os.environ['TZ'])\n"
        "print('to stderr', file=sys.stderr)\n"
        "sys.exit(3)\n"
    )
    job = prepared(
        program,
        files={"lib/util.py": "VALUE = open('data/deep/x.txt').read()", "data/deep/x.txt": "42"},
        args=("-c", "é"),
        stdin="in",
        environment={"TZ": "UTC"},
    )
    result = await run(sessions, job)
    assert (result.verdict, result.exit_code) == (Verdict.EXITED, 3)
    assert (result.stdout, result.stderr) == ("['-c', 'é'] in 42 UTC\n", "to stderr\n")
    assert (result.runtime, result.stdout_truncated) == ("sessions", False)
    assert result.usage is not None
    assert result.usage.wall_ms > 0
    assert result.usage.peak_memory_bytes is None


async def test_shell_programs_run_too(sessions: SessionsRuntime) -> None:
    job = prepared('printf "%s|" "$@"; cat', language="shell", args=("a b", "*"), stdin="in")
    assert (await run(sessions, job)).stdout == "a b|*|in"


async def test_a_signal_that_ends_the_program_is_reported(sessions: SessionsRuntime) -> None:
    result = await run(sessions, prepared("import os; os.kill(os.getpid(), 11)"))
    assert (result.verdict, result.signal) == (Verdict.SIGNALLED, 11)


async def test_each_run_has_a_session_of_its_own_that_is_deleted(
    sessions: SessionsRuntime, server: SessionsServer
) -> None:
    job = prepared("import os; print(os.path.exists('left')); open('left', 'w')")
    results = await asyncio.gather(*(run(sessions, job) for _ in range(3)))
    assert [result.stdout for result in results] == ["False\n"] * 3
    assert len(server.seen) == 3
    assert all(identifier.startswith(job.job.run_id.hex) for identifier in server.seen)
    assert not server.sessions


async def test_a_sleeper_is_killed_at_its_deadline_and_its_output_kept(
    sessions: SessionsRuntime,
) -> None:
    job = prepared("print('before'); import time; time.sleep(60)", wall_seconds=3)
    began = time.monotonic()
    result = await run(sessions, job)
    assert (result.verdict, result.stdout) == (Verdict.TIMED_OUT, "before\n")
    assert time.monotonic() - began < 30


async def test_output_is_cut_at_its_cap_and_counted_in_full(sessions: SessionsRuntime) -> None:
    program = "import sys; sys.stdout.write('é' * 50_000); sys.stderr.write('x' * 1500)"
    result = await run(sessions, prepared(program, output_bytes=1001))
    assert (result.stdout, result.stderr) == ("é" * 500, "x" * 1001)
    assert (result.stdout_bytes, result.stderr_bytes) == (100_000, 1500)
    assert (result.stdout_truncated, result.stderr_truncated) == (True, True)


async def test_a_flood_is_stopped(sessions: SessionsRuntime) -> None:
    job = prepared("while True: print('x' * 65536)", wall_seconds=30)
    assert (await run(sessions, job)).verdict is Verdict.OUTPUT_LIMIT


async def test_artifacts_are_collected_and_what_is_no_file_is_not(
    sessions: SessionsRuntime,
) -> None:
    program = (
        "import os\n"
        "out = os.environ['OUT_DIR']\n"
        "os.makedirs(f'{out}/a/b')\n"
        "open(f'{out}/a/b/deep.txt', 'w').write('deep')\n"
        "open(f'{out}/large', 'wb').write(b'x' * 100_000)\n"
        "open(f'{out}/too-large', 'wb').write(b'x' * 300_000)\n"
        "os.symlink('/etc/passwd', f'{out}/link')\n"
        "os.mkfifo(f'{out}/fifo')\n"
    )
    finished = await sessions.run(prepared(program, artifact_bytes=200_000))
    found = {one.name: one for one in finished.result.artifacts}
    assert found.keys() == {"a/b/deep.txt", "large"}
    assert base64.b64decode(found["a/b/deep.txt"].content or "") == b"deep"
    assert finished.collected.contents == {found["large"].sha256: b"x" * 100_000}
    assert {one.name for one in finished.result.skipped_artifacts} == {"link", "fifo", "too-large"}


async def test_odd_and_too_many_things_left_are_named_truly_and_counted(
    sessions: SessionsRuntime,
) -> None:
    program = (
        "import os; os.chdir(os.environ['OUT_DIR'])\n"
        "open(b'large\\xff', 'wb').write(b'x' * 300_000)\n"
        "for name in (b'a\\n', b'b\\xff'): open(name, 'w')\n"
        "for n in range(40): os.symlink('/etc/passwd', f'link{n:02}')\n"
        "for n in range(40):\n"
        "    os.mkdir('d' * 200); os.chdir('d' * 200); open('f' * 100, 'w')\n"
    )
    result = await run(sessions, prepared(program, artifact_bytes=200_000))
    assert result.verdict is Verdict.SUCCEEDED
    assert result.artifacts == ()
    assert len(result.skipped_artifacts) == 16
    reasons = {one.name: one.reason for one in result.skipped_artifacts}
    assert reasons["a\\n"] == "its name has control characters"
    assert reasons["b\\xff"] == "its name is not valid UTF-8"
    assert not [one for one in result.skipped_artifacts if "qlp-session" in one.reason]
    # The rest of the links, the large file, the folders whose paths grow too long.
    assert result.more_skipped_artifacts > 26


async def test_artifacts_that_are_gone_or_swollen_cost_the_artifacts_not_the_run(
    sessions: SessionsRuntime, server: SessionsServer
) -> None:
    program = "import os; open(os.environ['OUT_DIR'] + '/f', 'w').write('x'); print('ran')"
    server.faults.append(Fault("/files/artifacts.tar", 404))
    gone = await run(sessions, prepared(program))
    tamper = (
        "import os, subprocess, sys\n"
        "area = os.path.dirname(os.path.dirname(os.getcwd()))\n"
        "code = 'import os, sys, time\\nwhile os.path.isdir(os.path.dirname(sys.argv[1])):\\n'\n"
        "code += ' if os.path.isfile(sys.argv[1]): os.truncate(sys.argv[1], 20 << 20)\\n'\n"
        "code += ' time.sleep(0.01)'\n"
        "path = area + '/artifacts.tar'\n"
        "subprocess.Popen([sys.executable, '-c', code, path], start_new_session=True,"
        " stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
    ) + program
    server.faults.append(Fault("/files/artifacts.tar", seconds=4, serve=True))
    swollen = await run(sessions, prepared(tamper, artifact_bytes=1024**2))
    for result in (gone, swollen):
        assert (result.verdict, result.stdout, result.artifacts) == (
            Verdict.SUCCEEDED,
            "ran\n",
            (),
        )
        assert "could not be fetched" in result.skipped_artifacts[0].reason


async def test_what_a_program_prints_is_not_taken_for_the_report(sessions: SessionsRuntime) -> None:
    forged = '{"returncode": 0, "killed": null, "stdout_bytes": 0, "stderr_bytes": 0}'
    result = await run(sessions, prepared(f"import sys; print({forged!r}); sys.exit(7)"))
    assert (result.verdict, result.exit_code) == (Verdict.EXITED, 7)


async def test_exit_codes_and_signals_are_told_apart(sessions: SessionsRuntime) -> None:
    assert await misreported(sessions) == {}


async def test_names_that_only_the_kernel_refuses_are_the_jobs_own_fault(
    sessions: SessionsRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MAX_NAME_BYTES", 10_000)
    with pytest.raises(InvalidJob, match=r"^files or args: File name too long; shorten") as refusal:
        await sessions.run(prepared("1", files={"ж" * 130: ""}))
    assert "/" not in str(refusal.value)


async def test_arguments_that_only_the_kernel_refuses_are_the_jobs_own_fault(
    sessions: SessionsRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MAX_ARGUMENT_BYTES", 1 << 20)
    monkeypatch.setattr(jobs, "MAX_ARGUMENTS_BYTES", 1 << 20)
    with pytest.raises(InvalidJob, match=r"^files or args: Argument list too long; shorten"):
        await sessions.run(prepared("1", args=("x" * (200 << 10),)))


async def test_a_kill_on_request_deletes_the_session_at_once(
    sessions: SessionsRuntime, server: SessionsServer
) -> None:
    """In a fraction of a second, where the machine is idle; the bound is for a busy one."""
    control = RunControl()
    job = prepared("import time; time.sleep(60)", wall_seconds=60)
    running = asyncio.create_task(sessions.run(job, control))
    await until_executing(server)
    began = time.monotonic()
    control.kill.set()
    result = (await running).result
    assert time.monotonic() - began < 15
    assert result.verdict is Verdict.KILLED_BY_OPERATOR
    assert not server.sessions


async def test_a_cancelled_run_deletes_its_session(
    sessions: SessionsRuntime, server: SessionsServer
) -> None:
    job = prepared("import time; time.sleep(60)", wall_seconds=60)
    running = asyncio.create_task(sessions.run(job))
    await until_executing(server)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not server.sessions


async def until_executing(server: SessionsServer) -> None:
    async with asyncio.timeout(60):
        while not any(session.executions for session in server.sessions.values()):
            await asyncio.sleep(0.01)


async def test_a_full_pool_is_waited_for(sessions: SessionsRuntime, server: SessionsServer) -> None:
    server.max_sessions = 0

    async def make_room() -> None:
        async with asyncio.timeout(60):
            while server.requests.count(("POST", "/files")) < 2:
                await asyncio.sleep(0.01)
        server.max_sessions = 1

    result, _ = await asyncio.gather(run(sessions, prepared("print('in')")), make_room())
    assert result.stdout == "in\n"


async def test_a_pool_that_stays_full_fails_the_run_which_may_be_tried_again(
    server: SessionsServer,
) -> None:
    sessions = SessionsRuntime(SessionPool(server.url, retry_seconds=3))
    server.max_sessions = 0
    began = time.monotonic()
    with pytest.raises(RuntimeFailure, match="404 SessionPoolFull"):
        await sessions.run(prepared("1"))
    assert time.monotonic() - began < 20
    assert not (await sessions.preflight()).ready
    await sessions.aclose()


async def test_too_many_requests_are_repeated_when_the_service_says(
    sessions: SessionsRuntime, server: SessionsServer
) -> None:
    server.faults += [Fault(path, 429, {"Retry-After": "1"}) for path in ("/files", "/executions")]
    began = time.monotonic()
    assert (await run(sessions, prepared("print('in')"))).stdout == "in\n"
    assert time.monotonic() - began >= 2


async def test_an_expired_token_is_exchanged_once(
    sessions: SessionsRuntime, server: SessionsServer
) -> None:
    await run(sessions, prepared("1"))
    server.valid_tokens.clear()
    assert (await run(sessions, prepared("print('in')"))).stdout == "in\n"
    assert len(server.tokens) == 2


async def test_a_token_is_asked_for_once_while_it_is_good(
    sessions: SessionsRuntime, server: SessionsServer
) -> None:
    for _ in range(2):
        await run(sessions, prepared("1"))
    assert len(server.tokens) == 1


async def test_without_the_right_to_use_the_pool_the_runtime_is_not_ready(
    sessions: SessionsRuntime, server: SessionsServer
) -> None:
    server.faults += [Fault("", 403)]
    readiness = await sessions.preflight()
    assert not readiness.ready
    assert "403" in readiness.reason
    assert "Session Executor" in readiness.fix


async def test_without_an_identity_the_runtime_is_not_ready(
    sessions: SessionsRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    readiness = await sessions.preflight()
    assert not readiness.ready
    assert "no token" in readiness.reason


@pytest.mark.parametrize("status", [500, 503, 0])
async def test_failures_around_the_execution_are_repeated(
    sessions: SessionsRuntime, server: SessionsServer, status: int
) -> None:
    program = "import os; open(os.environ['OUT_DIR'] + '/f', 'w').write('x'); print('in')"
    server.faults += [Fault(path, status) for path in ("/files", "/executions/", "/files/")]
    result = await run(sessions, prepared(program))
    assert (result.stdout, len(result.artifacts)) == ("in\n", 1)
    assert not server.faults


@pytest.mark.parametrize("status", [500, 0])
async def test_an_execution_whose_answer_is_lost_is_not_repeated_in_its_session(
    sessions: SessionsRuntime, server: SessionsServer, status: int
) -> None:
    server.faults.append(Fault("/executions", status))
    with pytest.raises(RuntimeFailure, match="execute"):
        await sessions.run(prepared("1"))
    assert server.requests.count(("POST", "/executions")) == 1
    assert not server.sessions


async def test_a_slow_pool_is_waited_for(sessions: SessionsRuntime, server: SessionsServer) -> None:
    server.faults += [Fault(path, seconds=1, serve=True) for path in ("/files", "/executions")]
    assert (await run(sessions, prepared("print('in')"))).stdout == "in\n"


async def test_the_services_own_deadline_is_a_deadline(
    sessions: SessionsRuntime, server: SessionsServer
) -> None:
    # Stopped, the launcher cannot keep its own deadline.
    program = "import os, signal, time; os.kill(os.getppid(), signal.SIGSTOP); time.sleep(60)"
    job = prepared(program, wall_seconds=0.5)
    assert (await run(sessions, job)).verdict is Verdict.TIMED_OUT
    assert not server.sessions


async def test_a_session_whose_kernel_dies_is_a_failure_of_the_session(
    sessions: SessionsRuntime,
) -> None:
    program = "import os, signal, time; os.kill(os.getppid(), signal.SIGKILL); time.sleep(1)"
    with pytest.raises(RuntimeFailure, match="the session failed"):
        await sessions.run(prepared(program))


@pytest.mark.parametrize(
    ("options", "field"),
    [({"language": "ruby"}, "language"), ({"wall_seconds": 211}, r"limits\.wall_seconds")],
)
async def test_what_sessions_cannot_do_is_refused_by_name(
    sessions: SessionsRuntime, server: SessionsServer, options: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidJob, match=field):
        await sessions.run(prepared("1", **options))
    assert not server.seen


async def test_a_host_with_sessions_runs_jobs_of_the_bus_without_memory_of_its_own(
    server: SessionsServer,
    sandbox_bus: BrokerProcess,
    host_process: Callable[..., HostProcess],
) -> None:
    host = host_process(
        sandbox_bus.connection_string,
        QLP_SANDBOX_RUNTIMES="sessions",
        QLP_SANDBOX_SESSIONS_ENDPOINT=server.url,
        QLP_SANDBOX_MEMORY_BYTES=str(16 * 1024**2),
        **server.environment(),
    )
    body = await host.consuming()
    assert (body["runtime"], body["languages"]) == ("sessions", ["python", "shell"])
    assert "Hyper-V" in body["isolation"]
    async with client_of(sandbox_bus) as client:
        await client.send(sandbox_job("print('from a session')"))
        _, result = await client.result()
        await client.send(sandbox_job("1", wall_seconds=211))
        _, refused = await client.result()
    assert (result.stdout, result.runtime) == ("from a session\n", "sessions")
    assert refused.verdict is Verdict.INVALID_JOB
    assert (refused.error or "").startswith("data.limits.wall_seconds")


async def test_a_job_is_run_once_in_a_session_from_the_command_line(
    server: SessionsServer,
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox_host.run_once", "--runtime", "sessions"),
        *("--sessions-endpoint", server.url),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    job = sandbox_job("print('once')")
    out, _ = await process.communicate(job.model_dump_json().encode() + b"\n")
    result = SandboxResult.model_validate_json(out)
    assert (process.returncode, result.run_id, result.stdout) == (0, job.run_id, "once\n")
