from __future__ import annotations

import pytest

from domain.messaging.envelope import child_of, is_traceparent

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_child_keeps_the_trace_and_gets_a_span_of_its_own() -> None:
    child = child_of(PARENT)
    assert is_traceparent(child)
    assert child.split("-")[1] == PARENT.split("-")[1]
    assert child.split("-")[2] != PARENT.split("-")[2]
    assert child.split("-")[3] == "01"


@pytest.mark.parametrize(
    "parent",
    [
        None,
        "",
        "garbage",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        PARENT.upper(),
        PARENT + "\n",
        PARENT + "-x",
    ],
)
def test_an_invalid_parent_starts_a_new_trace(parent: str | None) -> None:
    child = child_of(parent)
    assert is_traceparent(child)
    assert child.split("-")[1] != PARENT.split("-")[1]
