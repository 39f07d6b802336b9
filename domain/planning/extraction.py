"""Finds the answer in what a model said around it: its reasoning, a fence, a word of courtesy."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

#: Where reasoning ends that a server has left in the content; what opens it may be missing. The
#: last ones are those of Cohere, Kimi, and of the channels of gpt-oss.
END_OF_REASONING = re.compile(
    r"</(?:\w+:)?(?:think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad)>"
    r"|\[/THINK\]|<\|END_THINKING\|>|◁/think▷"
    r"|<\|channel\|>final[\s\w]*(?:<\|constrain\|>\w+\s*)?<\|message\|>",
    re.IGNORECASE,
)

_START = re.compile(r"[{\[]")
_DECODER = json.JSONDecoder(strict=False)

#: What JSON has escaped in a string, and models that write programs leave as it is.
_CONTROL = re.compile(r"[\x00-\x1f]")

#: Starts of what turns out to be no JSON, and characters of all that is not looked for. In words
#: both are few; of brackets that nobody closes, each costs a look at the whole text.
_MOST_FAILURES = 100
_MOST_IN_VAIN = 128 * 1024

#: Quotes around the names and strings of an answer; see `domain.planning.answers`.
_MOST_QUOTES = 2 * 8_000


def objects_in(text: str, keys: Collection[str]) -> Iterator[str]:
    """The JSON objects in a text that have all these keys, each as it stands.

    Those within other JSON do not count. Line ends in strings are escaped as they should have been.

    What comes before the end of reasoning is left out, unless that is part of the answer itself;
    and of a JSON string that holds nothing but JSON, its content is looked at.
    """
    text = _unquoted(text)
    *before, after = END_OF_REASONING.split(text)
    found, budget = False, _ScanBudget()
    for each in _found_in(after, keys, budget):
        found = True
        yield each
    if before and not found:
        yield from filter(END_OF_REASONING.search, _found_in(text, keys, budget))


@dataclass(slots=True)
class _ScanBudget:
    """What has been looked at without use: starts that were no JSON, and characters."""

    failures: int = 0
    characters: int = 0

    @property
    def exhausted(self) -> bool:
        """Whether no more is to be looked at."""
        return self.failures >= _MOST_FAILURES or self.characters >= _MOST_IN_VAIN


def _found_in(text: str, keys: Collection[str], budget: _ScanBudget) -> Iterator[str]:
    position = 0
    while not budget.exhausted and (start := _START.search(text, position)):
        begin, position = start.span()
        try:
            value, end = _DECODER.raw_decode(text, begin)
        except (ValueError, RecursionError) as error:
            budget.failures += 1
            budget.characters += _end_of_look(error, len(text)) - begin
            continue
        position = end
        if isinstance(value, dict) and value.keys() >= set(keys):
            found = text[begin:end]
            yield _escaped(found) if _CONTROL.search(found) else found
        else:
            budget.characters += end - begin


def _escaped(text: str) -> str:
    """JSON with what may not stand in a string escaped; what stands between values is space.

    Of more strings than any answer has it stays as it is, and is not taken.
    """
    if text.count('"') - text.count('\\"') > _MOST_QUOTES:
        return text
    *parts, last = _STRING.split(text)
    return "".join(
        _CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", part) if at % 2 else part
        for at, part in enumerate([*parts, last])
    )


#: A string of JSON that `_DECODER` has read: splitting at it leaves it at every second place.
_STRING = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)


def _end_of_look(error: Exception, end: int) -> int:
    """How far a text was read until ``error``; to its end, where that is not said."""
    if isinstance(error, json.JSONDecodeError) and not error.msg.startswith("Unterminated string"):
        return error.pos
    return end


def _unquoted(text: str) -> str:
    if text.strip().startswith('"'):
        try:
            said = json.loads(text)
        except ValueError:
            return text
        return said if isinstance(said, str) else text
    return text
