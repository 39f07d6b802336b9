"""The broker as a program: it starts, says so, refuses what is wrong, dies and comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from azure.servicebus import ServiceBusMessage

from tests.support import ROOT
from tests.support.servicebus.broker import BrokerFactory, BrokerProcess
from tests.support.servicebus.sdk import make_sdk

KEY = "0123456789abcdef"


def run(*arguments: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.local.servicebus", "--key-env", "BUS_KEY", *arguments],
        cwd=ROOT,
        env={**os.environ, "BUS_KEY": key},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def status_of_reset(broker: BrokerProcess, authorization: str | None) -> int:
    headers = {} if authorization is None else {"Authorization": authorization}
    url = f"http://127.0.0.1:{broker.health_port}/reset"
    request = urllib.request.Request(url, method="POST", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


async def test_clients_survive_a_killed_broker_on_the_same_port(
    broker_process: BrokerFactory,
) -> None:
    broker = broker_process()
    port = broker.port
    sdk = make_sdk(
        broker.connection_string, asynchronous=True, retry_total=5, retry_backoff_factor=0.1
    )
    sender, receiver = await sdk.pair("intents")
    await sender.send_messages(ServiceBusMessage("lost with the broker"))
    broker.restart()
    assert broker.port == port
    await sender.send_messages(ServiceBusMessage("after"))
    received = await receiver.receive_messages(1)
    assert [str(message) for message in received] == ["after"]
    await receiver.complete_message(received[0])
    await sdk.close_all()


def test_it_stops_cleanly_on_sigterm(broker_process: BrokerFactory) -> None:
    broker = broker_process()
    assert broker.health()["status"] == "ok"
    assert broker.stop() == 0


def test_a_taken_port_is_named_and_ends_it_with_status_2(servicebus: BrokerProcess) -> None:
    for option, port in (("--port", servicebus.port), ("--health-port", servicebus.health_port)):
        done = run("--port", "0", option, str(port))
        assert done.returncode == 2
        assert done.stdout == ""
        assert str(port) in done.stderr
        assert "--port" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_wrong_configuration_is_named_and_ends_it_with_status_2(tmp_path: Path) -> None:
    config = tmp_path / "entities.json"
    queue = {"Name": "q", "Properties": {"RequiresSession": True}}
    config.write_text(
        json.dumps({"UserConfig": {"Namespaces": [{"Name": "n", "Queues": [queue]}]}})
    )
    done = run("--port", "0", "--config", str(config))
    assert done.returncode == 2
    assert "Queues[0].Properties.RequiresSession" in done.stderr
    assert "entity 'q'" in done.stderr
    missing = run("--port", "0", "--config", str(tmp_path / "none.json"))
    assert missing.returncode == 2
    assert "none.json" in missing.stderr


def test_a_missing_key_is_named_and_never_printed() -> None:
    assert "BUS_KEY" in run(key="").stderr
    short = run(key="hunter2")
    assert short.returncode == 2
    assert "hunter2" not in short.stderr + short.stdout


def test_the_application_s_entities_are_there(servicebus: BrokerProcess) -> None:
    health = servicebus.health()
    assert health["status"] == "ok"
    assert set(health["entities"]) == {
        "intents",
        "sandbox-jobs",
        "sandbox-results",
        "intent-events",
        "intent-events/Subscriptions/process-manager",
    }
    assert servicebus.key not in json.dumps(health)


async def test_reset_drops_messages_and_needs_the_key(broker_process: BrokerFactory) -> None:
    broker = broker_process()
    sdk = make_sdk(broker.connection_string, asynchronous=True)
    sender, receiver = await sdk.pair("intents")
    await sender.send_messages([ServiceBusMessage("a"), ServiceBusMessage("b")])
    await receiver.receive_messages(1)
    for authorization in (None, "Bearer wrong", f"Basic {broker.key}"):
        assert status_of_reset(broker, authorization) == 401
    depth = broker.depth("intents")
    assert depth["active"] + depth["locked"] == 2
    broker.reset()
    assert set(broker.depth("intents").values()) == {0}
    await sdk.close_all()
