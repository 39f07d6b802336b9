"""Which embedding models a database has, which one is active, and how they are named."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.models.settings import LEXICAL, ModelSettings

_SQL = load_statements(Path(__file__).with_name("models.sql"))

State = Literal["active", "filling", "retired"]

#: How the vectors of a model are searched: HNSW over their sign bits, then an exact comparison of
#: the best; HNSW over the vectors; HNSW over them in half precision; IVFFlat; no index at all.
IndexKind = Literal["binary", "hnsw", "halfvec", "ivfflat", "exact"]
INDEX_KINDS: tuple[IndexKind, ...] = get_args(IndexKind)

#: The query that the index of each kind serves, in ``search.sql``.
QUERY_OF: dict[IndexKind, str] = {
    "exact": "exact",
    "binary": "binary",
    "hnsw": "vector",
    "ivfflat": "vector",
    "halfvec": "halfvec",
}

_MODEL_ID = re.compile(r"([A-Za-z0-9][A-Za-z0-9._:/-]{0,119})(?:@([1-9][0-9]{0,3}))?")


class IndexingFailed(Exception):
    """What was asked of models or indexes cannot be done; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model whose vectors the database holds.

    Attributes:
        model: its id, as `model_id` makes it.
        number: part of the names of its partition and indexes.
        index_seconds: how long building its index took.
        vectors: how many vectors of intents it has; an estimate above 10,000.
        size, index_size: those of its partition without indexes, and of its vector index, bytes.
    """

    model: str
    number: int
    state: State
    index_kind: IndexKind
    index_seconds: float
    created_at: datetime
    activated_at: datetime | None
    vectors: int
    size: int
    index_size: int

    def index_name(self, kind: IndexKind) -> str:
        """The name of an index of a kind on the model's partition."""
        return f"intent_embeddings_{self.number}_{kind}"


async def list_models(pool: AsyncConnectionPool) -> list[EmbeddingModel]:
    """All models, the active one first."""
    return [EmbeddingModel(*row) for row in await fetch(pool, _SQL["list"], {})]


async def adopt_model(pool: AsyncConnectionPool, model: str) -> bool:
    """Make ``model`` the active one if the database has no vector yet; whether it was done."""
    [[adopted]] = await fetch(pool, _SQL["adopt"], {"model": model})
    return bool(adopted)


async def count_owed(pool: AsyncConnectionPool) -> int:
    """How many intents wait for a vector, up to 10,000."""
    [[count]] = await fetch(pool, _SQL["count_owed"], {})
    return int(count)


def wanted_model(settings: ModelSettings) -> str:
    """The id of the embedding model that the settings ask for.

    Raises:
        ValueError: its name cannot be part of an id.
    """
    name, dimensions = settings.wanted_embedding
    return model_id(name, None if name == LEXICAL else dimensions)


def model_id(name: str, dimensions: int | None) -> str:
    """The id of a model and its vectors: the name, and the dimensions where they are chosen.

    Raises:
        ValueError: the name cannot be part of an id.
    """
    whole = name if dimensions is None else f"{name}@{dimensions}"
    if _MODEL_ID.fullmatch(whole) is None:
        raise ValueError(
            f"{whole!r} is not the name of a model: letters, digits and . _ : / - , up to 120"
        )
    return whole


def parse_model_id(model: str) -> tuple[str, int | None]:
    """The name and the chosen dimensions in a `model_id`.

    Raises:
        ValueError: it is not one.
    """
    parts = _MODEL_ID.fullmatch(model)
    if parts is None:
        raise ValueError(f"{model!r} is not the name of a model")
    return parts[1], int(parts[2]) if parts[2] else None
