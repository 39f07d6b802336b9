"""The pairs are what they claim to be, as far as that can be checked without understanding them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from domain.intents.text import text_hash
from domain.similarity.lexical_embedder import LexicalEmbedder
from tests.evaluation.pairs import NEAR_MISSES, PARAPHRASES, REPEATS, Pair


def test_there_are_enough_and_no_sentence_is_in_two() -> None:
    assert len(NEAR_MISSES) >= 60
    assert len(PARAPHRASES) >= 60
    pairs = (*NEAR_MISSES, *PARAPHRASES, *REPEATS)
    hashes = Counter(h for pair in pairs for h in {text_hash(pair.solved), text_hash(pair.asked)})
    assert [pair for pair in pairs if hashes[text_hash(pair.asked)] > 1] == []
    assert [pair for pair in pairs if hashes[text_hash(pair.solved)] > 1] == []


def test_only_repeats_are_the_same_to_the_letter() -> None:
    for pair in (*NEAR_MISSES, *PARAPHRASES, *REPEATS):
        assert pair.solved != pair.asked
        assert (text_hash(pair.solved) == text_hash(pair.asked)) is (pair in REPEATS), pair


async def test_similarity_does_not_tell_near_misses_from_paraphrases() -> None:
    """They would be no test of anything if it did."""
    assert await typical_cosine(NEAR_MISSES) > await typical_cosine(PARAPHRASES)


async def typical_cosine(pairs: Sequence[Pair]) -> float:
    embedder = LexicalEmbedder()
    solved = await embedder.embed([pair.solved for pair in pairs])
    asked = await embedder.embed([pair.asked for pair in pairs])
    return median(
        sum(a * b for a, b in zip(one, other, strict=True))
        for one, other in zip(solved, asked, strict=True)
    )
