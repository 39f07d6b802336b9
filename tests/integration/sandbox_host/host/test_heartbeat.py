"""Live output and kills over real HTTP, and an application that is away, slow or wrong."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest

from domain.contracts.heartbeat import HEARTBEAT_SECONDS, MAX_LIVE_CHARACTERS, MAX_RUNS, Order
from domain.contracts.job import SandboxJob
from sandbox_host.host.heartbeat import FIRST_SECONDS, HeartbeatClient
from sandbox_host.runtimes.base import RunControl
from tests.support.sandbox.application import AppServer
from tests.support.sandbox.runtimes import sandbox_job


@asynccontextmanager
async def beating(url: str) -> AsyncIterator[HeartbeatClient]:
    client = HeartbeatClient(url, "the-host")
    task = asyncio.create_task(client.beat_forever())
    yield client
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def job(token: str | None = "the-token") -> SandboxJob:
    return sandbox_job("1").model_copy(update={"token": token})


def feed(control: RunControl, data: bytes, stream: Any = "stdout") -> None:
    assert control.on_output is not None
    control.on_output(stream, data)


async def test_output_arrives_in_order_while_the_program_runs(app_server: AppServer) -> None:
    one, control = job(), RunControl()
    async with beating(app_server.url) as client:
        with client.following(one, control):
            for number in range(20):
                feed(control, f"line {number} é\n".encode())
                feed(control, b"e", "stderr")
                await asyncio.sleep(0.05)
            expected = "".join(f"line {number} é\n" for number in range(20))
            await app_server.until(lambda: app_server.text(one.run_id) == expected)
    assert app_server.text(one.run_id, "stderr") == "e" * 20
    beat = app_server.beats[0]
    assert (beat.host, beat.runs[0].token) == ("the-host", "the-token")
    assert beat.runs[0].intent_id == one.intent_id


async def test_a_kill_arrives_with_the_next_heartbeat(app_server: AppServer) -> None:
    one, control = job(), RunControl()
    async with beating(app_server.url) as client:
        with client.following(one, control):
            await app_server.until(lambda: app_server.beats)
            app_server.orders[one.run_id] = Order.KILL
            beats = len(app_server.beats)
            await asyncio.wait_for(control.kill.wait(), 30)
            assert len(app_server.beats) == beats + 1
    assert HEARTBEAT_SECONDS <= 0.5, "a kill is to arrive within a second"


async def test_a_run_that_is_unwanted_from_the_start_is_killed_at_once(
    app_server: AppServer,
) -> None:
    one, control = job(), RunControl()
    app_server.orders[one.run_id] = Order.KILL
    async with beating(app_server.url) as client:
        with client.following(one, control):
            await asyncio.wait_for(control.kill.wait(), 30)
            assert len(app_server.beats) == 1
    assert FIRST_SECONDS <= 0.25


async def test_short_jobs_and_jobs_without_a_token_cost_no_request(app_server: AppServer) -> None:
    async with beating(app_server.url) as client:
        for _ in range(10):
            with client.following(job(), RunControl()):
                await asyncio.sleep(0.02)
        control = RunControl()
        with client.following(job(token=None), control):
            assert control.on_output is None
            await asyncio.sleep(2 * FIRST_SECONDS)
    assert app_server.requests == 0


async def test_while_the_application_is_away_output_is_kept_and_comes_later_once(
    app_server: AppServer,
) -> None:
    one, control = job(), RunControl()
    async with beating(app_server.url) as client:
        with client.following(one, control):
            feed(control, b"first ")
            await app_server.until(lambda: app_server.beats)
            await app_server.stop()
            feed(control, b"second ")
            await app_server.until(lambda: client.state()["status"] == "degraded")
            feed(control, b"third")
            await app_server.start()
            await app_server.until(lambda: app_server.text(one.run_id) == "first second third")
            await app_server.until(lambda: client.state()["status"] == "ok")
    assert not control.kill.is_set()


@pytest.mark.parametrize("status", [302, 401, 404, 500, 503])
async def test_an_answer_that_is_no_success_is_tried_again_more_slowly(
    app_server: AppServer, status: int
) -> None:
    one, control = job(), RunControl()
    app_server.fail = lambda _request: status
    async with beating(app_server.url) as client:
        with client.following(one, control):
            feed(control, b"kept")
            await app_server.until(lambda: app_server.requests >= 2)
            assert str(status) in str(client.state()["problem"])
            app_server.fail = lambda _request: None
            await app_server.until(lambda: app_server.text(one.run_id) == "kept")
            await app_server.until(lambda: client.state()["status"] == "ok")
    assert client.state() == {"status": "ok", "problem": None, "following": 0}


async def test_a_slow_application_neither_holds_output_back_nor_loses_it(
    app_server: AppServer,
) -> None:
    one, control = job(), RunControl()
    app_server.seconds = 3.0
    async with beating(app_server.url) as client:
        with client.following(one, control):
            for _ in range(100):
                began = time.perf_counter()
                feed(control, b"x" * 1000)
                assert time.perf_counter() - began < 1
                await asyncio.sleep(0)
            app_server.seconds = 0.0
            await app_server.until(lambda: len(app_server.text(one.run_id)) == 100_000)


async def test_a_refused_token_ends_the_heartbeats_of_its_run_and_is_logged(
    app_server: AppServer, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = job("forged"), job()
    app_server.orders[bad.run_id] = Order.REFUSED
    async with beating(app_server.url) as client:
        with client.following(bad, RunControl()), client.following(good, RunControl()):
            await app_server.until(lambda: len(app_server.beats) >= 3)
    assert [run.run_id for run in app_server.beats[-1].runs] == [good.run_id]
    events = [
        vars(record)["fields"]
        for record in caplog.records
        if record.name == "sandbox_host.security"
    ]
    assert [(one["security_event"], one["run_id"]) for one in events] == [
        ("token_refused", str(bad.run_id))
    ]
    assert "forged" not in caplog.text


async def test_a_token_that_is_refused_before_the_body_is_read_costs_the_other_runs_nothing(
    app_server: AppServer, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = job("forged"), job()
    app_server.refused_tokens.add("forged")
    async with beating(app_server.url) as client:
        with client.following(bad, RunControl()), client.following(good, RunControl()):
            await app_server.until(lambda: len(app_server.beats) >= 2)
            assert client.state()["status"] == "ok"
    assert [run.run_id for beat in app_server.beats for run in beat.runs] == [good.run_id] * len(
        app_server.beats
    )
    assert f"refused the token of run {bad.run_id}" in caplog.text


async def test_many_runs_are_split_over_requests_that_stay_small(app_server: AppServer) -> None:
    controls = {one.run_id: (one, RunControl()) for one in (job() for _ in range(MAX_RUNS + 10))}
    async with beating(app_server.url) as client:
        with ExitStack() as stack:
            for one, control in controls.values():
                stack.enter_context(client.following(one, control))
                feed(control, b"\x01" * 10_000)
            everything = 10_000 * len(controls)
            await app_server.until(
                lambda: sum(len(app_server.text(run_id)) for run_id in controls) == everything
            )
    assert all(len(beat.runs) <= MAX_RUNS for beat in app_server.beats)


async def test_a_flood_is_cut_at_what_one_run_may_send(app_server: AppServer) -> None:
    one, control = job(), RunControl()
    async with beating(app_server.url) as client:
        with client.following(one, control):
            for _ in range(1000):
                feed(control, b"y" * 65536)
            await app_server.until(lambda: len(app_server.text(one.run_id)) == MAX_LIVE_CHARACTERS)


async def test_proxies_of_the_environment_are_not_asked(
    app_server: AppServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with beating(app_server.url) as client:
        with client.following(job(), RunControl()):
            await app_server.until(lambda: app_server.beats)
