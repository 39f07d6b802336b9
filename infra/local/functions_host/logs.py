"""Logging to stderr: text on a terminal, otherwise JSON lines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from domain.contracts.redaction import redact

#: Loggers whose INFO records are of no use, or repeat what the host logs itself.
_QUIET = ("azure", "aiohttp", "asyncio", "uamqp")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object per record; values passed as ``extra`` are included."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:  # secrets have been removed from it
            line["exception"] = record.exc_text
        return redact(json.dumps(line, default=str, ensure_ascii=False))


def configure(level: str, stream: TextIO | None = None) -> None:
    """Log everything from ``level`` on to ``stream`` (default: stderr)."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        if stream.isatty()
        else JsonFormatter()
    )
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
