"""Programs in JavaScript use the broker with Microsoft's SDK and with plain AMQP 1.0."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.local.servicebus.amqp.answers import performative
from infra.local.servicebus.amqp.frames import AMQP_HEADER, encode_frame
from infra.local.servicebus.amqp.performatives import ATTACH, BEGIN, COORDINATOR, OPEN
from infra.local.servicebus.codec.types import Described, UInt, ULong
from tests.support import ROOT
from tests.support.servicebus.broker import BrokerProcess

HOME = ROOT / ".venv" / "javascript-sdk"
PACKAGES = ("@azure/service-bus@7.9.5", "rhea@3.0.5")


@pytest.fixture(scope="module")
def home() -> Path:
    """Where the packages are, installed once; tests are skipped where there is no npm."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("no npm")
    if not (HOME / "node_modules").exists():
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(HOME)]
        installed = subprocess.run(
            [*command, *PACKAGES], capture_output=True, text=True, timeout=100, check=False
        )
        if installed.returncode != 0:
            pytest.skip(f"npm could not install {PACKAGES}: {installed.stderr[-300:]}")
    return HOME


@pytest.fixture(scope="module")
def said(home: Path, bus: BrokerProcess, names: Callable[[str], str]) -> dict[str, Any]:
    """What the program in JavaScript saw."""
    script = Path(__file__).with_name("javascript_sdk.mjs")
    ran = subprocess.run(
        ["node", str(script), bus.connection_string, names("steady"), names("topic"), "one"],
        env={**os.environ, "JAVASCRIPT_SDK_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def test_a_message_without_an_id_gets_one(said: dict[str, Any]) -> None:
    identity = said["first"]["messageId"]
    assert re.fullmatch("[0-9a-f]{32}", identity)
    for step in ("abandoned", "deferred", "dead"):
        assert said[step]["messageId"] == identity


def test_an_abandon_counts_and_sets_properties(said: dict[str, Any]) -> None:
    assert said["first"]["deliveryCount"] == 0
    assert said["abandoned"]["deliveryCount"] == 1
    properties = {**said["first"]["properties"], "why": "again", "n": 2}
    assert said["abandoned"]["properties"] == properties
    assert said["abandoned"]["body"] == {"a": 1}


def test_a_deferral_and_a_dead_letter_set_properties_too(said: dict[str, Any]) -> None:
    assert said["deferred"]["properties"] == {**said["abandoned"]["properties"], "deferred": True}
    dead = said["dead"]
    assert (dead["reason"], dead["description"]) == ("reason", "description")
    assert dead["properties"]["extra"] == 3.5
    assert dead["properties"]["why"] == "again"


def test_locks_schedules_and_batches_leave_nothing_behind(said: dict[str, Any]) -> None:
    assert said["left"] == 0


def test_what_is_not_allowed_is_refused_with_the_reason(said: dict[str, Any]) -> None:
    assert said["tooLarge"].startswith("MessageSizeExceeded: the application property 'x' takes")
    assert re.search(r"properties take \d+ bytes, the limit is 65536", said["tooMany"])
    assert "does not require sessions" in said["nextSession"]
    # The SDK has words of its own for whatever refuses a session by name.
    assert said["namedSession"].startswith("SessionCannotBeLocked")


def test_a_token_for_the_management_node_is_enough_for_it(said: dict[str, Any]) -> None:
    assert "NotImplementedError: 'com.microsoft:enumerate-rules' is not supported" in said["rules"]


def test_the_key_itself_is_accepted_by_sasl_plain(said: dict[str, Any]) -> None:
    assert said["plain"] == "accepted"
    assert said["plainWithAnotherKey"] in ("connection_error", "disconnected")


async def test_transactions_are_refused_by_name(bus: BrokerProcess) -> None:
    coordinator = Described(ULong(COORDINATOR), [None])
    source = Described(ULong(0x28), [None] * 11)
    attach = performative(
        ATTACH, "t", UInt(0), False, None, None, source, coordinator, None, None, UInt(0)
    )
    frames = (
        performative(OPEN, "peer", "here"),
        performative(BEGIN, None, UInt(0), UInt(100), UInt(100)),
        attach,
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", bus.port)
    writer.write(AMQP_HEADER + b"".join(encode_frame(0, frame) for frame in frames))
    heard = b""
    async with asyncio.timeout(60):
        while b"transactions are not supported" not in heard:
            data = await reader.read(65536)
            assert data, heard
            heard += data
    assert b"amqp:not-implemented" in heard
    writer.close()
