"""Finds the answer in what a model said around it: its reasoning, a fence, a word of courtesy."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator

#: Where reasoning ends that a server has left in the content; what opens it may be missing.
_END_OF_REASONING = re.compile(r"</(?:think|thinking|thought|reasoning)>|\[/THINK\]", re.IGNORECASE)

_START = re.compile(r"[{\[]")
_DECODER = json.JSONDecoder()

#: So many starts of what turns out to be no JSON, each of which costs a look at the whole text.
_MOST_FAILURES = 100


def objects_in(text: str, keys: Collection[str]) -> Iterator[str]:
    """The JSON objects in a text that have all these keys, each as it stands.

    Those within other JSON do not count.

    What comes before the end of reasoning is left out, and of a JSON string that holds nothing but
    JSON, its content is looked at.
    """
    *_, text = _END_OF_REASONING.split(_unquoted(text))
    position = failures = 0
    while failures < _MOST_FAILURES and (start := _START.search(text, position)):
        try:
            value, position = _DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            failures += 1
            position = start.end()
        else:
            if isinstance(value, dict) and value.keys() >= set(keys):
                yield text[start.start() : position]


def _unquoted(text: str) -> str:
    if text.strip().startswith('"'):
        try:
            said = json.loads(text)
        except ValueError:
            return text
        return said if isinstance(said, str) else text
    return text
