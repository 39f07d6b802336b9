"""Log records for those who monitor the system: security events, calls of models."""

from __future__ import annotations

import json
import logging
from collections import Counter

import msgspec

from domain.intents.event_parts import ModelCall

_models = logging.getLogger("qlp.models")
_security = logging.getLogger("qlp.security")
_counts: Counter[str] = Counter()


def security_event(kind: str, **facts: str | int | None) -> None:
    """Log something that those who monitor the system should see.

    One line of JSON after the word ``security_event``, so that a log query can parse it. ``count``
    is how many of this kind this process has seen.

    Args:
        kind: stable, for alerts, for example ``failed_authentication``.
        facts: identifiers that help to find the cause; never a secret, never people's content.
    """
    _counts[kind] += 1
    known = {name: value for name, value in facts.items() if value is not None}
    _security.warning(
        "security_event %s", json.dumps({"kind": kind, **known, "count": _counts[kind]})
    )


def model_called(call: ModelCall) -> None:
    """Log a call of a language model, whatever its outcome: what it used, and no content.

    One line of JSON after the word ``model_call``. ``count`` is how many calls with this purpose
    and outcome this process has made.
    """
    kind = f"model_call {call.purpose} {call.outcome}"
    _counts[kind] += 1
    facts = msgspec.structs.asdict(call)
    del facts["detail"]
    _models.info("model_call %s", json.dumps({**facts, "count": _counts[kind]}))
