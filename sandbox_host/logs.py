"""Logs to stderr: JSON lines, or plain text on a terminal. Programs' content is never logged."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from domain.contracts.envelope import rfc3339
from domain.contracts.redaction import redact
from sandbox_host.run.events import FIELDS


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, extra fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        line: dict[str, object] = {
            "time": rfc3339(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, FIELDS, {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:  # already formatted, with secrets removed
            line["exception"] = record.exc_text
        return redact(json.dumps(line, ensure_ascii=False))


def configure(stream: TextIO | None = None) -> None:
    """Send all logging to ``stream`` (stderr)."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    if stream.isatty():
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    else:
        handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("azure", "urllib3", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # The SDK logs each of its retries; this host reports a lost connection once.
    logging.getLogger("azure.servicebus._pyamqp").setLevel(logging.ERROR)
