"""``qlp replay``: announces events again, sends jobs again, or only compares.

Nothing is written to the log, and message ids are those of the first time. So it is harmless to
repeat a call, and after a crash that is how to continue.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.application.repository import IntentRepository
from domain.errors import OperationError
from domain.eventlog.log import EventLog
from domain.eventlog.models import RecordedEvent
from domain.intents.events import SandboxRunRequested
from domain.intents.evolve import CorruptStream
from domain.messaging.publisher import OutgoingMessage, Publisher, PublishFailed
from domain.messaging.routing import Destinations, Router
from domain.operations.replay import NoSuchStream, replay
from domain.operations.selection import Preview, Selected, Selection, preview
from domain.projections.intents import IntentReads
from domain.runs.tokens import RunTokens

Target = Literal["publish", "sandbox", "nowhere"]

#: Called with how many intents are done, and of how many.
Progress = Callable[[int, int], None]


class SelectionChanged(OperationError):
    """Other intents match now than in the preview."""


@dataclass(slots=True)
class Redriven:
    """What was done.

    Attributes:
        target: what was done; see `Redrive.execute`.
        done: intents whose messages the bus has confirmed; for ``nowhere``, that were compared.
        skipped: intents for which nothing could be done, and why.
        differences: for ``nowhere``: ``field: (folded, read model)`` of intents that differ.
    """

    target: Target
    done: int = 0
    skipped: dict[UUID, str] = field(default_factory=dict)
    differences: dict[UUID, dict[str, tuple[Any, Any]]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The same for JSON: ids as text, hashes in hexadecimal."""
        return {
            "target": self.target,
            "done": self.done,
            "skipped": {str(key): why for key, why in self.skipped.items()},
            "differences": {
                str(key): {name: _shown(pair) for name, pair in fields.items()}
                for key, fields in self.differences.items()
            },
        }


def _shown(pair: tuple[Any, Any]) -> tuple[Any, ...]:
    return tuple(value.hex() if isinstance(value, bytes) else value for value in pair)


class Redrive:
    """Repeats messages of selected intents; ``nowhere`` needs no ``publisher``."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        destinations: Destinations,
        publisher: Publisher | None,
        tokens: RunTokens,
    ) -> None:
        self._pool = pool
        self._to = destinations
        self._publisher = publisher
        self._repository = IntentRepository(EventLog(pool))
        self._router = Router(self._repository, destinations, tokens)

    async def preview(self, selection: Selection, limit: int) -> Preview:
        """What `execute` would work on; see `domain.operations.selection.preview`."""
        return await preview(self._pool, selection, limit)

    async def execute(
        self,
        selection: Selection,
        limit: int,
        target: Target,
        expected: Preview,
        *,
        per_second: float,
        progress: Progress = lambda _done, _total: None,
    ) -> Redriven:
        """Work on what ``expected`` showed, one intent after the other, oldest first.

        Args:
            selection: which intents.
            limit: at most this many.
            target: ``publish`` announces the last event on the topic; ``sandbox`` sends the open
                run's job; ``nowhere`` folds the stream and compares it with the read model.
            expected: the preview that was agreed to.
            per_second: intents a second, at most.
            progress: called after every intent.

        Raises:
            SelectionChanged: other intents match now than in ``expected``; nothing was done.
            OperationError: the bus does not take the messages; the message says how far this came.
        """
        now = await self.preview(selection, limit)
        _check_unchanged(expected, now)
        result = Redriven(target)
        limit_rate = _RateLimit(per_second)
        for number, item in enumerate(now.selected, 1):
            await limit_rate.wait()
            try:
                await self._one(item, target, result)
            except PublishFailed as error:
                raise OperationError(
                    f"stopped after {number - 1} of {len(now.selected)} intents: {error}; repeat "
                    "this once Service Bus is back: messages that were sent twice are recognised"
                ) from error
            progress(number, len(now.selected))
        return result

    async def _one(self, item: Selected, target: Target, result: Redriven) -> None:
        try:
            if target == "nowhere":
                replayed = await replay(self._repository, IntentReads(self._pool), item.intent_id)
                if replayed.differences:
                    result.differences[item.intent_id] = replayed.differences
            else:
                await self._send(await self._messages(item, target))
        except (NoSuchStream, CorruptStream, _NothingToDo) as error:
            result.skipped[item.intent_id] = str(error)
        except ValueError as error:
            result.skipped[item.intent_id] = f"the stream cannot be read: {error}"
        else:
            result.done += 1

    async def _messages(self, item: Selected, target: Target) -> list[OutgoingMessage]:
        records = await self._repository.history(item.intent_id)
        if not records:
            raise NoSuchStream(f"the log has no events of intent {item.intent_id}")
        if target == "publish":
            cause, entity = records[-1], self._to.events_topic
        else:
            cause, entity = _requested_run(records), self._to.jobs_queue
        messages = await self._router.messages_for(cause)
        found = [message for message in messages if message.entity == entity]
        if not found:
            raise _NothingToDo("it does not wait for a run: it was cancelled or has finished")
        return found

    async def _send(self, messages: list[OutgoingMessage]) -> None:
        if self._publisher is None:
            raise OperationError("no Service Bus connection is configured")
        await self._publisher.send(messages)


class _NothingToDo(Exception):
    """The intent has no such message to repeat."""


def _requested_run(records: list[RecordedEvent]) -> RecordedEvent:
    for record in reversed(records):
        if record.type == SandboxRunRequested.type:
            return record
    raise _NothingToDo("no run has been requested")


def _check_unchanged(expected: Preview, now: Preview) -> None:
    agreed = {item.intent_id for item in expected.selected}
    current = {item.intent_id for item in now.selected}
    if agreed != current or expected.matching != now.matching:
        raise SelectionChanged(
            f"the preview showed {expected.matching} intents, now {now.matching} match; selected "
            f"in only one of the two: {len(agreed ^ current)}. Nothing was done: preview again"
        )


class _RateLimit:
    """Lets callers pass at most so many times a second, at even intervals."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1.0 / per_second
        self._next = 0.0

    async def wait(self) -> None:
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now)
        await asyncio.sleep(self._next - now)
        self._next += self._interval


_RATE = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,9})?")


def parse_rate(text: str) -> float:
    """Intents a second, as ``N`` or ``N/s``.

    Raises:
        OperationError: it is not a number from 0.01 to 10,000.
    """
    number = text.strip().removesuffix("/s")
    rate = float(number) if _RATE.fullmatch(number) else 0.0
    if not 0.01 <= rate <= 10_000:
        raise OperationError(f"rate: {text[:80]!r} is not N/s with N from 0.01 to 10000")
    return rate
