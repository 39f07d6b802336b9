"""A broker with entities for the tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servicebus.broker import BrokerProcess
from tests.support.servicebus.sdk import Sdk, make_sdk

#: Queues of each kind; a test takes one that no other test uses.
POOLS: dict[str, dict[str, Any]] = {
    "steady": {"LockDuration": "PT1M", "MaxDeliveryCount": 10},
    "brief": {"LockDuration": "PT5S", "MaxDeliveryCount": 3},
    "renewed": {"LockDuration": "PT3S", "MaxDeliveryCount": 10},
    "expiring": {"DefaultMessageTimeToLive": "PT1S", "DeadLetteringOnMessageExpiration": True},
    "dropping": {"DefaultMessageTimeToLive": "PT5S", "DeadLetteringOnMessageExpiration": False},
}
_POOL_SIZE = 60


def write_config(path: Path) -> Path:
    queues = [
        {"Name": f"{pool}-{index}", "Properties": properties}
        for pool, properties in POOLS.items()
        for index in range(_POOL_SIZE)
    ]
    topics = [
        {"Name": f"topic-{index}", "Subscriptions": [{"Name": "one"}, {"Name": "two"}]}
        for index in range(_POOL_SIZE)
    ]
    namespace = {"Name": "tests", "Queues": queues, "Topics": topics}
    path.write_text(json.dumps({"UserConfig": {"Namespaces": [namespace]}}))
    return path


@pytest.fixture(scope="session")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """The broker of these tests."""
    folder = tmp_path_factory.mktemp("bus")
    broker = BrokerProcess(folder / "broker.log", write_config(folder / "entities.json"))
    broker.start()
    yield broker
    broker.close()
    assert "Traceback" not in (folder / "broker.log").read_text()


@pytest.fixture(scope="session")
def names() -> Callable[[str], str]:
    """Hands out entities by kind, each one once."""
    taken: dict[str, int] = {}

    def take(pool: str) -> str:
        index = taken.get(pool, 0)
        assert index < _POOL_SIZE, f"raise _POOL_SIZE: all of {pool} are taken"
        taken[pool] = index + 1
        return f"{pool}-{index}"

    return take


@pytest.fixture(scope="session")
async def async_sdk(bus: BrokerProcess) -> AsyncIterator[Sdk]:
    """The asynchronous SDK."""
    sdk = make_sdk(bus.connection_string, asynchronous=True)
    yield sdk
    await sdk.close_all()


@pytest.fixture(scope="session")
async def sync_sdk(bus: BrokerProcess) -> AsyncIterator[Sdk]:
    """The synchronous SDK, in threads."""
    sdk = make_sdk(bus.connection_string, asynchronous=False)
    yield sdk
    await sdk.close_all()
