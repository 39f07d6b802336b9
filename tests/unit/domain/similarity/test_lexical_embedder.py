"""The lexical embedder: deterministic, and it keeps every word."""

from __future__ import annotations

import asyncio
import hashlib
import math
import struct
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.intents.text import text_hash
from domain.similarity.embedder import DIMENSIONS
from domain.similarity.lexical_embedder import LexicalEmbedder, normalise
from tests.support import ROOT

SENTENCE = "Plot the monthly totals of this CSV file, and write them to totals.png"


async def similarity(first: str, second: str) -> float:
    one, other = await LexicalEmbedder().embed([first, second])
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


async def test_vectors_have_the_length_one_and_the_size_of_the_column() -> None:
    [vector] = await LexicalEmbedder().embed([SENTENCE])
    assert len(vector) == DIMENSIONS
    assert math.hypot(*vector) == pytest.approx(1.0)


def test_another_process_gives_the_same_vector() -> None:
    program = (
        "import asyncio, hashlib, struct, sys;"
        "from domain.similarity.lexical_embedder import LexicalEmbedder as E;"
        "[v] = asyncio.run(E().embed([sys.argv[1]]));"
        "print(hashlib.sha256(struct.pack('<1536f', *v)).hexdigest())"
    )
    [vector] = asyncio.run(LexicalEmbedder().embed([SENTENCE]))
    here = hashlib.sha256(struct.pack("<1536f", *vector)).hexdigest()
    for seed in ("0", "1"):
        there = subprocess.run(
            [sys.executable, "-c", program, SENTENCE],
            env={"PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.strip() == here
    # Vectors are recorded facts: a change of the algorithm needs another model name.
    assert here == "9cd26803eb3d6a3b6f0d0f8e3e771dd99df037fca8ee0de3d707af526782bf9c"


async def test_more_shared_words_are_more_similar() -> None:
    near = await similarity("sort the list of names", "sort a list of names")
    far = await similarity("sort the list of names", "download a picture")
    assert near > 0.6 > 0.2 > far


async def test_no_word_is_dropped_and_order_matters() -> None:
    assert (
        await similarity("delete files older than 30 days", "delete files newer than 30 days") < 1
    )
    assert await similarity("this and that", "this or that") < 0.99
    assert await similarity("CSV to JSON", "JSON to CSV") < 0.99


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("  Sort\tA\nList ", "sort a list"),
        ("Straße", "STRASSE"),
        ("\uff21\uff22", "ab"),
        ("5²", "52"),
    ],
)
def test_texts_are_compared_by_their_words(text: str, same: str) -> None:
    assert normalise(text) == normalise(same)
    # One may be written to "print YES", another to "print yes".
    assert text_hash(text) != text_hash(same)


@pytest.mark.parametrize(
    ("text", "same"),
    [("\n sort a list \t", "sort a list"), ("a:\r\n1\r2", "a:\n1\n2"), ("e\u0301", "\u00e9")],
)
def test_texts_that_are_the_same_to_the_letter_have_the_same_hash(text: str, same: str) -> None:
    assert text_hash(text) == text_hash(same)
    assert len(text_hash(text)) == 32


def test_texts_that_differ_in_a_letter_have_other_hashes() -> None:
    texts = (
        "a and b",
        "a or b",
        "b and a",
        "a b",
        "a, b",
        "A b",
        "a  b",
        "a\tb",
        "a\nb",
        "a\x0cb",
        "ab",
        "",
    )
    assert len({text_hash(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("text", ["", " \n\t", "\u3000"])
async def test_a_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no words"):
        await LexicalEmbedder().embed([text])


@given(st.text(min_size=1, max_size=300).filter(lambda text: any(map(str.isalnum, text))))
@settings(max_examples=200, deadline=None)
async def test_any_text_with_a_letter_or_digit_has_a_vector(text: str) -> None:
    [vector] = await LexicalEmbedder().embed([text])
    assert math.hypot(*vector) == pytest.approx(1.0)


async def test_a_sentence_takes_less_than_a_millisecond() -> None:
    embedder = LexicalEmbedder()
    best = math.inf
    for _ in range(20):
        started = time.perf_counter()
        await embedder.embed([SENTENCE])
        best = min(best, time.perf_counter() - started)
    assert best < 0.001
