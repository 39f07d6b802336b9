from __future__ import annotations

import azure.functions as func
import pytest

from functions.headers import etags, preferred_wait, singleton
from functions.problems import Problem
from tests.support.cpu_time import quickly


def request(**headers: str) -> func.HttpRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return func.HttpRequest("GET", "http://x/api/intents", headers=named, body=b"")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=10", 10),
        ("WAIT = 10", 10),
        ('wait="10"', 10),
        ("respond-async, wait=10", 10),
        ("respond-async,wait=10;when=late", 10),
        ('foo="a\\",b"; bar="wait=1", wait=10', 10),
        (", ,wait=10,", 10),
        ("foo bar, wait=10", 10),  # what is malformed is left out, and nothing else
        ("wait=10, wait=20", 10),  # the first counts
        ("wait=0", 0),
        ("wait=0000000000000000000010", 10),
        ("wait=61", 60),
        ("wait=" + "9" * 20_000, 60),
        ("", None),
        ("wait", None),
        ('wait=""', None),
        ('foo="a,wait=10"', None),
        ("foo; wait=10", None),
        ('foo="wait=10, wait=10', None),
        ("wait=soon", None),
        ("wait=soon, wait=10", None),
        ("wait=-1", None),
        ("wait=+1", None),
        ("wait=1.5", None),
        ("wait=1e1", None),
        ("wait=1_0", None),
        ("wait=１０", None),
        ("wait=nan", None),
        ("wait=10 20", None),
        ("wait=10;;=", None),
        ("await=10", None),
    ],
)
def test_a_preference_to_wait(header: str, seconds: int | None) -> None:
    assert preferred_wait(request(prefer=header)) == seconds


@pytest.mark.parametrize(
    "header",
    [
        "a;" + " " * 30_000 + '"',
        "a;" * 16_000 + "(",
        "a; \t" * 8_000 + "(",
        '"\\' * 16_000,
        'a="' + "\\a" * 16_000,
        ",a" * 16_000,
        "a;b=c" * 6_000,
    ],
)
def test_a_header_of_the_largest_size_is_read_quickly(header: str) -> None:
    with quickly(0.5):
        assert preferred_wait(request(prefer=header)) is None


def test_a_header_that_is_sent_twice_is_refused() -> None:
    assert singleton(request(idempotency_key="a"), "Idempotency-Key") == "a"
    assert singleton(request(), "Idempotency-Key") is None
    with pytest.raises(Problem, match="more than once") as refused:
        singleton(request(idempotency_key="a,b"), "Idempotency-Key")
    assert refused.value.status == 400


def test_entity_tags_are_told_apart_by_their_quotes() -> None:
    assert etags('"a,b", W/"c" ,"d"') == ['"a,b"', '"c"', '"d"']
    assert etags('a, "b') == []
