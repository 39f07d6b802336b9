"""The entities of a namespace, and their addresses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from infra.local.servicebus.broker.config import NamespaceConfig
from infra.local.servicebus.broker.entity import Clock, Entity
from infra.local.servicebus.broker.stored import EntitySettings, Quota, SequenceNumbers
from infra.local.servicebus.broker.topic import Topic
from infra.local.servicebus.errors import EntityNotFound, NotAllowed

CBS = "$cbs"
MANAGEMENT = "/$management"
_MAX_ADDRESS = 1024


@dataclass(frozen=True)
class Address:
    """The address of a link: a path in lower case; ``management`` for its management node."""

    path: str
    management: bool = False


def parse_address(text: object) -> Address:
    """Parse the address of a terminus: a URI or only a path.

    Raises:
        EntityNotFound: it is not an address.
    """
    if not isinstance(text, str) or not text or len(text) > _MAX_ADDRESS:
        raise EntityNotFound("the link has no address")
    try:
        path = urlsplit(text).path if "://" in text else text
    except ValueError:
        raise EntityNotFound("the link's address is not a URI") from None
    path = path.strip("/").lower()
    if path.endswith(MANAGEMENT):
        return Address(path.removesuffix(MANAGEMENT), management=True)
    return Address(path)


class Namespace:
    """The queues, topics, subscriptions and dead-letter queues of a configuration."""

    def __init__(self, config: NamespaceConfig, clock: Clock, max_entity_bytes: int) -> None:
        self.name = config.name
        self.topics: dict[str, Topic] = {}
        self._clock = clock
        self._max_entity_bytes = max_entity_bytes
        self._entities: dict[str, Entity] = {}
        for name, settings in config.queues.items():
            self._add_entity(name, settings)
        for name, topic in config.topics.items():
            subscriptions = {
                key: self._add_entity(f"{name}/Subscriptions/{key}", settings)
                for key, settings in topic.subscriptions.items()
            }
            quota = Quota(name, max_entity_bytes)
            self.topics[name.lower()] = Topic(name, subscriptions, clock, quota)

    def entities(self) -> Iterator[Entity]:
        """Queues, subscriptions and dead-letter queues."""
        yield from self._entities.values()

    def source(self, path: str) -> Entity:
        """The entity at which a receiver attaches.

        Raises:
            EntityNotFound: there is no such entity.
            NotAllowed: it is a topic; messages are received from its subscriptions.
        """
        entity = self._entities.get(path)
        if entity is not None:
            return entity
        if path in self.topics:
            raise NotAllowed(f"{path} is a topic; receive from one of its subscriptions")
        raise EntityNotFound(f"The messaging entity '{path}' could not be found.")

    def target(self, path: str) -> Entity | Topic:
        """The entity or topic at which a sender attaches.

        Raises:
            EntityNotFound: there is no such entity.
            NotAllowed: it is a subscription or a dead-letter queue.
        """
        topic = self.topics.get(path)
        if topic is not None:
            return topic
        entity = self._entities.get(path)
        if entity is None:
            raise EntityNotFound(f"The messaging entity '{path}' could not be found.")
        if entity.dead_letters is None or "/subscriptions/" in path:
            raise NotAllowed(f"{entity.path} does not accept messages from senders")
        return entity

    def node(self, path: str) -> Entity | Topic:
        """The entity or topic of a management node. Raises EntityNotFound."""
        return self.topics.get(path) or self.source(path)

    def clear(self) -> None:
        """Delete all messages."""
        for topic in self.topics.values():
            topic.clear()
        for entity in self._entities.values():
            entity.clear()

    def _add_entity(self, path: str, settings: EntitySettings) -> Entity:
        quota = Quota(path, self._max_entity_bytes)
        numbers = SequenceNumbers()
        dead_path = f"{path}/$DeadLetterQueue"
        dead_letters = Entity(dead_path, settings, self._clock, quota, numbers)
        entity = Entity(path, settings, self._clock, quota, numbers, dead_letters)
        self._entities[path.lower()] = entity
        self._entities[dead_path.lower()] = dead_letters
        return entity
