"""Measures reuse: how often a program is run for a sentence that it was not written for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.evaluation.attempt import Unexpected, events_of, solve
from tests.evaluation.pairs import NEAR_MISSES, PARAPHRASES, REPEATS, Pair
from tests.support.stack import Client

Mode = Literal["default", "similar"]
MODES: tuple[Mode, ...] = ("default", "similar")

_NOTHING = {"language": "shell", "files": {"main.sh": ":"}}


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of the second sentence of a pair.

    Attributes:
        reused: it ran a program of another intent.
        right: it ran none, or that of the first sentence, which asks for the same.
    """

    pair: Pair
    reused: bool
    right: bool


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of all pairs, with one setting of reuse."""

    mode: Mode
    asked: tuple[Asked, ...]

    @property
    def wrong(self) -> list[Asked]:
        """Those that ran a program which was written for something else."""
        return [each for each in self.asked if not each.right]

    @property
    def near_misses(self) -> list[Asked]:
        """Those that ask for something else."""
        return [each for each in self.asked if not each.pair.same]

    @property
    def paraphrases(self) -> list[Asked]:
        """Those that ask for the same in other words."""
        return [each for each in self.asked if each.pair.same and each.pair not in REPEATS]

    @property
    def repeats(self) -> list[Asked]:
        """Those whose sentences are the same to the letter."""
        return [each for each in self.asked if each.pair in REPEATS]


async def measure(
    client: Client,
    mode: Mode,
    *,
    pairs: Sequence[Pair] = (*NEAR_MISSES, *PARAPHRASES, *REPEATS),
    concurrency: int = 8,
    advance: Callable[[], object] = lambda: None,
) -> Tally:
    """Solve the first sentence of each pair, then ask the second, and see which program it runs.

    All pairs are of one tenant, so that each sentence meets the programs of all others.

    Args:
        client: of a tenant that has solved nothing.
        mode: ``default`` says nothing of reuse; ``similar`` allows it (``planning.reuse``).
        pairs: to be measured.
        concurrency: intents under way at once.
        advance: called after each of the two sentences of each pair.

    Raises:
        Unexpected: the system answered a request with an error, or did not solve a sentence whose
            program it was given.
    """
    turns = asyncio.Semaphore(concurrency)

    async def given(pair: Pair) -> str:
        async with turns:
            intent = await solve(client, {"text": pair.solved, "program": _NOTHING})
        if intent["status"] != "succeeded":
            raise Unexpected(f"{pair.solved!r} with its program: {intent}")
        advance()
        return str(intent["id"])

    async def ask(pair: Pair, solved: str) -> Asked:
        planning = {} if mode == "default" else {"planning": {"reuse": mode}}
        async with turns:
            intent = await solve(client, {"text": pair.asked, **planning})
            events = await events_of(client, intent["id"])
        planned = [event["data"] for event in events if event["type"] == "IntentPlanned"]
        source = planned[0].get("reused_from") if planned else None
        advance()
        return Asked(pair, source is not None, source is None or (pair.same and source == solved))

    solved = await asyncio.gather(*(given(pair) for pair in pairs))
    # What is asked becomes solved in its turn where a model writes a program for it.
    asked = await asyncio.gather(*(ask(*each) for each in zip(pairs, solved, strict=True)))
    return Tally(mode, tuple(asked))
