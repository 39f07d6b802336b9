"""A later try for a message that could not be processed.

A Functions trigger written in Python can only complete a message or fail. A failed message comes
back at once, so all ten deliveries are used up within a second. Instead, a copy of the message is
sent, which the bus delivers after a growing pause, and then the message is completed. In this order
a crash in between leaves both, which is harmless: commands are recognised by their ids. After
`MAX_TRIES` the failure is passed on to the host, and the bus dead-letters the message, with the
last error in a property.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from domain.contracts.redaction import redact
from domain.messaging.amqp_values import AmqpValue, sendable
from domain.messaging.publisher import OutgoingMessage, Publisher, PublishFailed
from domain.retry import reason_to_wait

logger = logging.getLogger(__name__)

#: Application properties of a copy: which try it is for, and why the one before failed.
TRY, FAILURE = "qlp-attempt", "qlp-failure"

#: Tries of a message that fails unexpectedly: with the pauses between them, eleven minutes.
MAX_TRIES = 6

#: Seconds before the second try; each further pause is four times as long.
FIRST_PAUSE = 2.0
_GROWTH = 4.0

#: Seconds between the tries of a message that waits for an outage to end, as often as it takes.
OUTAGE_PAUSE = 30.0

#: The longest pause before a message is given back because no copy can be sent, seconds; well below
#: the duration of its lock.
_MAX_DELAY_SECONDS = 20.0

_MAX_FAILURE = 300

#: What a copy keeps of its message's id: Service Bus takes ids of 128 characters.
_MAX_ID = 107
_EARLIER_COPY = re.compile(r"\+[0-9]{1,20}\Z")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as a trigger has received it.

    Attributes:
        entity: the queue or topic to send a copy to.
        properties: its application properties; any of them may come from an untrusted sender.
        sequence_number: that of the message in its queue or subscription.
        delivery_count: which delivery by the bus this is, from 1.
    """

    entity: str
    body: bytes
    message_id: str
    subject: str
    correlation_id: str
    properties: Mapping[str, object]
    sequence_number: int
    delivery_count: int

    @property
    def try_number(self) -> int:
        """Which try this is, from 1 to `MAX_TRIES`."""
        count = self.properties.get(TRY)
        return count if type(count) is int and 1 <= count <= MAX_TRIES else 1

    @property
    def copy_id(self) -> str:
        """The message id of its copy.

        It differs from the message's own, which a queue that detects duplicates would drop, and is
        the same if the message is delivered and copied again.
        """
        return f"{_EARLIER_COPY.sub('', self.message_id)[:_MAX_ID]}+{self.sequence_number}"


class Redelivery:
    """Runs the processing of messages, and postpones those that fail.

    Args:
        first_pause: seconds before the second try.
    """

    def __init__(self, publisher: Publisher, first_pause: float = FIRST_PAUSE) -> None:
        self._publisher = publisher
        self._first_pause = first_pause

    async def process(self, delivery: Delivery, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work``; if it fails, return once a copy of the message waits for another try.

        Raises:
            Exception: that of ``work``, after the last try, or if no copy could be sent.
        """
        try:
            await work()
        except Exception as error:
            if (reason := reason_to_wait(error)) is not None:
                logger.warning("message %s waits: %s", delivery.message_id, reason)
                await self._postpone(delivery, error, OUTAGE_PAUSE, delivery.try_number)
                return
            if delivery.try_number >= MAX_TRIES:
                raise
            logger.exception(
                "message %s failed at try %d of %d; it comes again",
                delivery.message_id,
                delivery.try_number,
                MAX_TRIES,
            )
            pause = self._first_pause * _GROWTH ** (delivery.try_number - 1)
            await self._postpone(delivery, error, pause, delivery.try_number + 1)

    async def _postpone(
        self, delivery: Delivery, error: Exception, pause: float, try_number: int
    ) -> None:
        pause *= random.uniform(0.8, 1.2)  # noqa: S311 jitter, not a secret
        properties: dict[str, AmqpValue] = {
            **sendable(delivery.properties),
            TRY: try_number,
            FAILURE: describe_failure(error),
        }
        copy = OutgoingMessage(
            entity=delivery.entity,
            message_id=delivery.copy_id,
            subject=delivery.subject,
            correlation_id=delivery.correlation_id,
            body=delivery.body,
            not_before=datetime.now(UTC) + timedelta(seconds=pause),
            properties=properties,
        )
        try:
            await self._publisher.send([copy])
        except (PublishFailed, ValueError) as failed:
            logger.warning(
                "message %s is given back after a pause: %s", delivery.message_id, failed
            )
            await delay_abandon(delivery.delivery_count, self._first_pause)
            raise error from failed


async def delay_abandon(delivery_count: int, first_pause: float = FIRST_PAUSE) -> None:
    """Wait before a message is given back, so that its deliveries are not used up at once."""
    await asyncio.sleep(
        min(first_pause * _GROWTH ** min(delivery_count - 1, 8), _MAX_DELAY_SECONDS)
    )


def describe_failure(error: Exception) -> str:
    """The kind and first line of an error."""
    text = str(error).strip().splitlines()
    return redact(f"{type(error).__name__}: {text[0] if text else ''}")[:_MAX_FAILURE]
