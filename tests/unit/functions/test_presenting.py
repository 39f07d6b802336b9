"""Clients do not see what a host says of itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest

from domain.eventlog.models import RecordedEvent
from domain.projections.intents import IntentRow
from functions.presenting import shown_event, shown_intent
from functions.result_page import result_page

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SAID = "OSError: /var/lib/qlp/boxes/7 on host sandbox-3"


def row(outcome: dict[str, Any]) -> IntentRow:
    values: dict[str, Any] = dict.fromkeys(IntentRow.__dataclass_fields__)
    values |= {"id": UUID(int=1), "tenant_id": "acme", "version": 5, "status": "cancelled"}
    values |= {"user_input": "x", "created_at": NOW, "updated_at": NOW, "outcome": outcome}
    return IntentRow(**values)


def test_a_cancelled_intent_does_not_show_what_its_host_said() -> None:
    cancelled = row({"verdict": "infrastructure_error", "error": SAID})
    assert "error" not in shown_intent(cancelled.document())["outcome"]
    assert SAID not in result_page(cancelled, [], [])
    failed = row({"error": {"code": "timed_out", "message": "It took <long>."}})
    assert shown_intent(failed.document())["outcome"]["error"]["code"] == "timed_out"
    assert "It took &lt;long&gt;." in result_page(failed, [], [])


@pytest.mark.parametrize(
    ("type_", "data", "hidden"),
    [
        (
            "SandboxRunKillRequested",
            {"run_id": "1", "operator": "root@ops-7", "reason": "busy"},
            "root@ops-7",
        ),
        (
            "SandboxRunFinished",
            {"outcome": {"verdict": "infrastructure_error", "retryable": True, "error": SAID}},
            SAID,
        ),
    ],
)
def test_an_event_shows_clients_no_operator_and_no_host(
    type_: str, data: dict[str, Any], hidden: str
) -> None:
    record = recorded(type_, data)
    assert hidden.encode() not in orjson.dumps(shown_event(record, "client"))
    assert orjson.loads(orjson.dumps(shown_event(record, "operator")))["data"] == data
    for strange in (
        record._replace(schema_version=2),
        record._replace(data_json=record.data_json[:-1] + r',"odd":"\ud800"}'),
        record._replace(data_json=f"[{record.data_json}]"),
    ):
        assert shown_event(strange, "client")["data"] is None
        assert hidden.encode() in orjson.dumps(shown_event(strange, "operator"))


def test_what_is_said_of_the_program_is_for_its_client() -> None:
    outcome = {"verdict": "invalid_job", "retryable": False, "error": "no such entrypoint"}
    data = {"outcome": outcome}
    assert shown_event(recorded("SandboxRunFinished", data), "client")["data"] == data


def recorded(type_: str, data: dict[str, Any]) -> RecordedEvent:
    values: dict[str, Any] = dict.fromkeys(RecordedEvent._fields)
    return RecordedEvent(
        **values
        | {"type": type_, "schema_version": 1, "version": 3, "recorded_at": NOW}
        | json_of(data)
    )


def json_of(data: dict[str, Any]) -> dict[str, Any]:
    return {"metadata_json": "{}", "data_json": orjson.dumps(data).decode()}
