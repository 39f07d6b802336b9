"""Tenants and their API keys."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from psycopg import errors as pg
from psycopg_pool import AsyncConnectionPool

from domain.access.ttl_cache import TtlCache
from domain.contracts.envelope import TENANT_PATTERN
from domain.database.pool import fetch
from domain.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("store.sql"))

Role = Literal["client", "operator"]

MAX_LISTED = 10_000

_KEY = re.compile(r"qlp_([0-9a-f]{16})_([0-9a-f]{64})")  # 64 bits of id, 256 bits of secret
_NO_KEY = bytes(32)


class UnknownTenant(LookupError):
    """There is no such tenant."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling."""

    tenant_id: str
    role: Role
    key_id: str


@dataclass(frozen=True, slots=True)
class ApiKeyInfo:
    """An API key without its secret."""

    id: str
    tenant_id: str
    role: Role
    label: str
    created_at: datetime
    revoked_at: datetime | None


class ApiKeys:
    """The store of tenants and API keys; verified keys are cached for `ttl_cache.TTL_SECONDS`.

    A key that another process revoked is accepted for up to that long.
    """

    def __init__(
        self, pool: AsyncConnectionPool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = pool
        self._verified: TtlCache[Principal] = TtlCache(clock)
        self._tenants: TtlCache[bool] = TtlCache(clock)

    async def create(self, tenant_id: str, role: Role, label: str) -> str:
        """Create a key. The returned string cannot be read again: only its hash is stored.

        Raises:
            UnknownTenant: there is no such tenant.
            ValueError: the role or the label is invalid.
        """
        if role not in ("client", "operator"):
            raise ValueError(f"role: {role!r}, allowed are 'client' and 'operator'")
        if len(label) > 200 or "\x00" in label:
            raise ValueError("label: at most 200 characters, without NUL")
        key_id, secret = secrets.token_hex(8), secrets.token_hex(32)
        try:
            await fetch(
                self._pool,
                _SQL["create"],
                {
                    "id": key_id,
                    "tenant_id": tenant_id,
                    "role": role,
                    "secret_sha256": _digest(secret),
                    "label": label,
                },
            )
        except pg.ForeignKeyViolation:
            raise UnknownTenant(f"tenant_id: there is no tenant {tenant_id!r}") from None
        return f"qlp_{key_id}_{secret}"

    async def verify(self, key_string: str) -> Principal | None:
        """The owner of a key; None if the string is not a valid key."""
        match = _KEY.fullmatch(key_string)
        if match is None:
            return None
        key_id, secret = match.groups()
        # The whole string is hashed first, so that no lookup depends on parts of a secret.
        cache_key = _digest(key_string)
        if (principal := self._verified.get(cache_key)) is not None:
            return principal
        rows = await fetch(self._pool, _SQL["find"], {"id": key_id})
        tenant_id, role, expected = rows[0] if rows else ("", "client", _NO_KEY)
        if not hmac.compare_digest(_digest(secret), expected) or not rows:
            return None
        principal = Principal(tenant_id, role, key_id)
        self._verified.put(cache_key, principal)
        return principal

    async def revoke(self, key_id: str) -> bool:
        """Revoke a key: here at once, in other processes within `ttl_cache.TTL_SECONDS`.

        Returns:
            False if there is no such key, or it was revoked before.
        """
        rows = await fetch(self._pool, _SQL["revoke"], {"id": key_id})
        self._verified.drop(lambda principal: principal.key_id == key_id)
        return bool(rows)

    async def list(self) -> Sequence[ApiKeyInfo]:
        """The keys, oldest first, revoked ones included; at most `MAX_LISTED`."""
        return [
            ApiKeyInfo(*row) for row in await fetch(self._pool, _SQL["list"], {"limit": MAX_LISTED})
        ]

    async def ensure_tenant(self, tenant_id: str) -> None:
        """Create the tenant unless it exists.

        Raises:
            ValueError: not a valid tenant id.
        """
        if not re.match(TENANT_PATTERN, tenant_id):
            raise ValueError(
                "tenant_id: 1 to 64 lower-case letters, digits and inner hyphens, "
                f"not {tenant_id[:80]!r}"
            )
        await fetch(self._pool, _SQL["ensure_tenant"], {"id": tenant_id})

    async def tenant_exists(self, tenant_id: str) -> bool:
        """Whether the tenant exists; True is cached, because tenants are never removed."""
        if not re.match(TENANT_PATTERN, tenant_id):
            return False
        cache_key = tenant_id.encode()
        if self._tenants.get(cache_key):
            return True
        [[exists]] = await fetch(self._pool, _SQL["tenant_exists"], {"id": tenant_id})
        if exists:
            self._tenants.put(cache_key, True)
        return bool(exists)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
