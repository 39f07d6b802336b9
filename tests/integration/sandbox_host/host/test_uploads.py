"""Artifacts reach the application before the result, or the result says that they did not."""

from __future__ import annotations

import asyncio
import hashlib
import time
from uuid import uuid4

import pytest
from aiohttp import web

from domain.contracts.job import Artifact, SandboxJob, SandboxResult, SkippedArtifact, Verdict
from sandbox_host.host.uploads import Uploader
from sandbox_host.run.artifacts import Collected
from sandbox_host.runtimes.base import RunResult
from tests.support.sandbox.application import AppServer
from tests.support.sandbox.runtimes import sandbox_job

CONTENTS = (b"a" * 100_000, b"b" * 100_000)


def job(token: str | None = "the-token") -> SandboxJob:
    return sandbox_job("1").model_copy(update={"token": token})


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def finished(one: SandboxJob) -> RunResult:
    """A run with a small artifact that travels, and large ones, the first under two names."""
    large = [(content, f"large-{n}") for n, content in enumerate(CONTENTS)]
    large.append((CONTENTS[0], "large-again"))
    artifacts = (
        Artifact(name="small", size=1, sha256=digest_of(b"s"), content="cw=="),
        *(Artifact(name=name, size=len(c), sha256=digest_of(c)) for c, name in large),
    )
    skipped = (SkippedArtifact(name="fifo", reason="is not a regular file"),)
    result = SandboxResult(
        run_id=one.run_id,
        intent_id=one.intent_id,
        verdict=Verdict.SUCCEEDED,
        artifacts=artifacts,
        skipped_artifacts=skipped,
    )
    contents = {digest_of(content): content for content in CONTENTS}
    return RunResult(result, Collected(artifacts, skipped, contents))


async def test_what_does_not_travel_is_uploaded_with_the_jobs_token(app_server: AppServer) -> None:
    one = job()
    run = finished(one)
    assert await Uploader(app_server.url).deliver(one, run) == run.result
    assert {digest: up.content for digest, up in app_server.uploads.items()} == (
        run.collected.contents
    )
    assert {(up.run_id, up.token) for up in app_server.uploads.values()} == {
        (one.run_id, "the-token")
    }
    assert app_server.requests == 2


async def test_nothing_to_upload_costs_no_request(app_server: AppServer) -> None:
    one = job()
    small = SandboxResult(run_id=one.run_id, intent_id=one.intent_id, verdict=Verdict.SUCCEEDED)
    assert await Uploader(app_server.url).deliver(one, RunResult(small)) == small
    assert app_server.requests == 0


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_passing_failure_is_tried_again(app_server: AppServer, status: int) -> None:
    app_server.fail = lambda _request: status if app_server.requests <= 2 else None
    one = job()
    run = finished(one)
    assert await Uploader(app_server.url).deliver(one, run) == run.result
    assert len(app_server.uploads) == 2


async def test_an_application_that_comes_back_in_time_gets_them(app_server: AppServer) -> None:
    await app_server.stop()
    one = job()
    run = finished(one)
    delivering = asyncio.create_task(Uploader(app_server.url).deliver(one, run))
    await asyncio.sleep(0.5)
    await app_server.start()
    assert await delivering == run.result


async def test_an_application_that_stays_away_costs_the_artifacts_not_the_result(
    app_server: AppServer,
) -> None:
    await app_server.stop()
    one = job()
    began = time.monotonic()
    result = await Uploader(app_server.url, give_up_seconds=1).deliver(one, finished(one))
    assert time.monotonic() - began < 30
    assert [one.name for one in result.artifacts] == ["small"]
    assert {one.name for one in result.skipped_artifacts} == {
        *("fifo", "large-0", "large-1", "large-again")
    }
    reasons = {one.reason for one in result.skipped_artifacts if one.name != "fifo"}
    assert all(reason.startswith("could not be uploaded: the application") for reason in reasons)


async def test_a_refusal_of_one_artifact_is_final_and_leaves_the_others(
    app_server: AppServer,
) -> None:
    refused = digest_of(CONTENTS[0])

    def fail(request: web.Request) -> int | None:
        return 403 if refused in request.path else None

    app_server.fail = fail
    one = job()
    result = await Uploader(app_server.url).deliver(one, finished(one))
    assert [one.name for one in result.artifacts] == ["small", "large-1"]
    assert "answered 403" in result.skipped_artifacts[1].reason
    assert app_server.requests == 2


@pytest.mark.parametrize(
    ("token", "has_app", "why"),
    [(None, True, "no token"), ("t", False, "QLP_SANDBOX_APP_URL")],
)
async def test_without_a_way_to_upload_the_result_says_so(
    app_server: AppServer, token: str | None, has_app: bool, why: str
) -> None:
    one = job(token)
    uploader = Uploader(app_server.url if has_app else None)
    result = await uploader.deliver(one, finished(one))
    assert [one.name for one in result.artifacts] == ["small"]
    assert why in result.skipped_artifacts[1].reason
    assert app_server.requests == 0


async def test_a_result_with_no_room_for_more_reasons_is_still_sent(app_server: AppServer) -> None:
    one = job(token=None)
    artifacts = tuple(
        Artifact(name=f"{n}", size=1, sha256=digest_of(str(n).encode())) for n in range(40)
    )
    result = SandboxResult(
        run_id=one.run_id,
        intent_id=uuid4(),
        verdict=Verdict.SUCCEEDED,
        artifacts=artifacts,
    )
    contents = {artifact.sha256: b"x" for artifact in artifacts}
    run = RunResult(result, Collected(artifacts, (), contents))
    delivered = await Uploader(app_server.url).deliver(one, run)
    assert (delivered.artifacts, len(delivered.skipped_artifacts)) == ((), 16)
    assert delivered.more_skipped_artifacts == 24
    SandboxResult.model_validate(delivered.model_dump())
