"""What the host knows about a function: its trigger, as read from the bindings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class HttpTrigger:
    """An ``httpTrigger`` binding.

    Attributes:
        parameter: the function's argument.
        route: the route template, without the route prefix.
        methods: in upper case, or None for all methods.
        auth_level: ANONYMOUS, FUNCTION or ADMIN.
    """

    parameter: str
    route: str
    methods: frozenset[str] | None
    auth_level: str


@dataclass(frozen=True)
class ServiceBusTrigger:
    """A ``serviceBusTrigger`` binding on a queue, or on a topic's subscription.

    Attributes:
        connection: name of the connection setting.
        many: the function gets a list of messages.
        body: how the message body is read: as text (must be UTF-8) or binary.
        plain: ``str`` or ``bytes`` if the parameter is annotated so and gets only the body.
    """

    parameter: str
    connection: str
    queue: str | None
    topic: str | None
    subscription: str | None
    many: bool
    body: Literal["text", "binary"]
    plain: type[str] | type[bytes] | None

    @property
    def entity(self) -> str:
        """The entity's path, as the real host writes it."""
        return self.queue or f"{self.topic}/Subscriptions/{self.subscription}"


@dataclass(frozen=True)
class TimerTrigger:
    """A ``timerTrigger`` binding.

    Attributes:
        schedule: an NCRONTAB expression or a TimeSpan.
        use_monitor: keep the schedule across restarts; None decides by the interval.
    """

    parameter: str
    schedule: str
    run_on_startup: bool
    use_monitor: bool | None


Trigger = HttpTrigger | ServiceBusTrigger | TimerTrigger


@dataclass(frozen=True)
class HostedFunction:
    """A function that the worker's rules allow.

    Attributes:
        call: the user's function.
        directory: the directory of its source, for ``context.function_directory``.
        bindings: with their settings resolved, for ``GET /admin/functions``.
    """

    name: str
    call: Callable[..., Any]
    is_async: bool
    requires_context: bool
    has_return: bool
    trigger: Trigger
    directory: str
    disabled: bool
    bindings: Sequence[dict[str, Any]]
