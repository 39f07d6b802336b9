"""Settings of the local stack: its data, its ports, its database."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from domain.contracts.connections import CHECKS, connection_setting
from domain.contracts.redaction import remember_all
from infra.local.servicebus.broker.config import DEFAULT_CONFIG

ROOT = Path(__file__).resolve().parents[3]

#: Settings of the stack itself, which it does not pass on to its parts.
STACK_SETTINGS = frozenset(
    ("QLP_DATA_DIR", "QLP_HTTP_PORT", "QLP_AMQP_PORT", "QLP_SERVICE_BUS_CONFIG", "QLP_DATABASE_URL")
)


class StackError(Exception):
    """The stack cannot do what was asked; the message says why and what to do."""


#: Settings of its parts that the stack always sets itself.
_SET_BY_STACK = frozenset(
    (
        *("DATABASE_URL", "DATABASE_ADMIN_URL", "QLP_SANDBOX_URL"),
        *("ServiceBusConnection", "ServiceBusConnection__fullyQualifiedNamespace"),
    )
)


class WrongSetting(StackError):
    """The stack cannot start, because a setting is wrong."""


@dataclass(frozen=True, slots=True)
class StackConfig:
    """One local stack.

    Attributes:
        root: the checkout.
        app: the function app's directory.
        data: everything the stack writes: database, keys, logs.
        http_port, amqp_port: where clients and producers connect; 0 picks a free port.
        database_url: an existing database to use instead of the embedded PostgreSQL, with a login
            that may create the schema.
        service_bus_config: the broker's entities, in the format of Microsoft's emulator.
    """

    root: Path
    app: Path
    data: Path
    http_port: int
    amqp_port: int
    database_url: str | None
    service_bus_config: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> StackConfig:
        """Read the `STACK_SETTINGS`.

        The stack's own database is QLP_DATABASE_URL. DATABASE_URL is the application's, so that the
        stack can be started again from a shell that has read its ``env`` file.

        Raises:
            WrongSetting: a port is out of range, or a connection setting is malformed.
        """
        env = os.environ if environment is None else environment
        return cls(
            root=ROOT,
            app=ROOT,
            data=Path(env.get("QLP_DATA_DIR") or ROOT / ".qlp").absolute(),
            http_port=_port(env, "QLP_HTTP_PORT", 7071),
            amqp_port=_port(env, "QLP_AMQP_PORT", 5672),
            database_url=_connections(env)["QLP_DATABASE_URL"],
            service_bus_config=Path(env.get("QLP_SERVICE_BUS_CONFIG") or DEFAULT_CONFIG),
        )


def _connections(env: Mapping[str, str]) -> dict[str, str | None]:
    """The connection settings that the stack uses or passes on, checked and normalised."""
    remember_all(env)
    try:
        return {name: connection_setting(env, name) for name in CHECKS.keys() - _SET_BY_STACK}
    except ValueError as error:
        raise WrongSetting(str(error)) from None


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    raw = env.get(name) or str(default)
    if not raw.isdigit() or int(raw) > 65535:
        raise WrongSetting(f"{name} must be a port from 0 (any free one) to 65535, not {raw!r}")
    return int(raw)
