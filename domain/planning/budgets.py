"""What tenants may use of language models in a UTC day, and who is making a call right now.

Before a call, the most that it may use is reserved. The transaction of the event that records the
call also replaces the reservation by what was used. All of this happens under the lock of the
tenant's row, so that calls that begin at the same time cannot exceed the budget together. If a
worker dies in between, its reservation lapses: the call may have been made, so all that was
reserved is charged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from uuid import UUID, uuid4

from psycopg import errors as pg
from psycopg_pool import AsyncConnectionPool

from domain.access.store import UnknownTenant
from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog.models import InlineWrite

_SQL = load_statements(Path(__file__).with_name("budgets.sql"))


@dataclass(frozen=True, slots=True)
class Reservation:
    """Tokens reserved for calls of a tenant.

    Attributes:
        key: the attempt that they are for.
        stream_id: the stream of the events that will record the calls.
        version: the stream's version when the calls were found to be due.
        holder: identifies the worker that made the reservation.
    """

    key: UUID
    tenant_id: str
    stream_id: str = ""
    version: int = 0
    holder: UUID = field(default_factory=uuid4)

    def settle(self, tokens: int) -> list[InlineWrite]:
        """The writes that charge ``tokens`` in its place, for the transaction of the events."""
        params = {
            "key": self.key,
            "holder": self.holder,
            "tenant_id": self.tenant_id,
            "tokens": tokens,
        }
        return [InlineWrite(_SQL["lock"], params), InlineWrite(_SQL["settle"], params)]


@dataclass(frozen=True, slots=True)
class HeldElsewhere:
    """Another worker holds the reservation, or has recorded the outcome of the calls by now."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """There is not enough left.

    Attributes:
        budget: tokens for the day.
        used: those of them that ended calls have used.
        reserved: those of them that are reserved for calls in progress.
        wanted: what was to be reserved.
        resets_at: when the next day begins.
    """

    budget: int
    used: int
    reserved: int
    wanted: int
    resets_at: datetime

    @property
    def for_now(self) -> bool:
        """Whether it would suffice if the calls in progress used nothing."""
        return self.used + self.wanted <= self.budget


@dataclass(frozen=True, slots=True)
class Budget:
    """A tenant's figures of today, in tokens; ``own`` is None if the default applies."""

    own: int | None
    used: int
    reserved: int


class TokenBudgets:
    """Reservations and budgets in the database."""

    def __init__(self, pool: AsyncConnectionPool, tokens_per_day: int) -> None:
        self._pool = pool
        self._default = tokens_per_day

    @property
    def default(self) -> int:
        """Tokens per day for a tenant without a budget of its own."""
        return self._default

    async def reserve(
        self, reservation: Reservation, tokens: int, lease: timedelta
    ) -> HeldElsewhere | Exhausted | None:
        """Reserve ``tokens`` in all, in place of what was reserved before; None if that is done.

        Args:
            reservation: new, or one that is held already.
            tokens: what its calls have used so far, plus the most that the next may use.
            lease: for how long it holds unless it is settled or renewed.

        Raises:
            UnknownTenant: there is no such tenant.
        """
        params = {
            "key": reservation.key,
            "holder": reservation.holder,
            "tenant_id": reservation.tenant_id,
            "stream_id": reservation.stream_id,
            "tokens": tokens,
            "lease": lease,
            "default": self._default,
        }
        async with self._pool.connection() as connection, connection.transaction():
            try:
                await connection.execute(_SQL["lock"], params, binary=True)
            except pg.ForeignKeyViolation:
                raise UnknownTenant(f"there is no tenant {reservation.tenant_id!r}") from None
            await connection.execute(_SQL["charge_lapsed"], params, binary=True)
            cursor = await connection.execute(_SQL["figures"], params, binary=True)
            [(day, budget, used, reserved, holder, version)] = await cursor.fetchall()
            if holder is None and version is not None and version > reservation.version:
                return HeldElsewhere()
            if holder is not None and holder != reservation.holder:
                return HeldElsewhere()
            if used + reserved + tokens > budget:
                return Exhausted(budget, used, reserved, tokens, _next(day))
            await connection.execute(_SQL["put"], {**params, "day": day}, binary=True)
        return None

    async def show(self, tenant_id: str) -> Budget:
        """The tenant's figures of today."""
        rows = await fetch(self._pool, _SQL["show"], {"tenant_id": tenant_id})
        return Budget(*rows[0]) if rows else Budget(None, 0, 0)

    async def set(self, tenant_id: str, tokens_per_day: int | None) -> None:
        """Give a tenant a budget of its own, at once and everywhere; None: the default.

        Raises:
            UnknownTenant: there is no such tenant.
        """
        params = {"tenant_id": tenant_id, "tokens_per_day": tokens_per_day}
        try:
            await fetch(self._pool, _SQL["set"], params)
        except pg.ForeignKeyViolation:
            raise UnknownTenant(f"there is no tenant {tenant_id!r}") from None


def _next(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time.min, UTC)
