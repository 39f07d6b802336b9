from __future__ import annotations

from pathlib import Path

import pytest

from infra.local.stack.config import ROOT, StackConfig, StackError
from infra.local.stack.tour import timeline


def test_defaults_are_the_well_known_ports_and_a_folder_in_the_checkout() -> None:
    config = StackConfig.from_environment({})
    assert (config.http_port, config.amqp_port) == (7071, 5672)
    assert config.data == ROOT / ".qlp"
    assert config.database_url is None


def test_everything_can_be_moved_aside_for_a_second_copy() -> None:
    config = StackConfig.from_environment(
        {
            "QLP_HTTP_PORT": "7171",
            "QLP_AMQP_PORT": "0",
            "QLP_DATA_DIR": "/tmp/other",
            "QLP_DATABASE_URL": "postgresql://elsewhere/db",
            "DATABASE_URL": "postgresql://the/applications",
        }
    )
    assert (config.http_port, config.amqp_port) == (7171, 0)
    assert config.data == Path("/tmp/other")
    assert config.database_url == "postgresql://elsewhere/db"


@pytest.mark.parametrize("port", ["http", "-1", "65536", "7071 "])
def test_a_wrong_port_is_named(port: str) -> None:
    with pytest.raises(StackError, match="QLP_HTTP_PORT"):
        StackConfig.from_environment({"QLP_HTTP_PORT": port})


def test_a_timeline_tells_durations_since_the_first_and_the_last_event() -> None:
    def record(type_: str, moment: str, **data: object) -> dict[str, object]:
        return {"type": type_, "recorded_at": f"2026-03-01T12:00:{moment}+00:00", "data": data}

    lines = timeline(
        [
            record("IntentSubmitted", "00.000000", origin="service_bus"),
            record("IntentPlanned", "00.012000", source="submitted"),
            record("IntentFailed", "01.500000", cause={"message": "no engine"}),
        ]
    )
    assert [(line["ms"], line["delta_ms"]) for line in lines] == [
        (0, 0),
        (12.0, 12.0),
        (1500.0, 1488.0),
    ]
    assert [line["note"] for line in lines] == [
        "over service bus",
        "program submitted",
        "no engine",
    ]
