"""A program is never run for a sentence that it was not written for.

A sample of the pairs; `make evaluate ARGS=--reuse` tries all of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domain.planning.wording import difference
from tests.evaluation.oracle import Oracle, gullible
from tests.evaluation.pairs import NEAR_MISSES, PARAPHRASES, REPEATS
from tests.evaluation.reuse import measure
from tests.support.openai.chat import OpenAIServer
from tests.support.stack import RunningStack, running_stack

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
async def asking_stack(
    openai_server: OpenAIServer, open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningStack]:
    """A stack that asks the test's own model, and considers any similarity near enough."""
    for name, value in openai_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("QLP_REUSE_SIMILARITY", "0")
    monkeypatch.setenv("QLP_SANDBOX_RUNTIMES", "bubblewrap")
    async with running_stack(open_path / "stack") as stack:
        yield stack


@pytest.mark.slow
async def test_by_default_only_repeats_are_reused(
    open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLP_SANDBOX_RUNTIMES", "bubblewrap")
    async with running_stack(open_path / "stack") as stack:
        pairs = (*NEAR_MISSES[::2], *PARAPHRASES[::4], *REPEATS)
        tally = await measure(await stack.new_tenant(), "default", pairs=pairs)
    assert tally.wrong == []
    assert [each.pair for each in tally.asked if each.reused] == list(REPEATS)


@pytest.mark.slow
async def test_with_a_model_only_what_is_allowed_and_the_same_is_reused(
    asking_stack: RunningStack, openai_server: OpenAIServer
) -> None:
    openai_server.respond = Oracle()
    pairs = (*NEAR_MISSES[::12], *REPEATS)  # without a model it is measured for more
    default = await measure(await asking_stack.new_tenant(), "default", pairs=pairs)
    assert default.wrong == []
    assert [each.pair for each in default.asked if each.reused] == list(REPEATS)
    assert {asked.schema for asked in openai_server.asked} == {"plan"}

    pairs = (*NEAR_MISSES[::3], *PARAPHRASES[::2], *REPEATS)
    similar = await measure(await asking_stack.new_tenant(), "similar", pairs=pairs)
    assert similar.wrong == []
    assert all(each.reused for each in similar.repeats)
    assert sum(each.reused for each in similar.paraphrases) >= len(similar.paraphrases) // 4

    openai_server.respond = Oracle(same=gullible)  # now only words can stop it
    pairs = NEAR_MISSES[::4]
    gulled = await measure(await asking_stack.new_tenant(), "similar", pairs=pairs)
    assert len(gulled.wrong) <= len(pairs) // 20


def test_words_alone_tell_nearly_all_near_misses_and_let_most_paraphrases_through() -> None:
    """What is let through is for the model to refuse."""
    let_through = [each for each in NEAR_MISSES if difference(each.solved, each.asked) is None]
    assert len(let_through) <= len(NEAR_MISSES) // 20
    same = [each for each in PARAPHRASES if difference(each.solved, each.asked) is None]
    assert len(same) >= len(PARAPHRASES) // 2
