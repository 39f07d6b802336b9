"""``python -m infra.pipeline`` against the running stack, as the deployment pipeline runs it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from infra.local.stack.config import ROOT
from tests.support.stack import Client, RunningStack

pytestmark = pytest.mark.timeout(240)


async def pipeline(*arguments: str, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infra.pipeline", *arguments),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=PIPE,
        stderr=PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stdout.decode(), stderr.decode()


async def test_a_good_deployment_passes_every_check(client: Client) -> None:
    status, _, told = await pipeline("check", "--url", client.base, QLP_API_KEY=client.key or "")
    assert status == 0, told
    assert told.count("ok     ") == 8
    assert "FAILED" not in told


async def test_a_deployment_that_refuses_the_key_fails_the_checks_that_need_it(
    client: Client,
) -> None:
    status, _, told = await pipeline("check", "--url", client.base, QLP_API_KEY="qlp_wrong")
    assert status == 1
    assert "FAILED a program runs, and only once for one idempotency key" in told
    assert "ok     a request without a key is refused" in told
    assert "6 of 8 checks failed" in told
    assert "qlp_wrong" not in told


async def test_nobody_there_is_said_within_the_given_time() -> None:
    status, _, told = await pipeline(
        "wait-healthy", "--url", "http://127.0.0.1:1", "--seconds", "3"
    )
    assert status == 1
    assert "not healthy after 3 s; last: GET /api/health: no answer" in told


async def test_a_missing_key_is_named(client: Client) -> None:
    status, _, told = await pipeline("check", "--url", client.base, QLP_API_KEY="")
    assert status == 1
    assert "set QLP_API_KEY" in told


async def test_performance_is_held_against_its_limits(client: Client) -> None:
    arguments = ("performance", "--url", client.base, "--count", "8", "--concurrency", "2")
    loose = ("--accept-ms", "30000", "--succeed-ms", "30000")
    status, out, told = await pipeline(*arguments, *loose, QLP_API_KEY=client.key or "")
    assert status == 0, told
    figures = json.loads(out)
    assert figures["count"] == 8
    assert 0 < figures["accept_p50"] <= figures["accept_p95"]
    assert figures["broken"] == []
    tight = ("--accept-ms", "30000", "--succeed-ms", "0.001")
    status, out, _ = await pipeline(*arguments, *tight, QLP_API_KEY=client.key or "")
    assert status == 1
    assert "submitted to succeeded: p95 is" in json.loads(out)["broken"][0]


async def test_a_release_swaps_and_verifies(
    stack: RunningStack, client: Client, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    az = tmp_path / "az"
    az.write_text(f"#!/bin/sh\necho \"$*\" >> '{calls}'\n")
    az.chmod(az.stat().st_mode | stat.S_IXUSR)
    status, _, told = await pipeline(
        *("release", "--url", stack.endpoints.http_url, "--resource-group", "rg"),
        *("--site", "webapp:sandbox:next", "--site", "functionapp:app:next"),
        QLP_API_KEY=client.key or "",
        PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
    )
    assert status == 0, told
    assert [line.split()[0] for line in calls.read_text().splitlines()] == ["webapp", "functionapp"]
    assert told.count("ok     ") == 8
