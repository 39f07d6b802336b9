"""A broker with entities for the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.support.servicebus.broker import BrokerProcess
from tests.support.servicebus.pools import POOL_SIZE, write_config
from tests.support.servicebus.sdk import Sdk, make_sdk


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
        assert index < POOL_SIZE, f"raise POOL_SIZE: all of {pool} are taken"
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
