"""How many boxes wait follows what jobs ask for, within a budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandbox_host.runtimes.pool.demand import Demand, share

MAKING = 0.4  # seconds that one box takes


def _steady(demand: Demand, per_second: float, seconds: float, start: float = 0.0) -> float:
    """Jobs at a steady rate; when the last one came."""
    count = int(per_second * seconds)
    for number in range(count):
        demand.arrived(start + number / per_second)
    return start + (count - 1) / per_second


def test_without_demand_one_box_waits() -> None:
    assert Demand().wanted(0.0, MAKING) == 1


def test_as_many_boxes_as_are_asked_for_wait_without_demand() -> None:
    assert Demand(least=2).wanted(0.0, 0.5) == 2


def test_a_steady_rate_is_measured() -> None:
    demand = Demand()
    now = _steady(demand, per_second=10, seconds=20)
    assert 9 < demand.rate(now) < 12


def test_enough_boxes_wait_for_the_jobs_that_arrive_while_one_is_made() -> None:
    demand = Demand()
    now = _steady(demand, per_second=10, seconds=20)
    assert 10 * MAKING * 2 <= demand.wanted(now, MAKING) <= 10 * MAKING * 2 + 3


def test_a_burst_is_remembered_for_the_next_and_forgotten_in_the_end() -> None:
    demand = Demand()
    for _ in range(20):
        demand.arrived(0.0)
    after_burst = demand.wanted(1.0, MAKING)
    assert after_burst > 5
    assert 1 < demand.wanted(31.0, MAKING) < after_burst
    assert demand.wanted(600.0, MAKING) == 1


WANTED = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 20), min_size=1)


@given(WANTED, st.integers(0, 100))
def test_no_more_is_shared_out_than_there_is_or_than_is_wanted(
    wanted: dict[str, int], capacity: int
) -> None:
    given = share(wanted, capacity)
    assert sum(given.values()) == min(capacity, sum(wanted.values()))
    assert all(0 <= given[name] <= wanted[name] for name in wanted)


@given(WANTED, st.integers(0, 100))
def test_each_language_has_one_box_before_any_has_two(
    wanted: dict[str, int], capacity: int
) -> None:
    given = share(wanted, capacity)
    assert min(given.values()) >= 1 or max(given.values()) <= 1


def test_the_languages_that_want_most_come_first_where_there_is_little() -> None:
    assert share({"python": 9, "ruby": 1, "node": 3}, 2) == {"python": 1, "node": 1, "ruby": 0}
