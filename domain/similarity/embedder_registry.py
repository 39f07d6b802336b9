"""The embedders of this process, one for each model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from domain.models.settings import LEXICAL
from domain.similarity.embedder import Embedder, EmbeddingUnavailable
from domain.similarity.lexical_embedder import LexicalEmbedder
from domain.similarity.models import parse_model_id

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from domain.similarity.openai_embedder import OpenAiEmbedder

#: How long planning an intent, or a search, may wait for its vector, seconds.
BUDGET_SECONDS = 5.0

#: How long the provider is not asked after an outage, seconds: every request would wait in vain.
PAUSE_SECONDS = 15.0


class EmbedderRegistry:
    """Makes the embedder of any model that the database or an operator names.

    Args:
        client: that of the provider; None where none is configured.
        budget_seconds: time for one request with its retries.
        pause_seconds: time without requests after an outage.
    """

    def __init__(
        self,
        client: AsyncOpenAI | None,
        *,
        budget_seconds: float = BUDGET_SECONDS,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._client = client
        self._budget = budget_seconds
        self._pause = pause_seconds
        self._known: dict[str, Embedder] = {LEXICAL: LexicalEmbedder()}

    def of(self, model: str) -> Embedder:
        """The embedder of a model.

        Raises:
            EmbeddingUnavailable: it needs a provider, and none is configured.
        """
        if (known := self._known.get(model)) is not None:
            return known
        if self._client is None:
            raise EmbeddingUnavailable(
                f"{model} needs a provider: set OPENAI_API_KEY, OPENAI_BASE_URL or "
                "AZURE_OPENAI_ENDPOINT",
                "settings",
            )
        from domain.similarity.openai_embedder import OpenAiEmbedder  # imports the SDK

        name, dimensions = parse_model_id(model)
        asked = OpenAiEmbedder(self._client, model, name, dimensions, self._budget)
        self._known[model] = embedder = _CircuitBreaker(asked, self._pause)
        return embedder

    def is_remote(self, model: str) -> bool:
        """Whether the vectors of a model come over the network."""
        return model != LEXICAL

    def tokens_of(self, model: str) -> int:
        """How many tokens the provider has counted for a model, in this process."""
        embedder = self._known.get(model)
        return embedder.tokens if isinstance(embedder, _CircuitBreaker) else 0

    def problem_of(self, model: str) -> str | None:
        """Why the active model's embedder cannot be used at the moment; None if it can."""
        try:
            embedder = self.of(model)
        except EmbeddingUnavailable as error:
            return f"{error}, or go back with: qlp embeddings migrate --to {LEXICAL}"
        return embedder.problem if isinstance(embedder, _CircuitBreaker) else None


class _CircuitBreaker:
    """An embedder that is not asked for a while after an outage."""

    def __init__(self, embedder: OpenAiEmbedder, pause: float) -> None:
        self._embedder = embedder
        self._pause = pause
        self._until = 0.0
        self.problem: str | None = None

    @property
    def model(self) -> str:
        return self._embedder.model

    @property
    def tokens(self) -> int:
        return self._embedder.tokens

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        left = self._until - time.monotonic()
        if left > 0 and self.problem is not None:
            raise EmbeddingUnavailable(self.problem, retry_after=left)
        try:
            vectors = await self._embedder.embed(texts)
        except EmbeddingUnavailable as error:
            if error.kind != "text":
                self.problem = str(error)
            if error.kind == "outage":
                self._until = time.monotonic() + max(self._pause, error.retry_after or 0.0)
            raise
        self.problem = None
        return vectors
