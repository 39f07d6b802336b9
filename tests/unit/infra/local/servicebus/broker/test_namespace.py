"""Addresses are found in any case; a wrong one, or a wrong direction, is refused."""

from __future__ import annotations

import pytest

from infra.local.servicebus.broker.config import parse_config
from infra.local.servicebus.broker.namespace import Namespace, parse_address
from infra.local.servicebus.errors import EntityNotFound, NotAllowed
from tests.support.servicebus.entities import FakeClock


@pytest.fixture
def namespace() -> Namespace:
    text = """{"UserConfig": {"Namespaces": [{"Name": "n", "Queues": [{"Name": "Q"}],
    "Topics": [{"Name": "T", "Subscriptions": [{"Name": "S"}]}]}]}}"""
    return Namespace(parse_config(text), FakeClock(), 1000)


def test_addresses_are_found_in_any_case(namespace: Namespace) -> None:
    for text, path in [
        ("amqps://127.0.0.1:5672/q", "Q"),
        ("Q/$DeadLetterQueue", "Q/$DeadLetterQueue"),
        ("amqps://h/T/Subscriptions/s", "T/Subscriptions/S"),
        ("t/subscriptions/S/$deadletterqueue", "T/Subscriptions/S/$DeadLetterQueue"),
    ]:
        assert namespace.source(parse_address(text).path).path == path
    assert parse_address("q/$management").management
    assert namespace.target("t").path == "T"


@pytest.mark.parametrize("text", [None, 5, "", "x" * 5000, "amqps://[/q"])
def test_a_wrong_address_is_not_found(text: object) -> None:
    with pytest.raises(EntityNotFound):
        parse_address(text)


def test_directions_are_checked(namespace: Namespace) -> None:
    with pytest.raises(NotAllowed):
        namespace.source("t")
    for path in ("q/$deadletterqueue", "t/subscriptions/s"):
        with pytest.raises(NotAllowed):
            namespace.target(path)
    for path in ("", "none", "t/subscriptions/none"):
        with pytest.raises(EntityNotFound):
            namespace.target(path)
