"""Reads the configuration file of Microsoft's Service Bus emulator.

Source: "Configure the Service Bus emulator" (``UserConfig.Namespaces[0]…``). Features that this
broker lacks are not ignored but refused at start, with the names of the entity and the property.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from infra.local.json_comments import blank_comments
from infra.local.servicebus.broker.durations import UNLIMITED_MS, parse_duration
from infra.local.servicebus.broker.stored import EntitySettings

#: The application's entities; Terraform creates them from the same file.
DEFAULT_CONFIG = (
    Path(__file__).resolve().parents[3] / "terraform" / "modules" / "messaging" / "servicebus.json"
)

_NAME = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?$")
_MAX_CONFIG_BYTES = 1024 * 1024
_MINUTE_MS = 60_000

_T = TypeVar("_T")


class ConfigError(ValueError):
    """The configuration is wrong; the message starts with the JSON path."""


@dataclass(frozen=True)
class TopicConfig:
    """A topic's subscriptions by name."""

    subscriptions: Mapping[str, EntitySettings]


@dataclass(frozen=True)
class NamespaceConfig:
    """Queues and topics by name."""

    name: str
    queues: Mapping[str, EntitySettings]
    topics: Mapping[str, TopicConfig]


def load_config(path: Path) -> NamespaceConfig:
    """Read a configuration file.

    Raises:
        ConfigError: the file is unreadable or not JSON, or a value is wrong or not supported.
    """
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: larger than {_MAX_CONFIG_BYTES} bytes")
        return parse_config(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_config(text: str) -> NamespaceConfig:
    """Parse the text of a configuration file; comments are allowed.

    Raises:
        ConfigError: the text is not JSON, or a value is wrong or not supported.
    """
    try:
        root = json.loads(blank_comments(text))
    except json.JSONDecodeError as error:
        raise ConfigError(f"line {error.lineno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise ConfigError("not valid JSON: nested too deeply") from None
    document = _Object(root, "")
    user = document.object("UserConfig")
    user.refuse_others("Namespaces", "Logging")
    namespaces = user.objects("Namespaces")
    if len(namespaces) != 1:
        raise user.error(f"exactly one is needed, there are {len(namespaces)}", "Namespaces")
    namespace = _namespace(namespaces[0])
    if document.unsupported:
        raise ConfigError("\n".join(document.unsupported))
    return namespace


def _namespace(node: _Object) -> NamespaceConfig:
    node.refuse_others("Name", "Queues", "Topics")
    taken: dict[str, str] = {}
    queues = {q.name(taken): _queue(q) for q in node.entities("Queues")}
    topics = {t.name(taken): _topic(t) for t in node.entities("Topics")}
    if not queues and not topics:
        raise node.error("has neither Queues nor Topics")
    return NamespaceConfig(node.name({}), queues, topics)


def _queue(node: _Object) -> EntitySettings:
    node.refuse_others("Name", "Properties")
    return _settings(node.object("Properties"))


def _topic(node: _Object) -> TopicConfig:
    node.refuse_others("Name", "Properties", "Subscriptions")
    properties = node.object("Properties")
    properties.refuse_others(
        "DefaultMessageTimeToLive",
        "DuplicateDetectionHistoryTimeWindow",
        "RequiresDuplicateDetection",
    )
    properties.refuse_feature("RequiresDuplicateDetection")
    topic_ttl = properties.time_to_live()
    taken: dict[str, str] = {}
    subscriptions = {
        s.name(taken): _subscription(s, topic_ttl) for s in node.entities("Subscriptions")
    }
    return TopicConfig(subscriptions)


def _subscription(node: _Object, topic_ttl: int | None) -> EntitySettings:
    node.refuse_others("Name", "Properties", "Rules")
    for rule in node.objects("Rules"):
        _require_default_rule(rule)
    return _settings(node.object("Properties"), topic_ttl)


def _require_default_rule(rule: _Object) -> None:
    """Accept only the default rule of a subscription, which selects all messages."""
    properties = rule.object("Properties")
    kind = properties.get("FilterType", str, "Sql")
    if kind == "Sql":
        expression = properties.object("SqlFilter").get("SqlExpression", str, "")
        if re.sub(r"\s", "", expression) == "1=1":
            if properties.object("Action").get("SqlExpression", str, ""):
                properties.not_supported("actions are not supported; leave it out", "Action")
            return
    problem = f"{kind} rules are not supported; leave Rules out to receive every message"
    properties.not_supported(problem, "FilterType")


def _settings(node: _Object, topic_ttl: int | None = None) -> EntitySettings:
    node.refuse_others(
        "DeadLetteringOnMessageExpiration",
        "DefaultMessageTimeToLive",
        "DuplicateDetectionHistoryTimeWindow",
        "ForwardDeadLetteredMessagesTo",
        "ForwardTo",
        "LockDuration",
        "MaxDeliveryCount",
        "RequiresDuplicateDetection",
        "RequiresSession",
    )
    node.refuse_feature("RequiresDuplicateDetection")
    node.refuse_feature("RequiresSession")
    for forward in ("ForwardTo", "ForwardDeadLetteredMessagesTo"):
        if node.get(forward, str, ""):
            node.not_supported('not supported; leave it out or set it to ""', forward)
    lock = node.duration("LockDuration", _MINUTE_MS)
    if not 1000 <= lock <= 5 * _MINUTE_MS:
        raise node.error("must be between PT1S and PT5M", "LockDuration")
    most = node.get("MaxDeliveryCount", int, 10)
    if not 1 <= most <= 2000:
        raise node.error("must be between 1 and 2000", "MaxDeliveryCount")
    own_ttl = node.time_to_live()
    limits = [ttl for ttl in (own_ttl, topic_ttl) if ttl is not None]
    return EntitySettings(
        lock_duration_ms=lock,
        max_delivery_count=most,
        default_ttl_ms=min(limits, default=None),
        dead_letter_on_expiration=node.get("DeadLetteringOnMessageExpiration", bool, False),
    )


class _Object:
    """A JSON object, with its path and its entity for errors.

    Attributes:
        unsupported: features in the document that the broker lacks.
    """

    def __init__(
        self, value: object, path: str, entity: str = "", unsupported: list[str] | None = None
    ) -> None:
        self.path = path
        self.unsupported = [] if unsupported is None else unsupported
        self._entity = entity
        if not isinstance(value, dict):
            raise self.error("must be an object")
        self._value: dict[str, Any] = value

    def error(self, problem: str, key: str = "") -> ConfigError:
        """An error about the object, or about its entry ``key``."""
        entity = f" (entity {self._entity!r})" if self._entity else ""
        return ConfigError(f"{self._child(key) or 'the document'}: {problem}{entity}")

    def not_supported(self, problem: str, key: str) -> None:
        """Record a feature that the broker lacks; all of them are refused together."""
        self.unsupported.append(str(self.error(problem, key)))

    def _child(self, key: str) -> str:
        return ".".join(part for part in (self.path, key) if part)

    def object(self, key: str) -> _Object:
        """A nested object; a missing one counts as empty, except in the root."""
        if key not in self._value and not self.path:
            raise self.error("missing", key)
        return _Object(self._value.get(key, {}), self._child(key), self._entity, self.unsupported)

    def objects(self, key: str) -> list[_Object]:
        """A list of objects; a missing one counts as empty."""
        items = self.get(key, list, [])
        return [
            _Object(item, f"{self._child(key)}[{index}]", self._entity, self.unsupported)
            for index, item in enumerate(items)
        ]

    def entities(self, key: str) -> list[_Object]:
        """A list of entities, which have a Name; a missing list counts as empty."""
        objects = self.objects(key)
        for item in objects:
            name = str(item._value.get("Name", ""))[:260]
            item._entity = f"{self._entity}/{name}" if self._entity else name
        return objects

    def get(self, key: str, kind: type[_T], default: _T) -> _T:
        """A value of type ``kind``."""
        value = self._value.get(key, default)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(f"must be of type {kind.__name__}", key)
        return value

    def name(self, taken: dict[str, str]) -> str:
        """The Name, which must not be in ``taken``, regardless of case."""
        name = self.get("Name", str, "")
        if not _NAME.match(name) or len(name) > 260 or "/subscriptions/" in name.lower():
            raise self.error(f"{name[:80]!r} is not an entity name", "Name")
        if name.lower() in taken:
            raise self.error(f"{name} is already {taken[name.lower()]}", "Name")
        taken[name.lower()] = self.path
        return name

    def duration(self, key: str, default_ms: int) -> int:
        """An ISO 8601 duration in milliseconds."""
        text = self.get(key, str, "")
        if not text:
            return default_ms
        try:
            return parse_duration(text)
        except ValueError as problem:
            raise self.error(str(problem), key) from None

    def time_to_live(self) -> int | None:
        """DefaultMessageTimeToLive in milliseconds; None if missing, or .NET's largest TimeSpan."""
        key = "DefaultMessageTimeToLive"
        ttl = self.duration(key, UNLIMITED_MS)
        if ttl < 1000:
            raise self.error("must be at least PT1S", key)
        return None if ttl >= UNLIMITED_MS else ttl

    def refuse_feature(self, key: str) -> None:
        """Refuse a boolean property if it turns on a feature that the broker lacks."""
        if self.get(key, bool, False):
            self.not_supported("true is not supported; set it to false", key)

    def refuse_others(self, *known: str) -> None:
        """Refuse keys other than ``known``."""
        for key in self._value:
            if key not in known:
                raise self.error(f"unknown; known are {', '.join(known)}", key)
