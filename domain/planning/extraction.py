"""Finds the answer in what a model said around it: its reasoning, a fence, a word of courtesy."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator

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

#: So many starts of what turns out to be no JSON, each of which costs a look at the whole text.
_MOST_FAILURES = 100


def objects_in(text: str, keys: Collection[str]) -> Iterator[str]:
    """The JSON objects in a text that have all these keys, each as it stands.

    Those within other JSON do not count. Line ends in strings are escaped as they should have been.

    What comes before the end of reasoning is left out, unless that is part of the answer itself;
    and of a JSON string that holds nothing but JSON, its content is looked at.
    """
    text = _unquoted(text)
    *before, after = END_OF_REASONING.split(text)
    found = False
    for each in _found_in(after, keys):
        found = True
        yield each
    if before and not found:
        yield from filter(END_OF_REASONING.search, _found_in(text, keys))


def _found_in(text: str, keys: Collection[str]) -> Iterator[str]:
    position = failures = 0
    while failures < _MOST_FAILURES and (start := _START.search(text, position)):
        try:
            value, position = _DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            failures += 1
            position = start.end()
        else:
            if isinstance(value, dict) and value.keys() >= set(keys):
                found = text[start.start() : position]
                yield _escaped(found) if _CONTROL.search(found) else found


def _escaped(text: str) -> str:
    """JSON with what may not stand in a string escaped; what stands between values is space."""
    *parts, last = _STRING.split(text)
    return "".join(
        _CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", part) if at % 2 else part
        for at, part in enumerate([*parts, last])
    )


#: A string of JSON that `_DECODER` has read: splitting at it leaves it at every second place.
_STRING = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)


def _unquoted(text: str) -> str:
    if text.strip().startswith('"'):
        try:
            said = json.loads(text)
        except ValueError:
            return text
        return said if isinstance(said, str) else text
    return text
