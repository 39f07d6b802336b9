"""Changes to another embedding model: fill, index, check, then swap the two at once.

Vectors are recorded as they come, so a migration that was killed goes on where it was and pays for
nothing twice. The old model serves all the while; new intents get both vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from domain.database.locking import retry_locking
from domain.database.pool import fetch_over
from domain.database.statements import load_statements
from domain.models.settings import LEXICAL
from domain.similarity.embedder_registry import EmbedderRegistry
from domain.similarity.filling import TextOf, fill
from domain.similarity.indexing import OnBuilding, VectorIndexes, estimate, exclusive_connection
from domain.similarity.models import EmbeddingModel, IndexingFailed, IndexKind, list_models
from domain.similarity.recall import ALARM_BELOW, measure_recall

_SQL = load_statements(Path(__file__).with_name("migration.sql"))
_OWNER = load_statements(Path(__file__).with_name("owner.sql"))

#: Texts per request and transaction; after a kill, as many may have to be paid for again.
PAGE = 256

#: English takes about four bytes a token; no text takes more tokens than bytes.
_BYTES_PER_TOKEN = 4

#: How long a request for a page of texts takes, and computing as many; for the estimate.
_PAGE_SECONDS, _LEXICAL_PAGE_SECONDS = 1.5, 0.2

_SAMPLE = 50

#: The kind of index if that of the old model finds too little, and none was asked for.
_FALLBACK: IndexKind = "halfvec"

_LOCK_TRIES = 30

Stage = Literal["fill", "index", "check", "swap", "done"]

#: Called with the stage, how much of it is done, and of how much.
OnProgress = Callable[[Stage, int, int], None]


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What a migration would do and cost.

    Attributes:
        intents: those without a vector of the target.
        texts: different texts whose vectors have to be requested.
        tokens: estimate; ``tokens_most`` is never exceeded.
        usd, usd_most: by the price of the settings; None where it is not set.
        seconds: estimate, index included.
        drops: models whose vectors would be deleted in the end.
    """

    source: str
    target: str
    index_kind: IndexKind
    intents: int
    texts: int
    tokens: int
    tokens_most: int
    usd: float | None
    usd_most: float | None
    seconds: float
    drops: list[str]


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration has done; ``tokens`` are those that the provider counted this time."""

    source: str
    target: str
    intents: int
    tokens: int
    usd: float | None
    refused: int
    recall: float | None
    dropped: list[str]


class Migration:
    """One change of the embedding model.

    Args:
        pool: of the login that owns the tables; at least three connections.
        embedders: must have that of the target.
        target: the id of the model to change to.
        price: USD per million tokens; 0: unknown.
        index_kind: that of the target; None: the active model's, or another if that finds too
            little.
        drop_old: delete all other models' vectors after the swap.
        on_progress: called as it goes on.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool,
        embedders: EmbedderRegistry,
        target: str,
        *,
        price: float,
        index_kind: IndexKind | None,
        drop_old: bool,
        on_progress: OnProgress,
    ) -> None:
        self._pool = pool
        self._embedders = embedders
        self._target = target
        self._price = price
        self._kind = index_kind
        self._drop_old = drop_old
        self._tell = on_progress
        self._refused: set[UUID] = set()

    async def plan(self) -> MigrationPlan:
        """What `run` would do; changes nothing and asks no provider.

        Raises:
            IndexingFailed: another model is being filled.
            EmbeddingUnavailable: the target needs a provider, and none is configured.
        """
        models = await self._models()
        source = _active(models)
        texts = size = intents = 0
        if source.model != self._target:
            self._embedders.of(self._target)
            params = {"source": source.model, "target": self._target}
            async with self._pool.connection() as connection, connection.transaction():
                await connection.execute(_OWNER["limit_lock_wait"])
                [(intents, texts, size)] = await fetch_over(connection, _SQL["cost"], params)
        free = self._target == LEXICAL
        tokens, most = (0, 0) if free else (-(-size // _BYTES_PER_TOKEN), size)
        kind = self._kind or source.index_kind
        pages = -(-texts // PAGE) * (_LEXICAL_PAGE_SECONDS if free else _PAGE_SECONDS)
        return MigrationPlan(
            *(source.model, self._target, kind, intents, texts, tokens, most),
            *(self._cost(tokens), self._cost(most)),
            pages + estimate(kind, intents)[0],
            [m.model for m in models if m.model != self._target] if self._drop_old else [],
        )

    async def run(self) -> Migrated:
        """Fill, index, check, swap; goes on where an interrupted run ended.

        Raises:
            IndexingFailed: this login is not the owner, another change is running, another model is
                being filled, or the check failed. The old model then stays active.
            EmbeddingUnavailable: the provider does not answer within its budget, or refuses.
        """
        async with exclusive_connection(self._pool) as connection:
            models = await self._models()
            source = _active(models)
            recall, intents = None, 0
            if source.model != self._target:
                await self._open(connection, models)
                intents = await self._fill(source.model)
                recall = await self._index_and_check(connection, source)
                intents += await self._exchange(connection, source.model)
                target = await self._model()
                self._tell("done", target.vectors, target.vectors)
            dropped = await self._drop(connection) if self._drop_old else []
        tokens = self._embedders.tokens_of(self._target)
        return Migrated(
            *(source.model, self._target, intents, tokens, self._cost(tokens)),
            *(len(self._refused), recall, dropped),
        )

    async def _models(self) -> list[EmbeddingModel]:
        models = await list_models(self._pool)
        others = [m.model for m in models if m.state == "filling" and m.model != self._target]
        if others:
            raise IndexingFailed(
                f"a migration to {others[0]} is under way: finish it with qlp embeddings migrate "
                f"--to {others[0]}, or give it up with qlp embeddings drop {others[0]}"
            )
        return models

    async def _model(self) -> EmbeddingModel:
        return next(m for m in await list_models(self._pool) if m.model == self._target)

    async def _open(
        self, connection: AsyncConnection[Any], models: Sequence[EmbeddingModel]
    ) -> None:
        kind = self._kind or _active(models).index_kind
        params = {"model": self._target, "kind": kind}
        known = {model.model: model.state for model in models}
        if self._target not in known:
            # A wrong name or key should fail here, before a table is made for it.
            await self._embedders.of(self._target).embed(["sort a list of numbers"])
            await connection.execute(_OWNER["open"], params)
        elif known[self._target] == "retired":
            await connection.execute(_OWNER["reopen"], params)

    async def _fill(self, source: str) -> int:
        """Give every intent its vector, until a pass finds none without; how many got one."""
        embedder = self._embedders.of(self._target)
        filled, total = 0, (await self.plan()).intents
        while True:
            before, after = filled, UUID(int=0)
            while texts := await self._page(source, after):
                after = texts[-1].intent_id
                asked = [each for each in texts if each.intent_id not in self._refused]
                refused = await fill(self._pool, embedder, asked)
                self._refused.update(refused)
                filled += len(asked) - len(refused)
                self._tell("fill", filled, max(total, filled))
            if filled == before:
                return filled

    async def _page(self, source: str, after: UUID) -> list[TextOf]:
        params = {"source": source, "target": self._target, "after": after, "limit": PAGE}
        async with self._pool.connection() as connection:
            return [TextOf(*row) for row in await fetch_over(connection, _SQL["page"], params)]

    async def _index_and_check(
        self, connection: AsyncConnection[Any], source: EmbeddingModel
    ) -> float | None:
        await connection.execute(_OWNER["analyze"])
        indexes = VectorIndexes(self._pool)
        # Sign bits may say too little about another model's vectors, above all about short ones.
        for kind in [self._kind] if self._kind else [source.index_kind, _FALLBACK]:
            target = await self._model()
            await indexes.build(connection, target, kind, False, self._building(target.vectors))
            self._tell("check", 0, 1)
            measured = await measure_recall(self._pool, self._target, kind, _SAMPLE)
            if not measured.alarming:
                await indexes.drop_strays(connection, target, kind)
                return measured.recall
        raise IndexingFailed(
            f"recall of the new vectors by the {kind} index is {measured.recall:.3f}, below "
            f"{ALARM_BELOW}: {source.model} stays active; run it again with another --index, for "
            "example hnsw"
        )

    def _building(self, vectors: int) -> OnBuilding:
        return lambda share: self._tell("index", round(share * vectors), vectors)

    async def _exchange(self, connection: AsyncConnection[Any], source: str) -> int:
        """Make the target the active model; returns how many intents were filled in meanwhile.

        Writers of vectors wait during the swap, so that none is overlooked; a later one finds
        another active model, and its intent is owed a vector.
        """
        late = 0

        async def exchange() -> int | None:
            nonlocal late
            late += await self._fill(source)
            self._tell("swap", 0, 1)
            async with connection.transaction():
                await connection.execute(_OWNER["limit_lock_wait"])
                await connection.execute(_OWNER["hold_writers"])
                params = {
                    "source": source,
                    "target": self._target,
                    "refused": list(self._refused),
                }
                [[missing]] = await fetch_over(connection, _SQL["missing"], params)
                if missing:
                    return None
                await connection.execute(_OWNER["retire"])
                await connection.execute(_OWNER["activate"], {"model": self._target})
            return late

        filled = await retry_locking(exchange, _LOCK_TRIES)
        if filled is not None:
            return filled
        raise IndexingFailed(
            "the tables could not be locked: end the long transactions that use them "
            "(pg_stat_activity) and run it again; it goes on from here"
        )

    async def _drop(self, connection: AsyncConnection[Any]) -> list[str]:
        retired = [m.model for m in await list_models(self._pool) if m.state == "retired"]
        for model in retired:
            await drop_model(connection, model)
        return retired

    def _cost(self, tokens: int) -> float | None:
        if self._target == LEXICAL:
            return 0.0
        return tokens * self._price / 1e6 if self._price else None


async def drop_model(connection: AsyncConnection[Any], model: str) -> None:
    """Delete a model's vectors; they would have to be paid for again.

    Raises:
        IndexingFailed: its table could not be locked.
        psycopg.errors.RaiseException: there is no such model, or it is the active one.
    """

    async def drop() -> bool:
        async with connection.transaction():
            await connection.execute(_OWNER["limit_lock_wait"])
            await connection.execute(_OWNER["drop"], {"model": model})
        return True

    if not await retry_locking(drop, _LOCK_TRIES):
        raise IndexingFailed(f"{model}: its table could not be locked; run it again")


def _active(models: Sequence[EmbeddingModel]) -> EmbeddingModel:
    return next(model for model in models if model.state == "active")
