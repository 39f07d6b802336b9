"""Artifacts of runs: uploaded by the host, claimed by the run's result, downloaded by clients.

Contents are stored once per tenant, under their SHA-256. An upload stores only content, which
becomes an artifact when the transaction that records the run's end claims it; unclaimed content is
deleted after a day. Names, sizes and hashes are in the log, and stay there when the content is
deleted.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.contracts.job import Artifact, SandboxResult, SkippedArtifact
from domain.database.pool import delete_in_steps, fetch
from domain.database.statements import load_statements
from domain.eventlog.models import InlineWrite

_SQL = load_statements(Path(__file__).with_name("artifacts.sql"))

_PURGED_AT_ONCE = 200


class WrongHash(Exception):
    """A content does not have the stated hash."""


class UploadLimitExceeded(Exception):
    """A run would upload more than it may; the message says how much that is."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What is recorded of a result's artifacts.

    Attributes:
        artifacts: those whose content is stored, or will be by ``writes``.
        skipped: all others, and why.
        writes: for the transaction that records the run's end.
    """

    artifacts: Sequence[Artifact]
    skipped: Sequence[SkippedArtifact]
    writes: Sequence[InlineWrite]


class Artifacts:
    """The store of artifacts of all tenants."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def upload(
        self, tenant_id: str, run_id: UUID, sha256: str, content: bytes, limit: int
    ) -> None:
        """Store a content for a run that has not ended; repeating it changes nothing.

        Args:
            tenant_id: the owner of the run.
            run_id: the run that produced the content.
            sha256: of the content, hexadecimal.
            content: the bytes.
            limit: most bytes of all uploads of the run together.

        Raises:
            WrongHash: the content has another hash.
            UploadLimitExceeded: the run's uploads would exceed its limit.
        """
        found = await asyncio.to_thread(_sha256, content)
        if found.hex() != sha256:
            raise WrongHash(f"its SHA-256 is {found.hex()}, not {sha256}")
        params: dict[str, Any] = {
            "tenant_id": tenant_id,
            "run_id": run_id,
            "sha256": found,
            "size": len(content),
            "content": content,
        }
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(_SQL["one_upload_at_a_time"], params)
            cursor = await connection.execute(_SQL["uploaded"], params)
            [(before,)] = await cursor.fetchall()
            if before + len(content) > limit:
                raise UploadLimitExceeded(
                    f"{before} + {len(content)} bytes; the run may leave {limit} in all"
                )
            await connection.execute(_SQL["add_upload"], params)
            await connection.execute(_SQL["store"], params)

    async def claim(self, tenant_id: str, result: SandboxResult) -> Claimed:
        """A result's available and skipped artifacts, with the writes that claim the former."""
        artifacts: list[Artifact] = []
        skipped: list[SkippedArtifact] = []
        carried: dict[str, bytes] = {}
        uploaded = await self._protect(tenant_id, result.artifacts)
        for artifact in result.artifacts:
            content = _content_of(artifact)
            if content is not None:
                carried[artifact.sha256] = content
                artifacts.append(artifact)
            elif artifact.content is not None:
                skipped.append(_skip(artifact, "its content does not match its hash"))
            elif artifact.sha256 in uploaded:
                artifacts.append(artifact)
            else:
                skipped.append(_skip(artifact, "was not uploaded"))
        writes = [
            InlineWrite(
                _SQL["store"],
                {"tenant_id": tenant_id, "sha256": bytes.fromhex(sha256), "content": content},
            )
            for sha256, content in sorted(
                carried.items()
            )  # the same order everywhere prevents deadlocks
        ]
        if artifacts:
            writes += [
                _claim(tenant_id, result, artifacts),
                InlineWrite(_SQL["forget_uploads"], {"run_id": result.run_id}),
            ]
        return Claimed(artifacts, skipped, writes)

    async def _protect(self, tenant_id: str, artifacts: Sequence[Artifact]) -> set[str]:
        wanted = sorted({each.sha256 for each in artifacts if each.content is None})
        if not wanted:
            return set()
        params = {"tenant_id": tenant_id, "sha256s": [bytes.fromhex(each) for each in wanted]}
        rows = await fetch(self._pool, _SQL["protect"], params)
        return {sha256.hex() for (sha256,) in rows}

    async def available(self, tenant_id: str, sha256s: Iterable[str]) -> set[str]:
        """Those of the hashes whose contents the tenant still has stored."""
        params = {"tenant_id": tenant_id, "sha256s": [bytes.fromhex(each) for each in sha256s]}
        rows = await fetch(self._pool, _SQL["available"], params)
        return {sha256.hex() for (sha256,) in rows}

    async def content(self, tenant_id: str, sha256: str) -> bytes | None:
        """A content; None if it was deleted."""
        params = {"tenant_id": tenant_id, "sha256": bytes.fromhex(sha256)}
        rows = await fetch(self._pool, _SQL["content"], params)
        return rows[0][0] if rows else None

    async def purge(self, days: int) -> int:
        """Delete contents that are older than a day and were not claimed in the last ``days``.

        Returns:
            the number of deleted contents.
        """
        params = {"days": days, "limit": _PURGED_AT_ONCE}
        count = await delete_in_steps(self._pool, _SQL["purge_contents"], params)
        await fetch(self._pool, _SQL["purge_uploads"], {})
        await fetch(self._pool, _SQL["purge_claims"], {"days": days})
        return count


def _claim(tenant_id: str, result: SandboxResult, artifacts: Sequence[Artifact]) -> InlineWrite:
    params = {
        "intent_id": result.intent_id,
        "run_id": result.run_id,
        "tenant_id": tenant_id,
        "sha256s": [bytes.fromhex(each.sha256) for each in artifacts],
    }
    return InlineWrite(_SQL["claim"], params)


def _content_of(artifact: Artifact) -> bytes | None:
    """The content in the result, if its size and hash are right; else None."""
    if artifact.content is None:
        return None
    try:
        content = base64.b64decode(artifact.content, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(content) != artifact.size or _sha256(content).hex() != artifact.sha256:
        return None
    return content


def _skip(artifact: Artifact, reason: str) -> SkippedArtifact:
    return SkippedArtifact(name=artifact.name, reason=reason)


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
