"""Finds the JSON answer in a model's text, among reasoning, code fences and polite words."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

#: The end of reasoning that a server has left in the content; the mark that opens it may be
#: missing. The last ones are those of Cohere, Kimi, and of the channels of gpt-oss.
END_OF_REASONING = re.compile(
    r"</(?:\w+:)?(?:think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad)>"
    r"|\[/THINK\]|<\|END_THINKING\|>|◁/think▷"
    r"|<\|channel\|>final[\s\w]*(?:<\|constrain\|>\w+\s*)?<\|message\|>",
    re.IGNORECASE,
)

_START = re.compile(r"[{\[]")
_DECODER = json.JSONDecoder(strict=False)

#: Control characters: JSON requires them to be escaped in a string, models that write programs
#: leave them as they are.
_CONTROL = re.compile(r"[\x00-\x1f]")

#: Bounds of the search: starts that turn out not to be JSON, and characters that do not belong to
#: an answer. In prose both are few; each bracket that is never closed costs a scan of the whole
#: text.
_MOST_FAILURES = 100
_MOST_IN_VAIN = 128 * 1024

#: The most quotes in an answer, two for each name and string; see `MAX_ANSWER_NODES`.
_MOST_QUOTES = 2 * 8_000


def objects_in(text: str, keys: Collection[str]) -> Iterator[str]:
    """The JSON objects in a text that have all these keys, each as it is written.

    Those within other JSON do not count. Line ends in strings are escaped, as they should be.

    What comes before the end of reasoning is skipped, unless that mark is part of the answer
    itself. If the text is one JSON string, its content is searched.
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
        """Whether the search ends here."""
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
    """JSON with control characters escaped in strings; between values they are white space.

    A text with more strings than any answer has is returned as it is, and then refused.
    """
    if text.count('"') - text.count('\\"') > _MOST_QUOTES:
        return text
    *parts, last = _STRING.split(text)
    return "".join(
        _CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", part) if at % 2 else part
        for at, part in enumerate([*parts, last])
    )


#: A JSON string, in text that `_DECODER` has read: after a split, every second part is one.
_STRING = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)


def _end_of_look(error: Exception, end: int) -> int:
    """How far a text was read before ``error``; to its end if the error does not say."""
    if isinstance(error, json.JSONDecodeError) and not error.msg.startswith("Unterminated string"):
        return error.pos
    return end


def _unquoted(text: str) -> str:
    if text.strip().startswith('"'):
        try:
            decoded = json.loads(text)
        except ValueError:
            return text
        return decoded if isinstance(decoded, str) else text
    return text
