"""Limits of a tenant's runs: what a program gets by default, and the most it can ask for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from psycopg import errors as pg
from psycopg.types.json import Json
from psycopg_pool import AsyncConnectionPool

from domain.access.store import UnknownTenant
from domain.access.ttl_cache import TtlCache
from domain.contracts.job import JobLimits
from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.intents.content import Limits
from domain.intents.struct import checked, plain

_SQL = load_statements(Path(__file__).with_name("limits.sql"))

#: The limits of a run where neither its program nor its tenant sets them.
DEFAULTS = checked(Limits, JobLimits().model_dump())

NAMES = Limits.__struct_fields__


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """One tenant's limits; None stands for the product's default.

    Attributes:
        defaults: for limits that a program leaves out.
        ceilings: the most that a program can ask for and get.
        updated_at: when they were last set; None if never.
    """

    defaults: Limits = field(default_factory=Limits)
    ceilings: Limits = field(default_factory=Limits)
    updated_at: datetime | None = None

    def resolve(self, asked: Limits) -> Limits:
        """The limits of a run whose program asks for ``asked``, none above its ceiling."""
        wanted = {**_given(DEFAULTS), **_given(self.defaults), **_given(asked)}
        ceilings = _given(self.ceilings)
        return checked(
            Limits, {name: min(value, ceilings.get(name, value)) for name, value in wanted.items()}
        )

    def exceeded(self, asked: Limits) -> dict[str, tuple[float, float]]:
        """The limits in ``asked`` above their ceiling: name → (asked, ceiling)."""
        ceilings = _given(self.ceilings)
        return {
            name: (value, ceilings[name])
            for name, value in _given(asked).items()
            if name in ceilings and value > ceilings[name]
        }


def _given(limits: Limits) -> dict[str, float]:
    return plain(limits)


class LimitsStore:
    """Reads and sets limits; what was read is cached for `ttl_cache.TTL_SECONDS`."""

    def __init__(
        self, pool: AsyncConnectionPool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = pool
        self._known: TtlCache[TenantLimits] = TtlCache(clock)

    async def of(self, tenant_id: str) -> TenantLimits:
        """The tenant's limits; the product's if it has none of its own."""
        key = tenant_id.encode(errors="replace")
        known = self._known.get(key)
        if known is None:
            rows = await fetch(self._pool, _SQL["of"], {"tenant_id": tenant_id})
            known = TenantLimits()
            if rows:
                defaults, ceilings, updated_at = rows[0]
                known = TenantLimits(
                    checked(Limits, defaults), checked(Limits, ceilings), updated_at
                )
            self._known.put(key, known)
        return known

    async def set(self, tenant_id: str, limits: TenantLimits) -> None:
        """Set a tenant's limits; other processes see them when their cached entries expire.

        Raises:
            UnknownTenant: there is no such tenant.
        """
        params = {
            "tenant_id": tenant_id,
            "defaults": Json(_given(limits.defaults)),
            "ceilings": Json(_given(limits.ceilings)),
        }
        try:
            await fetch(self._pool, _SQL["set"], params)
        except pg.ForeignKeyViolation:
            raise UnknownTenant(f"there is no tenant {tenant_id!r}") from None
        self._known.clear()
