from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from domain.intents.commands import Command, RecordPlan
from domain.intents.content import IntentContent, Program
from domain.intents.decider import decide
from domain.intents.event_parts import FailureCause, RunOutcome
from domain.intents.events import (
    IntentCancelled,
    IntentEvent,
    IntentFailed,
    IntentPlanned,
    IntentSucceeded,
    SandboxRunFinished,
    SandboxRunKillRequested,
    SandboxRunRequested,
    UnknownEvent,
)
from domain.intents.evolve import CorruptStream, fold
from domain.intents.next_step import PlanStep, RequestRunStep, react
from domain.intents.refusals import IntentAlreadyFinished, IntentNotFound, SubmissionConflict
from domain.intents.run_decisions import MAX_RUN_ATTEMPTS, RETRY_DELAYS, run_id_of
from domain.intents.state import Status
from domain.intents.struct import checked
from tests.support.intents.specification import (
    CONTENT,
    CRASH,
    INTENT,
    LIMITS,
    NOW,
    OUTAGE,
    PROGRAM,
    SENTENCE,
    SUCCESS,
    cancel,
    given,
    plan,
    planned,
    record,
    reject,
    request_run,
    requested,
    submit,
    submitted,
)


def finished(outcome: RunOutcome, attempt: int = 1) -> SandboxRunFinished:
    return SandboxRunFinished(at=NOW, run_id=run_id_of(INTENT, attempt), outcome=outcome)


SUCCEEDED = IntentSucceeded(at=NOW, run_id=run_id_of(INTENT, 1))
FAILED = IntentFailed(
    at=NOW,
    run_id=run_id_of(INTENT, 1),
    cause=FailureCause(
        code="program_exited", message="The program exited with code 3; see stderr."
    ),
)
CANCELLED = IntentCancelled(at=NOW, reason="changed my mind")


class TestSubmit:
    def test_a_new_intent_is_submitted(self) -> None:
        given().when(submit()).then(submitted())

    def test_a_repeated_submission_changes_nothing(self) -> None:
        given(submitted()).when(submit()).then_nothing()

    def test_a_repeat_with_other_content_is_refused(self) -> None:
        given(submitted()).when(submit(SENTENCE)).then_refused(SubmissionConflict)


class TestPlan:
    def test_a_plan_makes_it_planned(self) -> None:
        given(submitted()).when(plan()).then(planned())

    def test_a_found_program_is_recorded_with_its_source(self) -> None:
        program = checked(Program, PROGRAM)
        command = RecordPlan("reused", program, INTENT, None, NOW)
        given(submitted(SENTENCE)).when(command).then(
            IntentPlanned(at=NOW, source="reused", program=program, reused_from=INTENT)
        )

    def test_a_plan_without_any_program_is_a_programming_error(self) -> None:
        given(submitted(SENTENCE)).when(plan()).then_refused(ValueError)

    def test_no_program_fails_the_intent(self) -> None:
        given(submitted(SENTENCE)).when(reject()).then(IntentFailed(at=NOW, cause=reject().cause))

    def test_a_run_is_requested_once_planned(self) -> None:
        given(submitted(), planned()).when(request_run()).then(requested())


class TestRun:
    RUNNING = (submitted(), planned(), requested())

    def test_success(self) -> None:
        given(*self.RUNNING).when(record(SUCCESS)).then(finished(SUCCESS), SUCCEEDED)

    def test_a_failing_program_fails_the_intent_at_once(self) -> None:
        given(*self.RUNNING).when(record(CRASH)).then(finished(CRASH), FAILED)

    @pytest.mark.parametrize(
        "verdict", ["timed_out", "out_of_memory", "signalled", "output_limit", "invalid_job", "odd"]
    )
    def test_every_other_verdict_is_the_cause(self, verdict: str) -> None:
        events = decide(record(RunOutcome(verdict=verdict)), fold(self.RUNNING))
        failure = events[-1]
        assert isinstance(failure, IntentFailed)
        assert failure.cause.code == verdict

    def test_a_sandbox_outage_is_retried_later(self) -> None:
        given(*self.RUNNING).when(record(OUTAGE)).then(
            finished(OUTAGE),
            SandboxRunRequested(
                at=NOW,
                run_id=run_id_of(INTENT, 2),
                attempt=2,
                not_before=NOW + RETRY_DELAYS[0],
                limits=LIMITS,
            ),
        )

    def test_outages_end_in_failure_after_the_last_attempt(self) -> None:
        history: list[IntentEvent] = list(self.RUNNING)
        for attempt in range(1, MAX_RUN_ATTEMPTS + 1):
            history += decide(record(OUTAGE, attempt), fold(history))
        assert isinstance(history[-1], IntentFailed)
        assert history[-1].cause.code == "sandbox_unavailable"
        waits = [e.not_before for e in history if isinstance(e, SandboxRunRequested)]
        assert waits == [None, *(NOW + delay for delay in RETRY_DELAYS)]

    def test_the_result_of_another_run_changes_nothing(self) -> None:
        given(*self.RUNNING).when(record(SUCCESS, attempt=2)).then_nothing()

    def test_a_second_result_changes_nothing(self) -> None:
        given(*self.RUNNING, finished(SUCCESS), SUCCEEDED).when(record(CRASH)).then_nothing()

    def test_a_result_before_its_request_changes_nothing(self) -> None:
        given(submitted(), planned()).when(record(SUCCESS)).then_nothing()


