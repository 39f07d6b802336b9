"""Reads request headers by their grammars.

Both hosts join a header that is sent twice by a comma, so where one value is wanted a comma means
that there were two.
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

#: What stands between two commas, those within quotes left out; an open quote goes on to the end.
_MEMBER = re.compile(r'(?:"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[^",])+', re.DOTALL)

_WHOLE = re.compile(r"[0-9]+")
_DIGITS = 9  # no more are needed to see that it is over the bound
_ETAG = re.compile(r'(?:W/)?("[^"]*")')


def singleton(request: func.HttpRequest, name: str) -> str | None:
    """The one value of a header whose grammar has no comma; None where it was not sent.

    Raises:
        Problem: 400, it was sent more than once.
    """
    value: str | None = request.headers.get(name.lower())
    if value is not None and "," in value:
        raise invalid_request(f"{name}: was sent more than once, or holds a comma; send one value")
    return value


def preferences(header: str) -> dict[str, str]:
    """The preferences of a ``Prefer`` header (RFC 7240), by their names in lower case.

    Of one that comes twice the first counts; what is malformed is left out.
    """
    found: dict[str, str] = {}
    for member in _members(header):
        match = _PREFERENCE.fullmatch(member)
        if match is not None:
            found.setdefault(match["name"].lower(), _unquoted(match["value"] or ""))
    return found


def preferred_wait(request: func.HttpRequest) -> int | None:
    """Seconds of ``Prefer: wait=N`` (RFC 7240), at most `MAX_WAIT_SECONDS`.

    None where the client does not ask to wait, or not for a whole number of seconds: what a server
    cannot make out of a preference it leaves alone.
    """
    wait = preferences(request.headers.get("prefer", "")).get("wait", "")
    if not _WHOLE.fullmatch(wait):
        return None
    digits = wait.lstrip("0")[:_DIGITS]
    return min(int(digits or "0"), MAX_WAIT_SECONDS)


def etags(header: str) -> list[str]:
    """The entity tags of a header (RFC 9110, section 8.8.3), without what marks weak ones."""
    return _ETAG.findall(header)


def _members(header: str) -> Iterator[str]:
    return (match[0] for match in _MEMBER.finditer(header))


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith('"') else word
