"""A security event is one line that a query can take apart, and counts by its kind."""

from __future__ import annotations

import json
import logging

import pytest

from domain.telemetry import security_event


def test_a_security_event_is_json_after_its_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="qlp.security"):
        security_event("test_kind", run="r-1", times=2, subject=None)
        security_event("test_kind")
        security_event("other_kind")
    lines = [record.getMessage() for record in caplog.records]
    assert {line.partition(" ")[0] for line in lines} == {"security_event"}
    first, second, other = (json.loads(line.partition(" ")[2]) for line in lines)
    assert first == {"kind": "test_kind", "run": "r-1", "times": 2, "count": first["count"]}
    assert second == {"kind": "test_kind", "count": first["count"] + 1}
    assert other["kind"] == "other_kind"