class TestCancel:
    @pytest.mark.parametrize("events", [1, 2, 3])
    def test_it_can_be_cancelled_until_it_ends(self, events: int) -> None:
        history = (submitted(), planned(), requested())[:events]
        given(*history).when(cancel()).then(CANCELLED)

    def test_a_repeated_cancellation_changes_nothing(self) -> None:
        given(submitted(), CANCELLED).when(cancel()).then_nothing()

    @pytest.mark.parametrize("end", [SUCCEEDED, FAILED])
    def test_a_finished_intent_cannot_be_cancelled(self, end: IntentEvent) -> None:
        history = (submitted(), planned(), requested(), finished(SUCCESS), end)
        given(*history).when(cancel()).then_refused(IntentAlreadyFinished)

    def test_a_run_that_ends_after_cancellation_is_still_recorded(self) -> None:
        history = (submitted(), planned(), requested(), CANCELLED)
        given(*history).when(record(SUCCESS)).then(finished(SUCCESS))
        state = fold([*history, finished(SUCCESS)])
        assert state is not None
        assert state.status is Status.CANCELLED

    def test_a_run_killed_by_the_cancellation_counts_as_cancelled(self) -> None:
        killed = RunOutcome(verdict="killed_by_operator", signal=9)
        history = (submitted(), planned(), requested(), CANCELLED)
        given(*history).when(record(killed)).then(
            finished(msgspec.structs.replace(killed, verdict="cancelled"))
        )
        wanted = SandboxRunKillRequested(at=NOW, run_id=run_id_of(INTENT, 1), operator="key 1")
        given(*history[:3], wanted, CANCELLED).when(record(killed)).then(finished(killed))


@pytest.mark.parametrize("command", [cancel(), plan(), reject(), request_run(), record(SUCCESS)])
def test_nothing_but_submission_starts_an_intent(command: Command) -> None:
    given().when(command).then_refused(IntentNotFound)


@pytest.mark.parametrize("command", [plan(), reject(), request_run()])
@pytest.mark.parametrize("end", [CANCELLED, FAILED, SUCCEEDED])
def test_late_internal_commands_change_nothing(command: Command, end: IntentEvent) -> None:
    given(submitted(), end).when(command).then_nothing()


def test_states_call_for_the_next_step() -> None:
    history: list[IntentEvent] = []
    steps = []
    for event in (submitted(), planned(), requested(), finished(SUCCESS), SUCCEEDED):
        history.append(event)
        state = fold(history)
        assert state is not None
        steps.append(react(state))
    assert steps == [PlanStep(1, None), RequestRunStep("main", 1), None, None, None]


def test_unknown_events_count_and_change_nothing_else() -> None:
    known = fold([submitted(), planned()])
    mixed = fold([submitted(), UnknownEvent("FromTheFuture", 9, "{}"), planned()])
    assert known is not None
    assert mixed is not None
    assert (mixed.version, mixed.status) == (known.version + 1, known.status)


def test_a_stream_must_begin_with_the_submission() -> None:
    with pytest.raises(CorruptStream):
        fold([planned()])
    with pytest.raises(CorruptStream):
        fold([submitted(), submitted()])


def test_timestamps_follow_the_events() -> None:
    later = msgspec.structs.replace(planned(), at=NOW + timedelta(seconds=5))
    state = fold([submitted(IntentContent(text="x", program=CONTENT.program)), later])
    assert state is not None
    assert (state.submitted_at, state.updated_at) == (NOW, NOW + timedelta(seconds=5))
    assert state.completed_at is None
