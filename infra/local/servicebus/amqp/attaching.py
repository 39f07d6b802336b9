"""Attaching links: to entities, to ``$cbs`` and to ``$management`` nodes."""

from __future__ import annotations

from infra.local.servicebus.amqp.answers import encode_attach, terminus
from infra.local.servicebus.amqp.cbs import SharedKey
from infra.local.servicebus.amqp.cbs import answer as answer_cbs
from infra.local.servicebus.amqp.links import ConsumerLink, IncomingLink, Link, ReplyLink, Sink
from infra.local.servicebus.amqp.management import Management, refusal
from infra.local.servicebus.amqp.performatives import COORDINATOR, SOURCE, TARGET, Attach
from infra.local.servicebus.amqp.requests import encode_reply, parse_request
from infra.local.servicebus.amqp.session import Session
from infra.local.servicebus.broker.dispatcher import Dispatcher
from infra.local.servicebus.broker.entity import Entity
from infra.local.servicebus.broker.messages import BATCH_FORMAT, parse_message, split_batch
from infra.local.servicebus.broker.namespace import (
    CBS,
    MANAGEMENT,
    Address,
    Namespace,
    parse_address,
)
from infra.local.servicebus.broker.topic import Topic
from infra.local.servicebus.codec.types import Described
from infra.local.servicebus.errors import BusError, NotAllowed, Unauthorized, Unsupported

_SESSION_FILTER = "com.microsoft:session-filter"


class Attacher:
    """Creates the links that peers ask for, or refuses them."""

    def __init__(
        self,
        namespace: Namespace,
        shared_key: SharedKey,
        dispatchers: dict[str, Dispatcher],
    ) -> None:
        self._namespace = namespace
        self._shared_key = shared_key
        self._dispatchers = dispatchers

    def __call__(self, session: Session, attach: Attach) -> Link | None:
        """Return the attached link, or refuse it with a detach and return None."""
        limit = session.limits.max_message_bytes
        try:
            link = self._link(session, attach)
        except BusError as error:
            # An attach without a terminus, then a detach: the SDK raises immediately. With the
            # terminus, it would consider the link attached.
            session.send(encode_attach(attach, None, None, limit))
            session.refuse(attach.handle, error.condition, str(error))
            return None
        source = terminus(SOURCE, _address(attach.source))
        target = terminus(TARGET, _address(attach.target))
        session.send(encode_attach(attach, source, target, limit))
        if isinstance(link, IncomingLink):
            link.grant_credit()
        return link

    def _link(self, session: Session, attach: Attach) -> Link:
        if attach.target is not None and attach.target.descriptor == COORDINATOR:
            raise Unsupported("transactions are not supported; send and settle without one")
        address = parse_address(_address(attach.source if attach.role else attach.target))
        if address.path == CBS:
            return self._cbs_link(session, attach)
        if address.management:
            return self._management_link(session, attach, address)
        session.connection.authorise(address.path)
        if attach.role:
            return self._consumer(session, attach, address.path)
        node = self._namespace.target(address.path)
        return IncomingLink(session, attach.handle, address.path, _enqueue_into(node))

    def _cbs_link(self, session: Session, attach: Attach) -> Link:
        if attach.role:
            target = _address(attach.target)
            return ReplyLink(session, attach.handle, CBS, None, target)

        def take(payload: bytes, _message_format: int) -> None:
            request = parse_request(payload)
            reply, grant = answer_cbs(request, self._shared_key)
            if grant is not None:
                session.connection.admit(grant)
            link = session.reply_link(CBS, request.reply_to)
            if link is not None:
                link.reply(encode_reply(request, reply))

        return IncomingLink(session, attach.handle, None, take)

    def _management_link(self, session: Session, attach: Attach, address: Address) -> Link:
        path = address.path
        node = self._namespace.node(path)
        # A token for only the node is enough: the JavaScript SDK lists rules with such a token.
        claimed = f"{path}{MANAGEMENT}"
        if attach.role:
            return ReplyLink(session, attach.handle, path, claimed, _address(attach.target))
        management = Management(node, session.limits.max_message_bytes)

        def take(payload: bytes, _message_format: int) -> None:
            request = parse_request(payload)
            try:
                session.connection.authorise(claimed)
                reply = management.answer(request)
            except Unauthorized as error:
                reply = refusal(error)
            link = session.reply_link(path, request.reply_to)
            if link is not None:
                link.reply(encode_reply(request, reply))

        return IncomingLink(session, attach.handle, claimed, take)

    def _consumer(self, session: Session, attach: Attach, path: str) -> ConsumerLink:
        filters = _field(attach.source, 7)
        if isinstance(filters, dict) and filters:
            if _SESSION_FILTER in filters:
                raise NotAllowed(f"{path} does not require sessions; receive without session_id")
            raise Unsupported("filters on a receiver are not supported")
        entity: Entity = self._namespace.source(path)
        dispatcher = self._dispatchers[path]
        mode = attach.snd_settle_mode
        return ConsumerLink(session, attach.handle, path, entity, dispatcher, mode)


def _enqueue_into(node: Entity | Topic) -> Sink:
    def take(payload: bytes, message_format: int) -> None:
        batch = split_batch(payload) if message_format == BATCH_FORMAT else [payload]
        node.enqueue([parse_message(message) for message in batch])

    return take


def _field(described: Described | None, index: int) -> object:
    """A field of a terminus, or None."""
    fields = described.value if described is not None else None
    return fields[index] if isinstance(fields, list) and len(fields) > index else None


def _address(described: Described | None) -> str | None:
    address = _field(described, 0)
    return str(address) if isinstance(address, str) else None
