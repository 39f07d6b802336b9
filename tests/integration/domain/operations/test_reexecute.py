"""Recorded programs run again outside of the log, and what differs from the record is said."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import docker
import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from domain.contracts.job import SandboxJob
from domain.errors import OperationError
from domain.eventlog.log import EventLog
from domain.operations.reexecute import Reexecuted, Reexecution, cost_differences
from domain.operations.sandbox_process import SandboxCommand
from domain.operations.selection import Selection, preview
from sandbox_host.settings import DEFAULT_IMAGES
from tests.support import ROOT
from tests.support.intents.recorder import Recorder
from tests.support.postgres import Database, everything
from tests.support.qlp import qlp
from tests.support.sandbox.runtimes import ensure_image, open_runtime, sandbox_job

BUBBLEWRAP = SandboxCommand("bubblewrap", concurrency=2)


@pytest.fixture
def recorder(pool: AsyncConnectionPool) -> Recorder:
    return Recorder(pool)


@pytest.fixture(autouse=True, scope="module")
async def _bubblewrap_works() -> None:
    await (await open_runtime("bubblewrap")).aclose()


async def again(
    pool: AsyncConnectionPool, command: SandboxCommand = BUBBLEWRAP, tolerance: float = 0.5
) -> Reexecuted:
    selected = (await preview(pool, Selection(), 100)).selected
    return await Reexecution(pool, command, tolerance).run(selected)


async def test_programs_that_come_out_as_recorded_agree(
    recorder: Recorder, pool: AsyncConnectionPool
) -> None:
    for _ in range(3):
        await recorder.finished("print(1)")
    await recorder.finished("raise SystemExit(3)", verdict="exited", stdout="")
    result = await again(pool)
    assert (result.same, result.changed, result.agrees) == (4, [], True)


async def test_another_output_or_verdict_is_found(
    recorder: Recorder, pool: AsyncConnectionPool
) -> None:
    output = await recorder.finished("print(2)")
    verdict = await recorder.finished("print(1)", verdict="exited", stdout="1\n")
    result = await again(pool)
    found = {each.intent_id: each.outcome for each in result.changed}
    assert [each.intent_id for each in result.changed] == [output, verdict], "in order"
    assert found == {
        output: {"stdout": ("1\n", "2\n")},
        verdict: {"verdict": ("exited", "succeeded"), "exit_code": (3, 0)},
    }
    assert not result.agrees


async def test_a_cost_beyond_the_tolerance_is_reported_but_agrees(
    recorder: Recorder, pool: AsyncConnectionPool
) -> None:
    usage = {"wall_ms": 1.0, "peak_memory_bytes": 2 * 1024**3}
    await recorder.finished("import time; time.sleep(0.3); print(1)", usage=usage)
    result = await again(pool)
    [changed] = result.changed
    assert (changed.outcome, result.agrees) == ({}, True)
    assert changed.costs["wall_ms"][1] > 250
    assert changed.run_by == "bubblewrap"


def test_costs_have_a_tolerance_and_a_floor_of_noise() -> None:
    def differs(recorded: float, now: float, tolerance: float = 0.5) -> bool:
        return bool(cost_differences({"wall_ms": recorded}, {"wall_ms": now}, tolerance))

    assert [differs(1000, 1499), differs(1000, 1501), differs(1000, 499)] == [False, True, True]
    assert not differs(10, 59), "50 ms are noise on any machine"
    assert differs(1000, 1100, tolerance=0)
    cpu = {"cpu_user_ms": 100.0, "cpu_system_ms": 100.0}
    slower = {"cpu_user_ms": 300.0, "cpu_system_ms": 50.0}
    assert cost_differences(cpu, slower, 0.5) == {"cpu_ms": (200, 350)}
    assert cost_differences({"cpu_user_ms": None, "wall_ms": None}, {"wall_ms": 9e9}, 0.5) == {}


async def test_nothing_is_written_to_the_log(recorder: Recorder, pool: AsyncConnectionPool) -> None:
    await recorder.finished("print(2)")
    log = EventLog(pool)
    before = (await log.heads(), await everything(log))
    await again(pool)
    assert (await log.heads(), await everything(log)) == before


async def test_intents_without_a_run_of_their_own_are_skipped(
    recorder: Recorder, pool: AsyncConnectionPool
) -> None:
    skipped = {await recorder.submitted(), await recorder.running()}
    await recorder.finished("print(1)")
    result = await again(pool)
    assert (result.same, set(result.skipped)) == (1, skipped)


async def test_more_programs_than_fit_the_pipes_come_through(
    recorder: Recorder, pool: AsyncConnectionPool
) -> None:
    text = "x" * 60_000
    program = f"print(1)\nignored = '{text}'\nimport sys\nprint(ignored, file=sys.stderr)"
    for _ in range(6):
        await recorder.finished(program, stderr=text + "\n")
    assert (await again(pool)).same == 6


async def test_a_sandbox_that_cannot_run_says_why(
    recorder: Recorder, pool: AsyncConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await recorder.finished("print(1)")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    with pytest.raises(OperationError, match="did not run 1 programs: .*docker is not ready"):  # noqa: RUF043
        await again(pool, SandboxCommand("docker"))


async def test_a_sandbox_that_is_killed_is_an_error_not_an_agreement(
    recorder: Recorder, pool: AsyncConnectionPool
) -> None:
    await recorder.finished("import time; time.sleep(60)")
    [item] = (await preview(pool, Selection(), 1)).selected
    operation = asyncio.create_task(Reexecution(pool, BUBBLEWRAP, 0.5).run([item]))
    pid = await child_of_this_process()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(OperationError, match="did not run 1 programs"):
        await operation


async def test_a_database_that_fails_meanwhile_is_said_as_it_is(
    recorder: Recorder, pool: AsyncConnectionPool, database: Database
) -> None:
    await recorder.finished("print(1)")
    selected = (await preview(pool, Selection(), 1)).selected
    with psycopg.connect(database.admin_url) as connection:
        connection.execute("alter table events rename to elsewhere")
    with pytest.raises(psycopg.errors.UndefinedTable):
        await Reexecution(pool, BUBBLEWRAP, 0.5).run(selected)


async def child_of_this_process() -> int:
    """The pid of the ``run_once`` that this process has started, once it is there."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    async with asyncio.timeout(60):
        while True:
            for children in tasks.glob("*/children"):
                with contextlib.suppress(
                    FileNotFoundError, ProcessLookupError
                ):  # it has ended since
                    for pid in map(int, children.read_text().split()):
                        if b"run_once" in Path(f"/proc/{pid}/cmdline").read_bytes():
                            return pid
            await asyncio.sleep(0.02)


