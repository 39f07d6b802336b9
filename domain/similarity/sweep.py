"""Fills in the vectors that intents are owed because a provider was not available."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.similarity.embedder import EmbeddingUnavailable
from domain.similarity.embedder_registry import EmbedderRegistry
from domain.similarity.filling import TextOf, fill

logger = logging.getLogger(__name__)

_SQL = load_statements(Path(__file__).with_name("sweep.sql"))

#: Intents per transaction, and the most that one run of the sweep takes.
_PAGE, _MOST = 100, 2_000

#: How often a refused text is tried before it is given up: its intent stays without a vector.
MAX_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class _Owed:
    intent_id: UUID
    tenant_id: str
    text: str
    text_sha256: bytes
    model: str


class EmbeddingSweep:
    """Fills in what is owed, oldest first; two sweeps at once may pay twice, but record once."""

    def __init__(self, pool: AsyncConnectionPool, embedders: EmbedderRegistry) -> None:
        self._pool = pool
        self._embedders = embedders

    async def run(self) -> int:
        """Fill in what is available now; returns how many intents are no longer owed a vector.

        Ends at the first outage: the next run, after the pause of the embedder, goes on.
        """
        filled = 0
        while filled < _MOST:
            rows = await fetch(self._pool, _SQL["due"], {"limit": _PAGE})
            owed = [_Owed(*row) for row in rows]
            if not owed:
                await self._delete_filled()
                return filled
            failed = False
            for model in sorted({each.model for each in owed}):
                try:
                    await self._fill(model, [each for each in owed if each.model == model])
                except EmbeddingUnavailable as error:
                    logger.warning("vectors are still owed: %s", error)
                    failed = True
            filled += await self._delete_filled()
            if failed:
                break
        return filled

    async def _fill(self, model: str, owed: Sequence[_Owed]) -> None:
        texts = [TextOf(d.intent_id, d.tenant_id, d.text, d.text_sha256) for d in owed]
        refused = await fill(self._pool, self._embedders.of(model), texts)
        if refused:
            params = {"ids": refused, "most": MAX_ATTEMPTS}
            for (intent_id,) in await fetch(self._pool, _SQL["postpone"], params):
                logger.warning("intent %s stays without a vector: its text is refused", intent_id)

    async def _delete_filled(self) -> int:
        return len(await fetch(self._pool, _SQL["delete_filled"], {}))
