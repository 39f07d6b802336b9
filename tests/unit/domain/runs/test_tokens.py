"""A token speaks for one run, and nothing else makes one."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.runs.tokens import RunOwner, RunTokens

RUN, INTENT = uuid4(), uuid4()
OLD, NEW = b"o" * 32, b"n" * 32


def issue(tokens: RunTokens, tenant: str = "acme") -> str:
    token = tokens.issue(RUN, INTENT, tenant)
    assert token is not None
    return token


def test_the_same_job_has_the_same_token_and_its_owner_is_known() -> None:
    tokens = RunTokens([NEW])
    assert issue(tokens) == issue(RunTokens([NEW]))
    assert tokens.owner_of(issue(tokens), RUN) == RunOwner("acme", INTENT)
    assert len(issue(tokens, "x" * 64)) <= 512


def test_without_a_key_there_is_no_token_and_none_is_good() -> None:
    assert RunTokens([]).issue(RUN, INTENT, "acme") is None
    assert RunTokens([]).owner_of(issue(RunTokens([NEW])), RUN) is None


def test_a_key_can_be_changed_while_jobs_are_under_way() -> None:
    both = RunTokens([NEW, OLD])
    assert both.owner_of(issue(RunTokens([OLD])), RUN) == RunOwner("acme", INTENT)
    assert issue(both) == issue(RunTokens([NEW]))
    assert RunTokens([NEW]).owner_of(issue(RunTokens([OLD])), RUN) is None


@pytest.mark.parametrize("run_id", [uuid4(), UUID(int=0), INTENT])
def test_a_token_of_another_run_is_refused(run_id: UUID) -> None:
    tokens = RunTokens([NEW])
    assert tokens.owner_of(issue(tokens), run_id) is None


def test_every_part_of_a_token_counts() -> None:
    tokens = RunTokens([NEW])
    token = issue(tokens)
    for index, character in enumerate(token):
        other = "1" if character != "1" else "2"
        forged = token[:index] + other + token[index + 1 :]
        assert tokens.owner_of(forged, RUN) is None, forged
    for forged in (token + "\n", token + "A", f" {token}", token.upper(), token.replace(".", "/")):
        assert tokens.owner_of(forged, RUN) is None


@given(st.text(max_size=200))
def test_any_text_is_refused_without_an_error(text: str) -> None:
    assert RunTokens([NEW]).owner_of(text, RUN) is None
