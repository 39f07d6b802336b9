"""Parses request headers.

Both hosts join headers that are sent twice with a comma. So if only one value is allowed, a comma
means that there were two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import azure.functions as func

from functions.parameters import MAX_WAIT_SECONDS
from functions.problems import invalid_request

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'

_WORD = rf"[ \t]*=[ \t]*(?P<value>{_NAME}|{_QUOTED})"

# RFC 7240, section 2: a preference, and parameters that look like one.
_PARAMETER = rf"{_NAME}(?:[ \t]*=[ \t]*(?:{_NAME}|{_QUOTED}))?"
_PREFERENCE = re.compile(
    rf"[ \t]*(?P<name>{_NAME})(?:{_WORD})?(?:[ \t]*;(?:[ \t]*{_PARAMETER})?)*[ \t]*"
)

#: An item of a list: up to a comma that is not within quotes; an open quote extends to the end.
_MEMBER = re.compile(r'(?:"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[^",])+', re.DOTALL)

_WHOLE = re.compile(r"[0-9]+")
_DIGITS = 9  # enough to see that a number is above the limit
_ETAG = re.compile(r'(?:W/)?("[^"]*")')


def singleton(request: func.HttpRequest, name: str) -> str | None:
    """The value of a header that may be sent once and has no comma; None if it was not sent.

    Raises:
        Problem: 400: it was sent more than once.
    """
    value: str | None = request.headers.get(name.lower())
    if value is not None and "," in value:
        raise invalid_request(
            f"{name}: was sent more than once, or contains a comma; send one value"
        )
    return value


def preferences(header: str) -> dict[str, str]:
    """The preferences in a ``Prefer`` header (RFC 7240), by their names in lower case.

    If one is given twice, the first counts; malformed ones are ignored.
    """
    found: dict[str, str] = {}
    for member in _members(header):
        match = _PREFERENCE.fullmatch(member)
        if match is not None:
            found.setdefault(match["name"].lower(), _unquoted(match["value"] or ""))
    return found


def preferred_wait(request: func.HttpRequest) -> int | None:
    """Seconds of ``Prefer: wait=N`` (RFC 7240), at most `MAX_WAIT_SECONDS`.

    None if the client does not ask to wait, or not for a whole number of seconds: a server ignores
    preferences that it does not understand.
    """
    wait = preferences(request.headers.get("prefer", "")).get("wait", "")
    if not _WHOLE.fullmatch(wait):
        return None
    digits = wait.lstrip("0")[:_DIGITS]
    return min(int(digits or "0"), MAX_WAIT_SECONDS)


def etags(header: str) -> list[str]:
    """The entity tags in a header (RFC 9110, section 8.8.3), without the mark of weak ones."""
    return _ETAG.findall(header)


def _members(header: str) -> Iterator[str]:
    return (match[0] for match in _MEMBER.finditer(header))


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith('"') else word
