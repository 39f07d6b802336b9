"""Fills in the vectors that intents are owed: no intent waits for a provider."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from domain.database.outages import describe_outage, outage_of
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


#: How long nobody else takes what a sweep has taken, seconds; more than the provider may take.
_CLAIM_SECONDS = 60

#: After `EmbeddingSweep.wake`, seconds: what is owed until then is asked for together.
_PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class _Owed:
    intent_id: UUID
    tenant_id: str
    text: str
    text_sha256: bytes
    model: str


class EmbeddingSweep:
    """Fills in what is owed, oldest first; sweeps at the same time share the work."""

    def __init__(self, pool: AsyncConnectionPool, embedders: EmbedderRegistry) -> None:
        self._pool = pool
        self._embedders = embedders
        self._wanted = False
        self._running: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Run soon, without waiting for it."""
        self._wanted = True
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run_while_wanted(), name="owed-vectors")

    async def _run_while_wanted(self) -> None:
        while self._wanted:
            await asyncio.sleep(_PAUSE_SECONDS)
            self._wanted = False
            try:
                await self.run()
            except Exception as error:
                if outage_of(error) is None:
                    logger.exception("owed vectors wait for the timer")
                else:
                    logger.warning("owed vectors wait for the timer: %s", describe_outage(error))

    async def run(self) -> int:
        """Fill in what is available now; returns how many intents are no longer owed a vector.

        Ends at the first outage: the next run, after the pause of the embedder, goes on.
        """
        filled = 0
        while filled < _MOST:
            claim = {"limit": _PAGE, "seconds": _CLAIM_SECONDS}
            rows = await fetch(self._pool, _SQL["claim"], claim)
            owed = [_Owed(*row) for row in rows]
            if not owed:
                await self._delete_filled()
                return filled
            failed = False
            for model in sorted({each.model for each in owed}):
                of_model = [each for each in owed if each.model == model]
                try:
                    await self._fill(model, of_model)
                except EmbeddingUnavailable as error:
                    logger.warning("vectors are still owed: %s", error)
                    ids = [each.intent_id for each in of_model]
                    await fetch(self._pool, _SQL["release"], {"ids": ids})
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
