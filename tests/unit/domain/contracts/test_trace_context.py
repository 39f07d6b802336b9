from __future__ import annotations

import pytest

from domain.contracts.envelope import child_of, is_traceparent
from tests.support.trace_contexts import KEPT, PARENT, RESTARTED, SPAN, TRACE


@pytest.mark.parametrize(("case", "parent"), KEPT)
def test_a_child_keeps_the_trace_and_gets_a_span_of_its_own(case: str, parent: str) -> None:
    assert is_traceparent(parent), case
    child = child_of(parent)
    version, trace_id, span, flags = child.split("-")
    assert (version, trace_id, flags) == ("00", TRACE, "01")
    assert span != SPAN
    assert is_traceparent(child)


@pytest.mark.parametrize(("case", "parent"), RESTARTED)
def test_an_invalid_parent_starts_a_new_trace(case: str, parent: str | None) -> None:
    assert not is_traceparent(parent), case
    child = child_of(parent)
    assert is_traceparent(child)
    assert child.startswith("00-")
    assert child.split("-")[1] not in (parent or "-")


@pytest.mark.parametrize(
    ("flags", "kept"), [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("ff", "03")]
)
def test_known_flags_are_kept_and_others_dropped(flags: str, kept: str) -> None:
    assert child_of(f"00-{TRACE}-{SPAN}-{flags}").split("-")[3] == kept


def test_many_children_have_spans_of_their_own() -> None:
    for parent in (PARENT, None, f"00-{'0' * 32}-{SPAN}-01"):
        assert len({child_of(parent).split("-")[2] for _ in range(3)}) == 3
