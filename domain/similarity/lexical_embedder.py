"""The embedder that needs no provider: compares texts by the words and letters they share."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from domain.intents.text import normalized
from domain.models.settings import LEXICAL
from domain.similarity.embedder import DIMENSIONS

_WORD = re.compile(r"[^\W_]+|[^\w\s]")


def normalise(text: str) -> str:
    """``text`` in one Unicode form, lower case, white space collapsed; every word is kept.

    For comparing only: "print YES" and "print yes", "5²" and "52" become the same.
    """
    return " ".join(normalized("NFKC", text).casefold().split())


class LexicalEmbedder:
    """Compares texts by the words and letters they share; knows nothing of meaning.

    The hashing trick with signs (Weinberger et al. 2009, https://arxiv.org/abs/0902.2206) over
    words, pairs of neighbouring words, and letter trigrams of the words. Deterministic across
    processes, Python versions and machines; needs no model.
    """

    model = LEXICAL

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of length 1 for each text.

        Raises:
            ValueError: a text has no words.
        """
        return [_vector(text) for text in texts]


# A shared word says more than a shared trigram, which only helps with spelling and inflection.
_WORD_WEIGHT, _PAIR_WEIGHT, _TRIGRAM_WEIGHT = 1.0, 0.7, 0.3


def _features(words: Sequence[str]) -> Iterator[tuple[str, float]]:
    for word in words:
        yield f"w{word}", _WORD_WEIGHT
        edged = f"<{word}>"
        for start in range(len(edged) - 2):
            yield f"t{edged[start : start + 3]}", _TRIGRAM_WEIGHT
    for first, second in pairwise(words):
        yield f"p{first} {second}", _PAIR_WEIGHT


def _vector(text: str) -> list[float]:
    words = _WORD.findall(normalise(text))
    if not words:
        raise ValueError("text: it has no words to compare; give a sentence")
    vector = [0.0] * DIMENSIONS
    for (feature, weight), count in Counter(_features(words)).items():
        hashed = zlib.crc32(feature.encode(errors="surrogatepass"))
        sign = 1.0 if hashed & 1 else -1.0
        vector[(hashed >> 1) % DIMENSIONS] += sign * weight * (1.0 + math.log(count))
    length = math.sqrt(sum(value * value for value in vector))
    if length == 0.0:
        # All features cancelled each other out: next to impossible, but a vector is needed.
        vector[0] = length = 1.0
    return [value / length for value in vector]
