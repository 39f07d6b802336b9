"""Places in the log: steps from one to another, and their form as text."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domain.eventlog.heads import Heads, InvalidHeads
from domain.eventlog.lanes import LANES

POSITIONS = st.lists(
    st.integers(0, 5) | st.integers(0, 2**63 - 1), min_size=LANES, max_size=LANES
).map(lambda positions: Heads(tuple(positions)))


def heads(**lanes: int) -> Heads:
    """Of the named lanes, as ``lane_7=3``; the others are empty."""
    positions = [0] * LANES
    for lane, position in lanes.items():
        positions[int(lane.removeprefix("lane_"))] = position
    return Heads(tuple(positions))


@given(POSITIONS, POSITIONS, st.integers(1, 3000))
def test_a_step_is_as_long_as_it_may_be_and_never_goes_back(
    after: Heads, other: Heads, limit: int
) -> None:
    to = after.union(other)
    step = after.step(to, limit)
    assert step.reaches(after)
    assert to.reaches(step)
    assert after.events_to(step) == min(limit, after.events_to(to))


def test_steps_take_lanes_side_by_side() -> None:
    to = heads(lane_0=1000, lane_1=2, lane_2=1000, lane_255=1)
    assert Heads.start().step(to, 13) == heads(lane_0=5, lane_1=2, lane_2=5, lane_255=1)
    assert Heads.start().step(to, 2) == heads(lane_0=1, lane_1=1)
    assert Heads.start().step(to, 5000) == to


def test_what_is_behind_is_no_way_to_go() -> None:
    here, behind = heads(lane_3=5, lane_4=1), heads(lane_3=4, lane_4=2)
    assert not here.reaches(behind)
    assert not behind.reaches(here)
    assert here.events_to(behind) == 1
    assert here.step(behind, 10) == here.union(behind) == heads(lane_3=5, lane_4=2)
    assert here.within(behind) == heads(lane_3=4, lane_4=1)
    assert here.range_to(behind) == {"lanes": [4], "after": [1], "to": [2]}


@given(POSITIONS)
def test_a_text_gives_back_the_place(place: Heads) -> None:
    assert Heads.parse(str(place)) == place
    assert str(place).isprintable()
    assert " " not in str(place)


@pytest.mark.parametrize(
    "text",
    [
        *("", "7:12", "h1.", "h1.AAAA", "h1.ü", "h1." + "A" * 10**6, "h1." + "_" * 400),
        *("h2." + str(Heads.start())[3:], str(Heads.start())[:-1], str(Heads.start()) + "AAAA"),
        *(str(Heads.start())[:-1] + "=", str(Heads((2**62,) * LANES)) + "A"),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidHeads):
        Heads.parse(text)


@given(POSITIONS, st.data())
def test_a_text_with_one_other_character_is_refused(place: Heads, data: st.DataObject) -> None:
    text = str(place)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("0123456789ABCDEFabcdef-_+/=."))
    assume(text[at] != other)
    with pytest.raises(InvalidHeads):
        Heads.parse(text[:at] + other + text[at + 1 :])
