"""The container with an engine of its own: jobs through it, and what happens when parts of it die.

It runs on the machine's engine, with all privileges that there are and without.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from domain.contracts.job import SandboxJob, Verdict
from sandbox_host.host.engine_status import EngineStatus
from tests.support.sandbox.bus import client_of, programs_with
from tests.support.sandbox.host_container import StartContainer, docker, privileged
from tests.support.sandbox.runtimes import sandbox_job
from tests.support.servicebus.broker import BrokerProcess
from tests.support.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

#: First of the numbers that boxes' users have outside of them.
FIRST_UID = 165536

PROGRAMS = {
    "python": "print(6 * 7)",
    "shell": "echo $((6 * 7))",
    "node": "console.log(6 * 7)",
}


def sleeper(marker: str, seconds: int) -> SandboxJob:
    program = f"import time; time.sleep({seconds}); print('done')"
    return sandbox_job(program, args=(marker,), wall_seconds=60)


def user_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Uid:"))


async def test_jobs_of_every_language_run_as_nobody_of_this_machine(
    sandbox_bus: BrokerProcess, host_container: StartContainer
) -> None:
    container = host_container(sandbox_bus.connection_string, *privileged())
    health = await container.consuming()
    assert (health["runtime"], health["engine"]["state"]) == ("docker", "running")
    assert health["runtimes"]["docker"]["details"]["users"] == f"remapped, root is {FIRST_UID}"
    assert set(health["languages"]) == set(PROGRAMS)
    async with client_of(sandbox_bus) as client:
        for language, program in PROGRAMS.items():
            await client.send(sandbox_job(program, language=language))
        results = [(await client.result(60))[1] for _ in PROGRAMS]
        assert [result.stdout for result in results] == ["42\n"] * len(PROGRAMS), results
        await client.send(sleeper("qlp-dind-uid", 8))
        await until(lambda: programs_with("qlp-dind-uid"), 60)
        box_users = {user_of(pid) for pid in programs_with("qlp-dind-uid")}
        assert min(box_users) >= FIRST_UID
        _, result = await client.result(60)
    assert result.stdout == "done\n"
    assert container.stop(60) == 0


async def test_a_stop_waits_for_the_program_and_then_ends_the_engine(
    sandbox_bus: BrokerProcess, host_container: StartContainer
) -> None:
    container = host_container(sandbox_bus.connection_string, *privileged())
    await container.consuming()
    async with client_of(sandbox_bus) as client:
        await client.send(sleeper("qlp-dind-drain", 8))
        await until(lambda: programs_with("qlp-dind-drain"), 60)
        assert await asyncio.to_thread(container.stop, 60) == 0
        _, result = await client.result()
    assert result.stdout == "done\n"
    assert sandbox_bus.depth("sandbox-jobs")["active"] == 0


async def test_an_engine_that_is_killed_is_started_again_and_runs_the_next_job(
    sandbox_bus: BrokerProcess, host_container: StartContainer
) -> None:
    container = host_container(sandbox_bus.connection_string, *privileged())
    await container.consuming()
    async with client_of(sandbox_bus) as client:
        await client.send(sleeper("qlp-dind-engine", 30))
        await until(lambda: programs_with("qlp-dind-engine"), 60)
        container.run("sh", "-c", "kill -9 $(cat /run/docker.pid)")
        _, result = await client.result(90)
        # Not the program's fault: the application tries again.
        assert result.verdict is Verdict.INFRASTRUCTURE_ERROR, result
        await container.until(
            lambda status, body: (
                (status, body["engine"]["state"], body["engine"]["restarts"]) == (200, "running", 1)
            )
        )
        await until(lambda: not programs_with("qlp-dind-engine"), 60)
        await client.send(sandbox_job("print(6 * 7)"))
        _, result = await client.result(90)
    assert result.stdout == "42\n"


async def test_a_container_that_is_killed_starts_again_over_its_own_leftovers(
    sandbox_bus: BrokerProcess, host_container: StartContainer
) -> None:
    container = host_container(sandbox_bus.connection_string, *privileged())
    await container.consuming()
    async with client_of(sandbox_bus) as client:
        job = sleeper("qlp-dind-crash", 5)
        await client.send(job)
        await until(lambda: programs_with("qlp-dind-crash"), 60)
        docker("kill", container.id)
        docker("start", container.id)
        await container.consuming()
        _, result = await client.result(120)
    assert (result.run_id, result.stdout) == (job.run_id, "done\n")
    # What the killed host's box was is gone; this host may be removing its own last one.
    await until(lambda: container.run("docker", "ps", "--all", "--quiet") == "")


async def test_without_privileges_it_says_so_and_takes_no_job(
    sandbox_bus: BrokerProcess, host_container: StartContainer
) -> None:
    container = host_container(sandbox_bus.connection_string)
    health = await container.until(lambda status, _: status == 503)
    status = EngineStatus(**health["engine"])
    assert status.state == "not_privileged"
    assert "CAP_SYS_ADMIN" in status.reason
    assert "privileged" in status.fix
    assert status.reason in health["detail"]
    async with client_of(sandbox_bus) as client:
        await client.send(sandbox_job("1"))
        await client.no_result(3)
    assert sandbox_bus.depth("sandbox-jobs")["active"] == 1
    assert container.state()["Running"], container.log()