async def run_once(*arguments: str, lines: bytes) -> tuple[int, list[Any], str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox_host.run_once", *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(lines)
    assert b"Traceback" not in err, err.decode()
    assert process.returncode is not None
    return process.returncode, [json.loads(line) for line in out.splitlines()], err.decode()


def encoded(*jobs: SandboxJob) -> bytes:
    return b"".join(job.model_dump_json().encode() + b"\n" for job in jobs)


async def test_run_once_answers_every_job_and_ends() -> None:
    good = sandbox_job("print('good')")
    bad = sandbox_job("print(1)", args=("\0",))
    code, results, _ = await run_once("--runtime", "bubblewrap", lines=encoded(good, bad))
    verdicts = {UUID(each["run_id"]): each["verdict"] for each in results}
    assert (code, verdicts) == (0, {good.run_id: "succeeded", bad.run_id: "invalid_job"})


async def test_run_once_answers_what_came_before_a_line_that_is_no_job() -> None:
    lines = encoded(sandbox_job("print(1)")) + b'{"run_id": 1}\n'
    code, results, said = await run_once("--runtime", "bubblewrap", lines=lines)
    assert (code, [each["stdout"] for each in results]) == (2, ["1\n"])
    assert "line 2: run_id" in said
    code, _, said = await run_once("--runtime", "bubblewrap", lines=b"x" * (2 * 1024**2))
    assert (code, "line 1: longer than" in said) == (2, True)


async def test_run_once_takes_its_programs_along_when_it_is_stopped() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox_host.run_once", "--runtime", "bubblewrap"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(
        encoded(sandbox_job("print(1)"), sandbox_job("import time; time.sleep(60)"))
    )
    await process.stdin.drain()
    await process.stdout.readline()  # the first is answered: the second runs, or will at once
    process.terminate()
    async with asyncio.timeout(60):
        assert await process.wait() == 130


