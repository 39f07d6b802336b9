"""host.json: the options that this host supports.

Source: https://learn.microsoft.com/azure/azure-functions/functions-host-json and, for Service Bus
(extension 5.x), https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.functions_host import jsonc, timespan
from infra.local.functions_host.errors import HostStartupError

DEFAULT_FUNCTION_TIMEOUT_SECONDS = 1800.0

_OLD_SERVICE_BUS_KEYS = {
    "messageHandlerOptions": "maxConcurrentCalls, maxAutoLockRenewalDuration, autoCompleteMessages",
    "sessionHandlerOptions": "maxConcurrentSessions, sessionIdleTimeout",
    "batchOptions": "maxMessageBatchSize, autoCompleteMessages",
    "messageOptions": "maxConcurrentCalls, maxAutoLockRenewalDuration",
    "autoComplete": "autoCompleteMessages",
    "maxAutoRenewDuration": "maxAutoLockRenewalDuration",
}


@dataclass(frozen=True)
class HttpOptions:
    """``extensions.http``; -1 means no limit.

    Attributes:
        route_prefix: precedes every route; has no slashes at its ends.
        max_outstanding_requests: requests that run or wait at the same time; more get 429.
        max_concurrent_requests: functions that run at the same time.
    """

    route_prefix: str = "api"
    max_outstanding_requests: int = -1
    max_concurrent_requests: int = -1


@dataclass(frozen=True)
class ServiceBusOptions:
    """``extensions.serviceBus`` of extension 5.x; durations in seconds."""

    prefetch_count: int = 0
    max_concurrent_calls: int = 16
    max_auto_lock_renewal_seconds: float = 300.0
    max_message_batch_size: int = 1000
    min_message_batch_size: int = 1
    max_batch_wait_seconds: float = 30.0


@dataclass(frozen=True)
class HostConfig:
    """The options of host.json; ``function_timeout`` in seconds, None for no limit."""

    http: HttpOptions = HttpOptions()
    service_bus: ServiceBusOptions = ServiceBusOptions()
    function_timeout: float | None = DEFAULT_FUNCTION_TIMEOUT_SECONDS


class _Section:
    """One object of host.json; errors name the full key."""

    def __init__(self, path: Path, name: str, value: object) -> None:
        if value is not None and not isinstance(value, dict):
            raise HostStartupError(f"{path}: {name} must be an object")
        self.path, self.name = path, name
        self.values: dict[str, Any] = value or {}

    def fail(self, key: str, expected: str) -> HostStartupError:
        full = f"{self.name}.{key}" if self.name else key
        return HostStartupError(f"{self.path}: {full} {expected}, got {self.values.get(key)!r}")

    def section(self, key: str) -> _Section:
        return _Section(self.path, f"{self.name}.{key}".strip("."), self.values.get(key))

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.fail(key, f"must be a whole number from {low} to {high}")
        return value

    def seconds(self, key: str, default: float) -> float:
        value = self.values.get(key)
        if value is None:
            return default
        try:
            return timespan.parse(str(value)).total_seconds()
        except ValueError:
            raise self.fail(key, "must be a duration such as 00:05:00") from None


def read_host_json(path: Path) -> HostConfig:
    """Read host.json; HostStartupError names the wrong key and what its value must be."""
    if not path.exists():
        raise HostStartupError(
            f"{path} is missing; a minimal one is "
            '{"version": "2.0", "extensionBundle": '
            '{"id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.0.0, 5.0.0)"}}'
        )
    root = _Section(path, "", jsonc.read_object(path))
    if root.values.get("version") != "2.0":
        raise root.fail("version", 'must be "2.0"')
    extensions = root.section("extensions")
    return HostConfig(
        _http(extensions.section("http")),
        _service_bus(extensions.section("serviceBus")),
        _function_timeout(root),
    )


def _function_timeout(root: _Section) -> float | None:
    if str(root.values.get("functionTimeout")) in {"-1", "-00:00:01"}:
        return None
    seconds = root.seconds("functionTimeout", DEFAULT_FUNCTION_TIMEOUT_SECONDS)
    if seconds < 1:
        raise root.fail("functionTimeout", 'must be at least 00:00:01, or "-1" for no limit')
    return seconds


def _http(section: _Section) -> HttpOptions:
    prefix = section.values.get("routePrefix", HttpOptions.route_prefix)
    if not isinstance(prefix, str) or any(character in prefix for character in "{}?#% "):
        raise section.fail("routePrefix", "must be a plain path such as api")
    return HttpOptions(
        prefix.strip("/"),
        section.integer("maxOutstandingRequests", -1, -1, 1_000_000),
        section.integer("maxConcurrentRequests", -1, -1, 1_000_000),
    )


def _service_bus(section: _Section) -> ServiceBusOptions:
    for old, new in _OLD_SERVICE_BUS_KEYS.items():
        if old in section.values:
            raise section.fail(old, f"belongs to an extension before 5.x; use {new}")
    if section.values.get("autoCompleteMessages", True) is not True:
        raise section.fail(
            "autoCompleteMessages",
            "must be true: a Python function cannot settle a message itself, so each message would "
            "be delivered again until it is dead-lettered",
        )
    defaults = ServiceBusOptions()
    maximum = section.integer("maxMessageBatchSize", defaults.max_message_batch_size, 1, 10_000)
    wait = section.seconds("maxBatchWaitTime", defaults.max_batch_wait_seconds)
    if wait > 150:
        raise section.fail("maxBatchWaitTime", "must be at most 00:02:30")
    return ServiceBusOptions(
        section.integer("prefetchCount", defaults.prefetch_count, 0, 10_000),
        section.integer("maxConcurrentCalls", defaults.max_concurrent_calls, 1, 10_000),
        section.seconds("maxAutoLockRenewalDuration", defaults.max_auto_lock_renewal_seconds),
        maximum,
        section.integer("minMessageBatchSize", defaults.min_message_batch_size, 1, maximum),
        wait,
    )
