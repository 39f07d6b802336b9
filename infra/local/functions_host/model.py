"""What the host knows of a function: its triggers, as read from the bindings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class HttpTrigger:
    """An ``httpTrigger`` binding.

    Attributes:
        parameter: the function's argument.
        route: template without the route prefix.
        methods: upper-case methods, or None for all.
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
        connection: name of the setting with the connection.
        many: a call gets a list of messages.
        body: what the argument is made from: text (must be UTF-8) or binary.
        plain: the parameter is annotated ``str`` or ``bytes`` and gets the body alone.
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
        schedule: NCRONTAB expression or TimeSpan.
        use_monitor: remember the schedule across restarts; None leaves it to the interval.
    """

    parameter: str
    schedule: str
    run_on_startup: bool
    use_monitor: bool | None


Trigger = HttpTrigger | ServiceBusTrigger | TimerTrigger


@dataclass(frozen=True)
class HostedFunction:
    """A function that passed the worker's rules.

    Attributes:
        call: the user's function.
        directory: where its source lies; reaches it as ``context.function_directory``.
        bindings: resolved bindings, for ``GET /admin/functions``.
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
