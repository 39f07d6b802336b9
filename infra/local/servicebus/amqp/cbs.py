"""Claims-based security: shared access signatures, checked at the ``$cbs`` node.

Source: OASIS CBS draft 00; "Service Bus access control with Shared Access Signatures" for the
token: ``SharedAccessSignature sr=<uri>&sig=<HMAC-SHA256>&se=<expiry>&skn=<key name>``. What is
signed is the encoded ``sr``, a newline and ``se``.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass
from urllib.parse import unquote_plus, urlsplit

from infra.local.servicebus.amqp.requests import Reply, Request
from infra.local.servicebus.broker.entity import Clock
from infra.local.servicebus.codec.types import Int
from infra.local.servicebus.errors import BusError, Unauthorized, Unsupported

_PREFIX = "SharedAccessSignature "
_MAX_TOKEN = 4096
_FOR_EVER = 2**53


@dataclass(frozen=True)
class Grant:
    """Access to a path and everything below it, until a time in ms since the epoch."""

    path: str
    expires_at: int

    def covers(self, path: str) -> bool:
        """Whether ``path`` (in lower case) is the granted path or below it."""
        return not self.path or path == self.path or path.startswith(self.path + "/")


class SharedKey:
    """The namespace's only shared access key."""

    def __init__(self, name: str, key: str, clock: Clock) -> None:
        self.name = name
        self._key = key.encode()
        self._clock = clock

    def is_key(self, candidate: str) -> bool:
        """Whether ``candidate`` is the key; compares in constant time."""
        return hmac.compare_digest(candidate.encode(), self._key)

    def sign_in(self, name: str, key: str) -> Grant | None:
        """Access to the whole namespace, until the connection ends; None if the key is wrong."""
        if not (self.is_key(key) and hmac.compare_digest(name.encode(), self.name.encode())):
            return None
        return Grant("", _FOR_EVER)

    def verify(self, token: object) -> Grant:
        """Check a shared access signature.

        Raises:
            Unauthorized: it is malformed, expired, or not signed with the key.
        """
        if not isinstance(token, str) or not token.startswith(_PREFIX) or len(token) > _MAX_TOKEN:
            raise Unauthorized("the token is not a shared access signature")
        parts = dict(part.partition("=")[::2] for part in token[len(_PREFIX) :].split("&"))
        resource, expiry = parts.get("sr", ""), parts.get("se", "")
        digest = hmac.digest(self._key, f"{resource}\n{expiry}".encode(), "sha256")
        signature = unquote_plus(parts.get("sig", "")).encode()
        signed = hmac.compare_digest(base64.b64encode(digest), signature)
        named = hmac.compare_digest(unquote_plus(parts.get("skn", "")).encode(), self.name.encode())
        if not (signed and named and expiry.isascii() and expiry.isdigit() and len(expiry) < 13):
            raise Unauthorized("the signature of the token is not valid for this namespace")
        if int(expiry) * 1000 <= self._clock():
            raise Unauthorized("the token has expired")
        return Grant(_path(unquote_plus(resource)), int(expiry) * 1000)


def _path(resource: str) -> str:
    try:
        return urlsplit(resource).path.strip("/").lower()
    except ValueError:
        raise Unauthorized("the token's resource is not a URI") from None


def answer(request: Request, shared_key: SharedKey) -> tuple[Reply, Grant | None]:
    """Answer a request to ``$cbs``; a bad token is refused by status, not by ``rejected``."""
    try:
        if request.operation != "put-token":
            raise Unsupported(f"$cbs does not know the operation {request.operation[:80]!r}")
        grant = shared_key.verify(request.value)
    except BusError as error:
        return _reply(error.status, str(error)), None
    return _reply(202, "Accepted"), grant


def _reply(status: int, description: str) -> Reply:
    return Reply({"status-code": Int(status), "status-description": description})