@pytest.mark.docker
async def test_docker_runs_what_bubblewrap_recorded(
    recorder: Recorder, pool: AsyncConnectionPool
) -> None:
    await ensure_image()
    await recorder.finished("print(1)")
    result = await again(pool, SandboxCommand("docker"))
    assert (result.same, result.agrees) == (1, True)


@pytest.mark.docker
async def test_a_candidate_image_is_held_against_what_the_one_in_use_did(
    recorder: Recorder, database: Database, tmp_path: Path
) -> None:
    await ensure_image(["python"])
    in_use = DEFAULT_IMAGES.format(language="python")
    candidate = f"qlp-sandbox-candidate-{uuid4().hex[:12]}"
    (tmp_path / "Dockerfile").write_text(f"FROM {in_use}\nCOPY Dockerfile /usr/share/candidate\n")
    await recorder.finished("print(1)")
    sees = "import os; print(os.path.exists('/usr/share/candidate'))"
    other = await recorder.finished(sees, stdout="False\n")
    engine = docker.from_env()
    with contextlib.closing(engine):
        image, _ = await asyncio.to_thread(engine.images.build, path=str(tmp_path), tag=candidate)
        try:
            before = await qlp("reexecute", "--image", in_use, "--json", url=database.url)
            after = await qlp("reexecute", "--image", candidate, "--json", url=database.url)
        finally:
            engine.images.remove(candidate)
    assert (before.code, before.json["same"], before.json["changed"]) == (0, 2, [])
    [changed] = after.json["changed"]
    assert (after.code, after.json["same"]) == (1, 1)
    assert changed["intent_id"] == str(other)
    assert changed["outcome"] == {"stdout": ["False\n", "True\n"]}
    assert changed["run_by"] == f"docker {image.id}"


async def test_qlp_exits_with_1_where_an_output_differs(
    recorder: Recorder, database: Database
) -> None:
    same, other = await recorder.finished("print(1)"), await recorder.finished("print(2)")
    in_bubblewrap = ("--runtime", "bubblewrap")
    well, said = await asyncio.gather(
        qlp("reexecute", str(same), *in_bubblewrap, url=database.url),
        qlp(
            *("reexecute", "--where", "status=succeeded", *in_bubblewrap, "--json"),
            url=database.url,
        ),
    )
    assert (well.code, "the same: 1, another outcome: 0" in well.out) == (0, True)
    [changed] = said.json["changed"]
    assert (said.code, said.json["agrees"], said.json["same"]) == (1, False, 1)
    assert (changed["intent_id"], changed["outcome"]) == (str(other), {"stdout": ["1\n", "2\n"]})


async def test_qlp_refuses_what_makes_no_sense(database: Database) -> None:
    for said, says in zip(
        await asyncio.gather(
            qlp("reexecute", url=database.url),
            qlp("reexecute", "--runtime", "bubblewrap", "--image", "x", url=database.url),
            qlp("reexecute", "--runtime", "bubblewrap", str(uuid4()), url=database.url),
        ),
        (
            "--runtime docker, --runtime bubblewrap",
            "bubblewrap has no images",
            "there is no intent",
        ),
        strict=True,
    ):
        assert (said.code, said.out, says in said.err) == (1, "", True), said.err
