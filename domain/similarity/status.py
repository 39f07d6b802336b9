"""Which model a running application uses, which its settings name, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg_pool import AsyncConnectionPool

from domain.models.settings import LEXICAL
from domain.similarity.embedder_registry import EmbedderRegistry
from domain.similarity.models import count_owed, list_models


@dataclass(frozen=True, slots=True)
class EmbedderReport:
    """The state of embeddings.

    Attributes:
        active: the model in use; the database says which, never the settings.
        filling: the model that a migration is filling, if one is.
        wanted: the model of the settings.
        index_kind: how the active model's vectors are searched.
        owed: intents that wait for a vector, up to 10,000.
        problem: why there are no new vectors, and the fix.
    """

    active: str
    filling: str | None
    wanted: str
    index_kind: str
    owed: int
    problem: str | None

    @property
    def difference(self) -> str | None:
        """A note that the settings ask for another model than the active one, and the command."""
        if self.wanted == self.active:
            return None
        command = migrate_command(self.wanted)
        if self.filling == self.wanted:
            return f"{self.wanted} is being filled, {self.active} is active; to continue: {command}"
        return f"the settings ask for {self.wanted}, vectors are of {self.active}; run: {command}"

    def detail(self) -> dict[str, Any]:
        """The report as the health endpoint shows it."""
        note = self.difference
        if note is None and self.active == LEXICAL:
            note = "offline lexical embedder: finds shared words, not shared meaning"
        named = {
            "problem": self.problem,
            "filling": self.filling,
            "note": note,
            "owed": self.owed or None,
        }
        given = {name: value for name, value in named.items() if value is not None}
        return {"model": self.active, "index": self.index_kind, **given}


def migrate_command(model: str) -> str:
    """The command that changes to a model, given by its id."""
    name, _, dimensions = model.partition("@")
    suffix = f" --dimensions {dimensions}" if dimensions else ""
    return f"qlp embeddings migrate --to {name}{suffix}"


class EmbedderStatus:
    """Looks at the database's models and this process's embedders."""

    def __init__(self, pool: AsyncConnectionPool, embedders: EmbedderRegistry, wanted: str) -> None:
        self._pool = pool
        self._embedders = embedders
        self._wanted = wanted

    async def report(self) -> EmbedderReport:
        """The report of this moment; asks no provider."""
        models = {each.state: each for each in await list_models(self._pool)}
        active, filling = models["active"], models.get("filling")
        owed = await count_owed(self._pool)
        problem = self._embedders.problem_of(active.model)
        if problem and owed:
            problem += f"; intents go on without their vectors, {owed} are owed and filled in later"
        return EmbedderReport(
            active.model,
            filling.model if filling else None,
            self._wanted,
            active.index_kind,
            owed,
            problem,
        )
