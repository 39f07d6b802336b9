"""All recorded events stay readable, and events that are not known yet are kept."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, ClassVar

import msgspec
import pytest
from pydantic import ValidationError

from domain.intents.events import (
    EVENT_TYPES,
    REGISTRY,
    EventRegistry,
    IntentEvent,
    IntentSubmitted,
    NewerEvent,
    UnknownEvent,
    UnreadableEvent,
    revive,
)
from domain.intents.evolve import fold
from domain.intents.struct import plain, without_defaults
from domain.intents.upcasters import IncompleteUpcasters
from tests.support import ROOT
from tests.support.intents.specification import NOW, planned, submitted

STREAMS = sorted((ROOT / "tests/recorded_events/streams").glob("*.json"))
RECORDINGS = {path.stem: json.loads(path.read_text("utf-8")) for path in STREAMS}
RECORDED = [event for recording in RECORDINGS.values() for event in recording["events"]]


def contains(found: Any, expected: Any) -> bool:
    """Whether ``found`` has all that ``expected`` has; it may have newer fields too."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return all(key in found and contains(found[key], value) for key, value in expected.items())
    if isinstance(expected, list) and isinstance(found, list):
        return len(found) == len(expected) and all(map(contains, found, expected))
    return bool(found == expected)


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_recorded_stream_folds_to_the_state_it_had(name: str) -> None:
    events = [
        revive(event["type"], event["schema_version"], json.dumps(event["data"]))
        for event in RECORDINGS[name]["events"]
    ]
    assert not [event for event in events if isinstance(event, UnknownEvent)]
    state = fold(events)
    assert state is not None
    found = json.loads(msgspec.json.encode(asdict(state)))
    # The form of the state may change: its one program was once a field.
    found["program"] = found["steps"][0]["program"] if found["steps"] else None
    assert contains(found, RECORDINGS[name]["state"])


@pytest.mark.parametrize(
    ("type_", "version"),
    [
        (type_, version)
        for type_, model in EVENT_TYPES.items()
        for version in range(1, model.schema_version + 1)
    ],
)
def test_every_version_of_every_type_has_a_recording(type_: str, version: int) -> None:
    assert [e for e in RECORDED if (e["type"], e["schema_version"]) == (type_, version)], (
        f"record {type_} version {version}: python -m tests.recorded_events.record"
    )


def test_reading_a_recording_at_its_own_version_keeps_every_field() -> None:
    for event in RECORDED:
        revived = revive(event["type"], event["schema_version"], json.dumps(event["data"]))
        assert isinstance(revived, IntentEvent)
        if revived.schema_version == event["schema_version"]:
            written = plain(revived)
            assert contains(written, event["data"])
            added = without_defaults(revived)
            assert contains(event["data"], added), "a newer field must default to nothing"


class Measured(IntentEvent, frozen=True):
    """At its third version: 1 had ``celsius`` as text, 2 as a number, 3 has ``kelvin``."""

    type: ClassVar[str] = "Measured"
    schema_version: ClassVar[int] = 3
    kelvin: float


def _number(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "celsius": float(data["celsius"])}


def _kelvin(data: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in data.items() if name != "celsius"}
    return {**rest, "kelvin": data["celsius"] + 273.15}


STEPS = {("Measured", 1): _number, ("Measured", 2): _kelvin}
MEASURED = EventRegistry({**EVENT_TYPES, "Measured": Measured}, STEPS)


@pytest.mark.parametrize(
    ("version", "data"),
    [(1, {"celsius": "20.0"}), (2, {"celsius": 20.0}), (3, {"kelvin": 293.15})],
)
def test_upcasters_are_chained_to_the_current_version(version: int, data: dict[str, Any]) -> None:
    recorded = json.dumps({"at": "2026-03-01T12:00:00Z", **data})
    assert MEASURED.revive("Measured", version, recorded) == Measured(at=NOW, kelvin=293.15)


def test_data_that_does_not_fit_its_version_is_refused_and_not_guessed() -> None:
    data = '{"at": "2026-03-01T12:00:00Z", "celsius": 20.0}'
    with pytest.raises(UnreadableEvent, match="kelvin"):
        MEASURED.revive("Measured", 3, data)
    with pytest.raises(ValidationError, match="kelvin"):
        MEASURED.revive_checked("Measured", 3, data)


def test_what_does_not_fit_is_not_repeated_in_the_error() -> None:
    recorded = {**plain(submitted()), "origin": "a 'secret' word"}
    with pytest.raises(UnreadableEvent) as caught:
        revive("IntentSubmitted", 1, json.dumps(recorded))
    assert "secret" not in str(caught.value)
    assert "$.origin" in str(caught.value)


def test_bounds_apply_only_to_what_comes_from_outside() -> None:
    recorded = plain(submitted())
    recorded["content"]["program"]["files"][0]["path"] = "../main.py"
    data = json.dumps(recorded)
    assert isinstance(revive("IntentSubmitted", 1, data), IntentSubmitted)
    with pytest.raises(ValidationError, match="relative path"):
        REGISTRY.revive_checked("IntentSubmitted", 1, data)


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ({("Measured", 1): _number}, "no upcaster for Measured 2 → 3"),
        ({**STEPS, ("Measured", 3): _number}, "no such past version: Measured 3 → 4"),
        ({**STEPS, ("Gone", 1): _number}, "no such past version: Gone 1 → 2"),
    ],
)
def test_a_chain_with_a_hole_or_a_loose_end_is_refused_at_start(
    steps: dict[Any, Any], complaint: str
) -> None:
    with pytest.raises(IncompleteUpcasters, match=complaint):
        EventRegistry(MEASURED.types, steps)


FUTURE = '{"at": "2031-01-01T00:00:00Z", "unheard": {"of": [1, null, "ü"]}}'


def test_an_event_of_an_unknown_type_is_kept_as_it_is_and_counted() -> None:
    event = MEASURED.revive("IntentAudited", 1, FUTURE)
    assert event == MEASURED.revive_checked("IntentAudited", 1, FUTURE)
    assert event == UnknownEvent("IntentAudited", 1, FUTURE)
    before, after = fold([submitted()]), fold([submitted(), event, planned()])
    assert before is not None
    assert after is not None
    assert after.version == before.version + 2
    assert after.status == "planned"


@pytest.mark.parametrize(("type_", "version"), [("IntentPlanned", 2), ("Measured", 4)])
def test_a_newer_version_of_a_known_type_is_refused(type_: str, version: int) -> None:
    complaint = f"{type_} has schema version {version}, of a later release"
    for read in (MEASURED.revive, MEASURED.revive_checked):
        with pytest.raises(NewerEvent, match=complaint):
            read(type_, version, FUTURE)
    assert not MEASURED.reads(type_, version)
    assert MEASURED.reads(type_, version - 1)


ODD = [
    r'{"celsius": "\ud800"}', "[]", '"x"', "null", "{}", '{"celsius": {}}', '{"celsius": 1e999}',
    "[" * 3000 + "]" * 3000,
]  # fmt: skip


@pytest.mark.parametrize("data", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_any_data_in_the_log_is_read_or_refused(version: int, data: str) -> None:
    for read in (MEASURED.revive, MEASURED.revive_checked):
        with pytest.raises((UnreadableEvent, ValidationError)):
            read("Measured", version, data)


def test_the_code_reads_with_the_registry_of_all_its_types() -> None:
    assert REGISTRY.types is EVENT_TYPES
    assert {name: model.type for name, model in EVENT_TYPES.items()} == {n: n for n in EVENT_TYPES}
