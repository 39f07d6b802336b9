"""Whatever commands arrive in whatever order, the invariants hold."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.intents.commands import Command
from domain.intents.decider import decide
from domain.intents.event_parts import RunOutcome
from domain.intents.events import IntentEvent, revive
from domain.intents.evolve import evolve, fold
from domain.intents.next_step import react
from domain.intents.refusals import IntentRefused
from domain.intents.run_decisions import MAX_RUN_ATTEMPTS
from domain.intents.state import IntentState, Status
from domain.intents.struct import plain
from tests.support.intents.specification import (
    CONTENT,
    NOW,
    SENTENCE,
    cancel,
    plan,
    record,
    reject,
    request_run,
    submit,
)

ORDER = [Status.SUBMITTED, Status.PLANNED, Status.RUNNING]

outcomes = st.builds(
    RunOutcome,
    verdict=st.sampled_from(["succeeded", "exited", "timed_out", "infrastructure_error"]),
    retryable=st.booleans(),
    exit_code=st.none() | st.integers(0, 255),
    stdout=st.text(max_size=20),
)
commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(submit, st.sampled_from([CONTENT, SENTENCE])),
    st.builds(cancel),
    st.builds(plan),
    st.builds(reject),
    st.builds(request_run),
    st.builds(record, outcomes, st.integers(1, MAX_RUN_ATTEMPTS + 1)),
)


def carry_out(sequence: list[Command]) -> tuple[list[IntentEvent], list[IntentState]]:
    history: list[IntentEvent] = []
    states: list[IntentState] = []
    state: IntentState | None = None
    for command in sequence:
        try:
            events = decide(command, state)
        except (IntentRefused, ValueError):
            continue
        for event in events:
            state = evolve(state, event)
            history.append(event)
            states.append(state)
    return history, states


@given(st.lists(commands, max_size=30))
@settings(max_examples=300)
def test_status_only_moves_forward_and_ends_once(sequence: list[Command]) -> None:
    _, states = carry_out([submit(), *sequence])
    for before, after in pairwise(states):
        if before.status.terminal:
            assert after.status is before.status
        elif not after.status.terminal:
            assert ORDER.index(after.status) >= ORDER.index(before.status)
    assert [state.version for state in states] == list(range(1, len(states) + 1))


@given(st.lists(commands, max_size=30))
@settings(max_examples=300)
def test_runs_are_bounded_distinct_and_at_most_one_is_open(sequence: list[Command]) -> None:
    _, states = carry_out([submit(), *sequence])
    for state in states:
        assert len(state.runs) <= MAX_RUN_ATTEMPTS
        assert len({run.run_id for run in state.runs}) == len(state.runs)
        assert sum(run.outcome is None for run in state.runs) <= 1
        if state.status is Status.SUCCEEDED:
            assert state.decisive_run is not None
            assert state.decisive_run.succeeded
        assert (state.completed_at is not None) == state.status.terminal
        assert react(state) is None or not state.status.terminal


@given(st.lists(commands, max_size=30))
@settings(max_examples=200)
def test_recorded_events_give_the_same_state_back(sequence: list[Command]) -> None:
    history, states = carry_out([submit(), *sequence])
    stored = [(e.type, e.schema_version, msgspec.json.encode(plain(e)).decode()) for e in history]
    revived = [revive(*row) for row in stored]
    assert fold(revived) == states[-1]


@given(st.lists(commands, min_size=1, max_size=15))
@settings(max_examples=200)
def test_repeating_any_command_changes_nothing_more(sequence: list[Command]) -> None:
    doubled = [command for one in sequence for command in (one, one)]
    assert carry_out([submit(), *doubled])[0] == carry_out([submit(), *sequence])[0]


@given(st.permutations([plan(), request_run(), record(RunOutcome(verdict="succeeded")), cancel()]))
def test_any_order_of_internal_commands_reaches_a_consistent_state(order: list[Command]) -> None:
    _, states = carry_out([submit(), *order])
    assert states[-1].status in (Status.CANCELLED, Status.SUCCEEDED, Status.RUNNING, Status.PLANNED)
    assert states[-1].updated_at <= NOW + timedelta(0)
