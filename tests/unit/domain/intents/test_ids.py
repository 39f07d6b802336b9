"""Ids sort by their time, and derived ids are always the same."""

from __future__ import annotations

import time
from uuid import UUID, uuid4, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.intents.ids import derived_id, new_id

EARLY = UUID("01a22526-e385-7134-9db6-9a34289552c7")


def milliseconds(of: UUID) -> int:
    return of.int >> 80


def test_a_new_id_is_of_version_7_and_of_now() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id()
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, EARLY.variant)
    assert before <= milliseconds(made) <= after


def test_new_ids_differ_in_all_their_random_bits() -> None:
    made = [new_id().int for _ in range(300)]
    assert len(set(made)) == 300
    ones, zeros = 0, 0
    for number in made:
        ones, zeros = ones | number, zeros | ~number
    random = ((1 << 80) - 1) ^ (0xF << 76) ^ (0x3 << 62)
    assert ones & zeros & random == random, "each bit was seen as 1 and as 0"


@given(st.text(), st.text())
def test_a_derived_id_has_its_origins_time_and_is_always_the_same(one: str, other: str) -> None:
    derived = derived_id(EARLY, one)
    assert (derived.version, derived.variant) == (8, EARLY.variant)
    assert milliseconds(derived) == milliseconds(EARLY)
    assert (derived == derived_id(EARLY, other)) == (one == other)
    assert derived != derived_id(new_id(), one)


def test_an_id_derived_from_a_derived_one_has_the_same_time() -> None:
    chain = EARLY
    seen = {chain}
    for _ in range(5):
        chain = derived_id(chain, "next")
        seen.add(chain)
    assert {milliseconds(each) for each in seen} == {milliseconds(EARLY)}
    assert len(seen) == 6


@pytest.mark.parametrize("origin", [uuid4(), uuid5(EARLY, "a caller's key")])
def test_ids_of_origins_without_a_time_are_what_they_always_were(origin: UUID) -> None:
    assert derived_id(origin, "submit") == uuid5(origin, "submit")
    assert derived_id(uuid5(origin, "submit"), "0") == uuid5(uuid5(origin, "submit"), "0")


def test_derived_ids_are_recorded_and_never_change() -> None:
    assert str(derived_id(EARLY, "submit")) == "01a22526-e385-889c-b9c4-4d9fa0dc20ad"
    assert str(derived_id(UUID(int=0), "submit")) == str(uuid5(UUID(int=0), "submit"))
