"""host.json: defaults, limits and helpful refusals."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.local.functions_host import timespan
from infra.local.functions_host.errors import HostStartupError
from infra.local.functions_host.host_json import HostConfig, read_host_json


def read(tmp_path: Path, **document: Any) -> HostConfig:
    path = tmp_path / "host.json"
    path.write_text(json.dumps({"version": "2.0", **document}))
    return read_host_json(path)


def test_an_almost_empty_file_gives_the_defaults_of_the_real_host(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert config.http.route_prefix == "api"
    assert config.function_timeout == 1800
    bus = config.service_bus
    assert (bus.max_concurrent_calls, bus.prefetch_count) == (16, 0)
    assert (bus.max_message_batch_size, bus.min_message_batch_size) == (1000, 1)
    assert (bus.max_auto_lock_renewal_seconds, bus.max_batch_wait_seconds) == (300, 30)


def test_what_is_set_is_used(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        functionTimeout="00:00:05",
        extensions={
            "http": {"routePrefix": "", "maxOutstandingRequests": 2},
            "serviceBus": {"maxConcurrentCalls": 3, "maxBatchWaitTime": "00:00:10"},
        },
    )
    assert config.http.route_prefix == ""
    assert config.http.max_outstanding_requests == 2
    assert config.service_bus.max_concurrent_calls == 3
    assert config.service_bus.max_batch_wait_seconds == 10
    assert config.function_timeout == 5


def test_minus_one_is_no_timeout(tmp_path: Path) -> None:
    assert read(tmp_path, functionTimeout="-1").function_timeout is None


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"version": "1.0"}, "version"),
        ({"functionTimeout": "5"}, "functionTimeout"),
        ({"functionTimeout": "00:00:00"}, "functionTimeout"),
        ({"extensions": {"http": {"routePrefix": "a b"}}}, "extensions.http.routePrefix"),
        ({"extensions": {"http": []}}, "extensions.http must be an object"),
        (
            {"extensions": {"serviceBus": {"maxConcurrentCalls": 0}}},
            "extensions.serviceBus.maxConcurrentCalls",
        ),
        ({"extensions": {"serviceBus": {"maxConcurrentCalls": True}}}, "maxConcurrentCalls"),
        ({"extensions": {"serviceBus": {"maxBatchWaitTime": "00:03:00"}}}, "maxBatchWaitTime"),
        ({"extensions": {"serviceBus": {"autoCompleteMessages": False}}}, "autoCompleteMessages"),
        (
            {"extensions": {"serviceBus": {"maxMessageBatchSize": 2, "minMessageBatchSize": 3}}},
            "minMessageBatchSize",
        ),
        (
            {"extensions": {"serviceBus": {"messageHandlerOptions": {"maxConcurrentCalls": 1}}}},
            "use maxConcurrentCalls",
        ),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, document: dict[str, Any], named: str) -> None:
    with pytest.raises(HostStartupError) as refusal:
        read(tmp_path, **document)
    assert named in str(refusal.value)


def test_a_missing_file_is_answered_with_a_minimal_one(tmp_path: Path) -> None:
    with pytest.raises(HostStartupError, match="extensionBundle"):
        read_host_json(tmp_path / "host.json")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:05:00", timedelta(minutes=5)),
        ("23:59:59.5", timedelta(hours=23, minutes=59, seconds=59.5)),
        ("1.02:03:04", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("24:00:00", timedelta(days=24)),
        ("25:12:30", timedelta(days=25, hours=12, minutes=30)),
    ],
)
def test_timespans_mean_what_dotnet_means(text: str, expected: timedelta) -> None:
    assert timespan.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "5", "00:60:00", "00:00:60", "x", "-00:00:01", "1:2:3:4", "25:30:00"]
)
def test_other_text_is_no_timespan(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        timespan.parse(text)
