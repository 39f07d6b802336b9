"""Fills in the vectors that intents went without, because a provider was away."""

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

#: Debts of one transaction, and the most that one run of the sweep takes.
_PAGE, _MOST = 100, 2_000

#: A text that the provider refuses so often is given up: its intent stays without a vector.
MAX_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class _Debt:
    intent_id: UUID
    tenant_id: str
    text: str
    text_sha256: bytes
    model: str


class EmbeddingSweep:
    """Pays what is owed, oldest first; two at once pay twice at most, and record once."""

    def __init__(self, pool: AsyncConnectionPool, embedders: EmbedderRegistry) -> None:
        self._pool = pool
        self._embedders = embedders

    async def run(self) -> int:
        """Fill in what can be had now; how many debts were paid.

        Ends at the first outage: the next run, after the pause of the embedder, goes on.
        """
        paid = 0
        while paid < _MOST:
            rows = await fetch(self._pool, _SQL["due"], {"limit": _PAGE})
            debts = [_Debt(*row) for row in rows]
            if not debts:
                await self._forget_paid()
                return paid
            failed = False
            for model in sorted({debt.model for debt in debts}):
                try:
                    await self._pay(model, [debt for debt in debts if debt.model == model])
                except EmbeddingUnavailable as error:
                    logger.warning("vectors are still owed: %s", error)
                    failed = True
            paid += await self._forget_paid()
            if failed:
                break
        return paid

    async def _pay(self, model: str, debts: Sequence[_Debt]) -> None:
        texts = [TextOf(d.intent_id, d.tenant_id, d.text, d.text_sha256) for d in debts]
        refused = await fill(self._pool, self._embedders.of(model), texts)
        if refused:
            params = {"ids": refused, "most": MAX_ATTEMPTS}
            for (intent_id,) in await fetch(self._pool, _SQL["postpone"], params):
                logger.warning("intent %s stays without a vector: its text is refused", intent_id)

    async def _forget_paid(self) -> int:
        return len(await fetch(self._pool, _SQL["forget_paid"], {}))
