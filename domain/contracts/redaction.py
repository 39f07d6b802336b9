"""Keeps secrets out of what people read: logs, the console, HTTP problems, records of failures.

Error messages of clients, drivers and providers may quote what they were given: a connection string
that cannot be parsed, a key that is refused. So their text passes `redact` before it is shown or
stored, and after `guard` so does every log record.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote

MARK: Final = "[secret]"
_MARKED = r"\1" + MARK

#: Characters; shorter ones occur in any text and are not treated as secrets.
_SHORTEST = 5

#: Forms of the latest temporary secrets; an identity gets a new token every hour.
_MAX_TEMPORARY = 64

#: Variables whose value is secret as a whole.
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:KEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|TOKEN|CREDENTIALS?|PGPASSWORD)"
    r"(?:_PREVIOUS|_\d+)?$|^IDENTITY_HEADER$",
    re.I,
)
#: Secret parts of values: of connection strings, of ``key=value`` pairs, and of URLs.
_SECRET_PART = re.compile(
    r"(?:sharedaccesskey|accountkey|sharedaccesssignature|instrumentationkey|password|sslpassword"
    r"|\bsig)\s*=\s*(?:'([^']*)'|([^;\s&]+))",
    re.I,
)
#: User and password of a URL; the second form is for passwords with an unescaped @ or /.
_IN_URL = (re.compile(r"://([^:/?#\s@]*):([^/?#\s@]+)@"), re.compile(r"://([^:/\s@]*):(\S+)@"))

_NAMED = re.compile(
    r"\b((?:sharedaccesskey|sharedaccesssignature|accountkey|sig|password)=)"
    r"(?!…)(?:'[^']*'|[^;\s&\"',)]+)",
    re.I,
)
#: What looks like a secret: a substring of every text with one, and a pattern whose group is kept.
_LOOKS_SECRET = (
    ("sk-", re.compile(r"\b()sk-[\w*.-]{6,}")),
    ("eyJ", re.compile(r"\b()eyJ[\w-]{8,}\.[\w-]+\.[\w-]*")),
    ("earer ", re.compile(r"\b([Bb]earer )[\w.~+/=-]{20,}")),
    ("://", re.compile(r"(://[^/?#\s:@\"']*:)(?!PASSWORD@)[^/?#\s\"']+(?=@)")),
    ("haredAccess", _NAMED),
    ("ccountKey=", _NAMED),
    ("sig=", _NAMED),
    ("assword=", _NAMED),
)

#: Forms of configured and of temporary secrets. Replaced as a whole: other threads may be reading.
_permanent: tuple[str, ...] = ()
_temporary: tuple[str, ...] = ()


def remember(*secrets: str | None) -> None:
    """Let `redact` replace ``secrets``, in all forms in which they may be quoted."""
    global _permanent  # noqa: PLW0603 the secrets of a process are global
    _permanent = tuple(dict.fromkeys((*_permanent, *_forms_to_keep(secrets))))


def remember_temporary(secret: str) -> None:
    """`remember` a token that will be replaced by another; only the latest ones are kept."""
    global _temporary  # noqa: PLW0603 as above
    fresh = _forms_to_keep((secret,))
    _temporary = (*(form for form in _temporary if form not in fresh), *fresh)[-_MAX_TEMPORARY:]


def _forms_to_keep(secrets: Iterable[str | None]) -> list[str]:
    given = (secret.strip() for secret in secrets if secret)
    forms = (form for secret in given if len(secret) >= _SHORTEST for form in _forms_of(secret))
    return [form for form in dict.fromkeys(forms) if form not in MARK]  # MARK itself must stay


def remember_all(environment: Mapping[str, str]) -> None:
    """`remember` whatever is secret in an environment, by the names and forms of its values."""
    for name, value in environment.items():
        remember(*_secrets_in(name, value))


def redact(text: str) -> str:
    """``text`` with `MARK` in place of remembered secrets and of what looks like a secret.

    Returns the same object if there is none, as in nearly all lines; that takes a few microseconds.
    """
    known = _permanent + _temporary
    for form in known:
        if form in text:
            text = _without(known, text)
            break
    for hint, pattern in _LOOKS_SECRET:
        if hint in text:
            text = pattern.sub(_MARKED, text)
    return text


def guard(environment: Mapping[str, str]) -> None:
    """Keep the secrets of ``environment`` out of this process's logs and uncaught exceptions.

    Log records are redacted when they are created, whichever handler they go to: on Azure, the
    platform's. Calling it again only adds secrets.
    """
    remember_all(environment)
    if getattr(logging.getLogRecordFactory(), "redacts", False):
        return
    make = logging.getLogRecordFactory()

    def redacted(*args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: ANN401 as logging has it
        record = make(*args, **kwargs)
        _redact_record(record)
        return record

    redacted.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(redacted)
    sys.excepthook = _print_redacted
    threading.excepthook = lambda ended: _print_redacted(*ended[:3])


def _redact_record(record: logging.LogRecord) -> None:
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 the handlers report a wrong format
        return
    clean = redact(message)
    if clean is not message and clean != message:
        record.msg, record.args = clean, ()
    if record.exc_info and record.exc_info[0] is not None:
        shown = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        clean = redact(shown)
        if clean != shown:
            record.exc_info, record.exc_text = None, clean


def _print_redacted(
    kind: type[BaseException], error: BaseException | None, where: TracebackType | None
) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, where))))


def _secrets_in(name: str, value: str) -> Iterator[str]:
    if _SECRET_NAME.search(name):
        yield value
    for match in _SECRET_PART.finditer(value):
        yield from filter(None, match.groups())
    for pattern in _IN_URL:
        for match in pattern.finditer(value):
            if match[2] != match[1]:  # a test server's, whose logs are full of that word
                yield match[2]


def _forms_of(secret: str) -> Iterator[str]:
    for plain in {secret, unquote(secret)}:
        raw = plain.encode(errors="replace")
        yield plain
        yield from (quote(plain, safe=""), quote(plain), quote_plus(plain))
        yield from (json.dumps(plain)[1:-1], json.dumps(plain, ensure_ascii=False)[1:-1])
        yield from (repr(plain)[1:-1], ascii(plain)[1:-1], repr(raw)[2:-1])
        yield from (base64.b64encode(raw).decode().rstrip("="), *_within_base64(raw))


def _within_base64(raw: bytes) -> Iterator[str]:
    """How ``raw`` shows in the base64 of a longer text, for each offset in a group of three bytes.

    In both alphabets; without the digits that also hold bits of neighbouring bytes.
    """
    for before in range(3):
        digits = base64.b64encode(bytes(before) + raw + b"\0\0")
        form = digits[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6].decode()
        yield from (form, form.replace("+", "-").replace("/", "_"))


def _without(forms: Iterable[str], text: str) -> str:
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, MARK)
    return text
