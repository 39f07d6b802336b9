"""The interface of whatever turns texts into vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

DIMENSIONS = 1536

FailureKind = Literal["outage", "text", "settings"]


class EmbeddingUnavailable(Exception):
    """No vector is available now; the message says why, and holds nothing of the text.

    Attributes:
        kind: ``outage``: it may be over later; ``text``: the provider refuses the text;
            ``settings``: somebody has to correct something.
        retry_after: the pause that the provider asks for, seconds.
    """

    def __init__(
        self, message: str, kind: FailureKind = "outage", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class Embedder(Protocol):
    """Turns texts into vectors of `DIMENSIONS`.

    Attributes:
        model: identifies the vectors; those of different models cannot be compared.
    """

    @property
    def model(self) -> str:
        """Identifies the vectors."""

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text, in order.

        Raises:
            EmbeddingUnavailable: the provider does not answer, or refuses.
            ValueError: a text has no words.
        """
