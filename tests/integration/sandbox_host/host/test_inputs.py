"""A run gets what other steps have left before it starts, or does not start and says why."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from domain.contracts.job import JobInput, SandboxJob, Verdict
from sandbox_host.host.inputs import InputFetcher, InputsUnavailable
from sandbox_host.run.job import InvalidJob, PreparedJob, prepare
from sandbox_host.runtimes.base import Runtime
from tests.support.sandbox.application import AppServer
from tests.support.sandbox.runtimes import run, sandbox_job

CONTENT = b"a,b\n1,2\n" * 1000


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wanting(
    *contents: bytes, program: str = "1", token: str | None = "t", **limits: Any
) -> SandboxJob:
    inputs = tuple(
        JobInput(path=f"inputs/load/data-{n}.csv", size=len(each), sha256=digest_of(each))
        for n, each in enumerate(contents)
    )
    job = sandbox_job(program, **limits)
    return job.model_copy(update={"token": token, "inputs": inputs})


def offer(server: AppServer, *contents: bytes) -> None:
    server.contents = {digest_of(each): each for each in contents}


async def fetch(server: AppServer, job: SandboxJob, give_up_seconds: float = 30) -> PreparedJob:
    return await InputFetcher(server.url, give_up_seconds).fetch(prepare(job))


async def test_the_program_finds_them_in_its_folder(
    app_server: AppServer, runtime: Runtime
) -> None:
    offer(app_server, CONTENT)
    program = "print(len(open('inputs/load/data-0.csv').read()))"
    result = await run(runtime, await fetch(app_server, wanting(CONTENT, program=program)))
    assert (result.verdict, result.stdout) == (Verdict.SUCCEEDED, f"{len(CONTENT)}\n")
    assert app_server.asked == [(digest_of(CONTENT), "t")]


async def test_a_content_under_two_names_is_fetched_once(app_server: AppServer) -> None:
    offer(app_server, CONTENT)
    job = await fetch(app_server, wanting(CONTENT, CONTENT))
    assert [path for path, content in job.files.items() if content == CONTENT] == [
        "inputs/load/data-0.csv",
        "inputs/load/data-1.csv",
    ]
    assert len(app_server.asked) == 1


async def test_an_application_that_is_away_for_a_moment_is_asked_again(
    app_server: AppServer,
) -> None:
    offer(app_server, CONTENT)
    app_server.fail = lambda _request: 503 if app_server.requests < 3 else None
    job = await fetch(app_server, wanting(CONTENT))
    assert job.files["inputs/load/data-0.csv"] == CONTENT


async def test_an_application_that_stays_away_is_not_the_jobs_fault(app_server: AppServer) -> None:
    job = wanting(CONTENT)
    await app_server.stop()
    with pytest.raises(InputsUnavailable, match="cannot be reached"):
        await fetch(app_server, job, give_up_seconds=1)


@pytest.mark.parametrize(("offered", "why"), [(b"", "410"), (CONTENT[:-1] + b"!", "hash")])
async def test_what_cannot_be_had_or_is_not_what_it_should_be_is_refused(
    app_server: AppServer, offered: bytes, why: str
) -> None:
    app_server.contents = {digest_of(CONTENT): offered} if offered else {}
    with pytest.raises(InvalidJob, match=why):
        await fetch(app_server, wanting(CONTENT))


async def test_no_more_than_the_promised_size_is_read(app_server: AppServer) -> None:
    app_server.contents = {digest_of(CONTENT): CONTENT * 2}
    with pytest.raises(InvalidJob, match="more than"):
        await fetch(app_server, wanting(CONTENT))


async def test_a_redirect_is_not_followed(app_server: AppServer) -> None:
    app_server.fail = lambda _request: 302
    with pytest.raises(InvalidJob, match="302"):
        await fetch(app_server, wanting(CONTENT))
    assert app_server.requests == 1


async def test_what_does_not_fit_is_refused_with_the_limit(app_server: AppServer) -> None:
    large = b"x" * (2 << 20)
    offer(app_server, large)
    with pytest.raises(InvalidJob, match="disk_bytes"):
        await fetch(app_server, wanting(large, disk_bytes=1 << 20))


@pytest.mark.parametrize(("app", "token"), [(False, "t"), (True, None)])
async def test_without_an_application_or_a_token_the_fix_is_named(
    app_server: AppServer, app: bool, token: str | None
) -> None:
    fetcher = InputFetcher(app_server.url if app else None)
    with pytest.raises(InvalidJob, match="QLP_"):
        await fetcher.fetch(prepare(wanting(CONTENT, token=token)))


async def test_a_file_of_the_program_is_not_replaced(app_server: AppServer) -> None:
    offer(app_server, CONTENT)
    job = wanting(CONTENT)
    mine = job.files[0].model_copy(update={"path": "inputs/load/data-0.csv"})
    with pytest.raises(InvalidJob, match="also one of files"):
        await fetch(app_server, job.model_copy(update={"files": (*job.files, mine)}))


def test_paths_that_lead_out_are_not_jobs() -> None:
    with pytest.raises(ValueError, match="path"):
        JobInput(path="inputs/../../etc/passwd", size=1, sha256=digest_of(b"x"))
