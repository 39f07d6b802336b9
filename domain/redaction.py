"""Keeps secrets out of what people read: logs, the console, problems, records of failures.

What clients, drivers and providers say may repeat what they were given: a connection string that
cannot be parsed, a key that is refused. So text from them passes `redact` before it is shown or
kept, and every log record passes it after `guard`.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote

MARK: Final = "[secret]"
_MARKED = r"\1" + MARK

#: Shorter ones are words of any text, and no secrets.
_SHORTEST = 5

#: The latest that were remembered; tokens of an identity are new every hour.
_MOST = 256

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
#: User and password of a URL; with an @ or a / in it, the password has no clear end.
_IN_URL = (re.compile(r"://([^:/?#\s@]*):([^/?#\s@]+)@"), re.compile(r"://([^:/\s@]*):(\S+)@"))

_NAMED = re.compile(
    r"\b((?:sharedaccesskey|sharedaccesssignature|accountkey|sig|password)=)"
    r"(?!…)(?:'[^']*'|[^;\s&\"',)]+)",
    re.I,
)
#: What looks like a secret, whoever's it is, by what is in a text that holds one. The group stays.
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

#: Replaced as a whole: other threads may be reading it.
_forms: tuple[str, ...] = ()


def remember(*secrets: str | None) -> None:
    """Have `redact` know ``secrets``, in the forms in which they may be repeated."""
    global _forms  # noqa: PLW0603 what a process must not say is one thing for all of it
    known = dict.fromkeys(_forms)
    for secret in secrets:
        if secret and len(secret.strip()) >= _SHORTEST:
            for form in _forms_of(secret.strip()):
                if form not in MARK:  # what is redacted may pass here again
                    known.pop(form, None)
                    known[form] = None
    _forms = tuple(known)[-_MOST:]


def remember_all(environment: Mapping[str, str]) -> None:
    """`remember` whatever is secret in an environment, by the names and forms of its values."""
    for name, value in environment.items():
        remember(*_secrets_in(name, value))


def redact(text: str) -> str:
    """``text`` with `MARK` in place of secrets: those remembered, and what looks like one.

    The same object where there is none, as nearly always; that takes a few microseconds a line.
    """
    for form in _forms:
        if form in text:
            text = _without_remembered(text)
            break
    for hint, pattern in _LOOKS_SECRET:
        if hint in text:
            text = pattern.sub(_MARKED, text)
    return text


def guard(environment: Mapping[str, str]) -> None:
    """Keep the secrets of ``environment`` out of this process's logs and uncaught exceptions.

    Log records are mended as they are made, so it does not matter who handles them: on Azure that
    is the platform. Calling it again only adds secrets.
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


def _redact_record(record: logging.LogRecord) -> None:
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 the handlers report a wrong format, as without this
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
    kind: type[BaseException], error: BaseException, where: TracebackType | None
) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, where))))


def _secrets_in(name: str, value: str) -> Iterator[str]:
    if _SECRET_NAME.search(name):
        yield value
    for match in _SECRET_PART.finditer(value):
        yield from filter(None, match.groups())
    for pattern in _IN_URL:
        for match in pattern.finditer(value):
            if match[2] != match[1]:  # of a server for trying things out; a word of its logs
                yield match[2]


def _forms_of(secret: str) -> Iterable[str]:
    decoded = unquote(secret)
    for plain in {secret, decoded}:
        yield plain
        yield quote(plain, safe="")
        yield quote_plus(plain)
        yield json.dumps(plain)[1:-1]
        yield repr(plain)[1:-1]
        yield base64.b64encode(plain.encode(errors="replace")).decode().rstrip("=")
        yield base64.urlsafe_b64encode(plain.encode(errors="replace")).decode().rstrip("=")


def _without_remembered(text: str) -> str:
    for form in sorted(_forms, key=len, reverse=True):
        text = text.replace(form, MARK)
    return text
