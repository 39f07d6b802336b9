"""Which paths a connection may use, by its tokens."""

from __future__ import annotations

from infra.local.servicebus.amqp.cbs import Grant
from infra.local.servicebus.broker.entity import Clock
from infra.local.servicebus.errors import ProtocolError, Unauthorized

_MAX_GRANTS = 256


class Authorisation:
    """The valid grants of a connection, the latest one for each path."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_path: dict[str, Grant] = {}

    def admit(self, grant: Grant) -> None:
        """Add a grant; it replaces an existing one for the same path.

        Raises:
            ProtocolError: the peer has put too many tokens.
        """
        if len(self._by_path) >= _MAX_GRANTS and grant.path not in self._by_path:
            raise ProtocolError("amqp:resource-limit-exceeded", "too many tokens")
        self._by_path[grant.path] = grant

    def covers(self, path: str) -> bool:
        """Whether a valid grant covers ``path``."""
        now = self._clock()
        return any(g.covers(path) and g.expires_at > now for g in self._by_path.values())

    def authorise(self, path: str) -> None:
        """Check that a valid grant covers ``path``.

        Raises:
            Unauthorized: none does; the peer must put a token at ``$cbs`` first.
        """
        if not self.covers(path):
            raise Unauthorized(f"no valid token covers {path}; put one at $cbs first")

    def seconds_to_next_expiry(self) -> float | None:
        """Remove expired grants; returns None if no grant is left."""
        now = self._clock()
        self._by_path = {p: g for p, g in self._by_path.items() if g.expires_at > now}
        if not self._by_path:
            return None
        return (min(grant.expires_at for grant in self._by_path.values()) - now) / 1000
