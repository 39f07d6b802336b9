"""Plans of several steps, programs that are repaired, and models that are unavailable."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from domain.intents.commands import (
    CancelIntent,
    Command,
    PostponePlanning,
    RecordPlan,
    RecordRepair,
    RecordRun,
    RejectPlan,
    RejectRepair,
    RequestRun,
)
from domain.intents.content import Program
from domain.intents.decider import decide
from domain.intents.event_parts import (
    Author,
    FailureCause,
    ModelCall,
    PlannedStep,
    RunArtifact,
    RunOutcome,
)
from domain.intents.events import (
    IntentEvent,
    IntentFailed,
    IntentPlanned,
    LanguageModelCalled,
    PlanningPostponed,
    ProgramRepaired,
    SandboxRunRequested,
)
from domain.intents.evolve import fold
from domain.intents.next_step import NextStep, PlanStep, RepairStep, RequestRunStep, react
from domain.intents.plan_decisions import LONGEST_DELAY, PLANNING_DELAYS
from domain.intents.run_decisions import MAX_RUN_ATTEMPTS, run_id_of
from domain.intents.state import IntentState, ModelUsage, Status
from domain.intents.struct import checked
from tests.support.intents.specification import (
    CRASH,
    INTENT,
    LIMITS,
    NOW,
    OUTAGE,
    SENTENCE,
    SUCCESS,
    given,
    submitted,
)

AUTHOR = Author(model="m", prompt="plan@1")
CALL = ModelCall(
    purpose="plan",
    outcome="answered",
    model="m",
    prompt="plan@1",
    input_tokens=700,
    output_tokens=300,
    cost_microusd=1_250,
)
CALLED = LanguageModelCalled(at=NOW, call=CALL)
AWAY = FailureCause(code="model_unavailable", message="The model cannot be reached.")


def program(text: str = "print(1)") -> Program:
    return checked(Program, {"language": "python", "files": {"main.py": text}})


def step(name: str, *needs: str) -> PlannedStep:
    return PlannedStep(name=name, program=program(name), needs=needs)


def planned(*steps: PlannedStep, repairs: int = 0, expects: tuple[str, ...] = ()) -> IntentPlanned:
    return IntentPlanned(
        at=NOW,
        source="generated",
        program=None if steps else program(),
        steps=steps,
        author=AUTHOR,
        repairs=repairs,
        expected_artifacts=expects,
    )


class Story:
    """A stream to which commands are given one after the other."""

    def __init__(self, *history: IntentEvent) -> None:
        self.history = list(history)

    @property
    def state(self) -> IntentState:
        state = fold(self.history)
        assert state is not None
        return state

    @property
    def next(self) -> NextStep | None:
        return react(self.state)

    def give(self, command: Command) -> list[IntentEvent]:
        events = list(decide(command, self.state))
        self.history += events
        return events

    def request_all(self) -> list[str]:
        """Take the steps that ask for runs; their names."""
        asked = []
        while isinstance(ready := self.next, RequestRunStep):
            [event] = self.give(RequestRun(LIMITS, NOW, ready.step, ready.attempt))
            assert isinstance(event, SandboxRunRequested)
            asked.append(event.step or "main")
        return asked

    def end(self, name: str, outcome: RunOutcome, attempt: int = 1) -> list[str]:
        run_id = run_id_of(INTENT, attempt, name)
        return [event.type for event in self.give(RecordRun(run_id, outcome, NOW))]


def diamond() -> Story:
    steps = (step("load"), step("left", "load"), step("right", "load"))
    return Story(submitted(SENTENCE), planned(*steps, step("join", "left", "right")))


class TestSteps:
    def test_each_runs_when_what_it_needs_is_there(self) -> None:
        story = diamond()
        assert story.request_all() == ["load"]
        assert story.end("load", SUCCESS) == ["SandboxRunFinished"]
        assert story.request_all() == ["left", "right"]  # at once
        assert story.end("right", SUCCESS) == ["SandboxRunFinished"]
        assert story.request_all() == []
        assert story.end("left", SUCCESS) == ["SandboxRunFinished"]
        assert story.request_all() == ["join"]
        assert story.end("join", SUCCESS) == ["SandboxRunFinished", "IntentSucceeded"]
        assert story.state.status is Status.SUCCEEDED
        assert story.next is None

    def test_a_run_is_not_requested_too_early_or_twice(self) -> None:
        story = diamond()
        assert story.give(RequestRun(LIMITS, NOW, "join")) == []
        assert story.give(RequestRun(LIMITS, NOW, "load", 2)) == []
        assert story.give(RequestRun(LIMITS, NOW, "nothing")) == []
        assert len(story.give(RequestRun(LIMITS, NOW, "load"))) == 1
        assert story.give(RequestRun(LIMITS, NOW, "load")) == []

    def test_a_step_that_fails_fails_the_intent_and_the_others_are_only_recorded(self) -> None:
        story = diamond()
        story.request_all()
        story.end("load", SUCCESS)
        story.request_all()
        assert story.end("left", CRASH) == ["SandboxRunFinished", "IntentFailed"]
        assert story.next is None
        assert story.end("right", SUCCESS) == ["SandboxRunFinished"]
        state = story.state
        assert state.status is Status.FAILED
        assert state.failure is not None
        assert state.failure.message.startswith("Step 'left': The program exited with code 3")
        assert state.decisive_run is not None
        assert state.decisive_run.step == "left"

    def test_an_outage_of_the_sandbox_retries_that_step_alone(self) -> None:
        story = diamond()
        story.request_all()
        story.end("load", SUCCESS)
        story.request_all()
        for attempt in range(1, MAX_RUN_ATTEMPTS):
            ended = story.end("left", OUTAGE, attempt)
            assert ended == ["SandboxRunFinished", "SandboxRunRequested"]
        assert story.end("right", SUCCESS) == ["SandboxRunFinished"]
        assert story.end("left", OUTAGE, MAX_RUN_ATTEMPTS)[-1] == "IntentFailed"

    def test_the_result_is_that_of_the_last_step(self) -> None:
        story = Story(submitted(SENTENCE), planned(step("a"), step("b")))
        story.request_all()
        story.end("b", RunOutcome(verdict="succeeded", stdout="the result"))
        story.end("a", RunOutcome(verdict="succeeded", stdout="on the way"))
        run = story.state.decisive_run
        assert run is not None
        assert run.outcome is not None
        assert run.outcome.stdout == "the result"

    def test_a_plan_of_one_step_is_recorded_as_it_always_was(self) -> None:
        story = Story(submitted(SENTENCE), planned())
        story.request_all()
        assert story.history[-1] == SandboxRunRequested(
            at=NOW, run_id=run_id_of(INTENT, 1), attempt=1, limits=LIMITS
        )


class TestExpectedArtifacts:
    LEFT = msgspec.structs.replace(
        SUCCESS, artifacts=(RunArtifact(name="a.csv", size=1, sha256="0" * 64),)
    )

    def test_a_run_that_leaves_them_succeeds(self) -> None:
        story = Story(submitted(SENTENCE), planned(expects=("a.csv",)))
        story.request_all()
        assert story.end("main", self.LEFT)[-1] == "IntentSucceeded"

    def test_a_run_that_does_not_fails_and_says_what_is_missing(self) -> None:
        story = Story(submitted(SENTENCE), planned(expects=("a.csv", "b.png")))
        story.request_all()
        assert story.end("main", self.LEFT)[-1] == "IntentFailed"
        failure = story.state.failure
        assert failure is not None
        assert failure.code == "artifacts_missing"
        assert "'b.png'" in failure.message
        assert "a.csv" not in failure.message

    def test_only_the_last_step_must_leave_them_and_it_can_be_repaired(self) -> None:
        plan = planned(step("a"), step("b", "a"), repairs=1, expects=("a.csv",))
        story = Story(submitted(SENTENCE), plan)
        story.request_all()
        assert story.end("a", SUCCESS) == ["SandboxRunFinished"]
        story.request_all()
        assert story.end("b", SUCCESS)[-1] == "RepairRequested"


def repair(name: str = "main", attempt: int = 1, **fields: Any) -> RecordRepair:
    run_id = run_id_of(INTENT, attempt, name)
    return RecordRepair(name, run_id, program("print(2)"), "a typo", AUTHOR, NOW, **fields)


class TestRepairs:
    @pytest.fixture
    def story(self) -> Story:
        story = Story(submitted(SENTENCE), planned(repairs=2))
        story.request_all()
        return story

    def test_a_program_that_fails_is_given_back_and_its_successor_runs(self, story: Story) -> None:
        assert story.end("main", CRASH) == ["SandboxRunFinished", "RepairRequested"]
        assert story.next == RepairStep("main", run_id_of(INTENT, 1), 1, None)
        assert story.state.status is Status.RUNNING
        repaired = story.give(repair(calls=(CALL,)))
        assert repaired == [
            CALLED,
            ProgramRepaired(
                at=NOW,
                step="main",
                program=program("print(2)"),
                explanation="a typo",
                author=AUTHOR,
            ),
        ]
        assert story.request_all() == ["main"]
        assert story.end("main", SUCCESS, 2)[-1] == "IntentSucceeded"
        assert story.state.plan_source == "repaired"

    def test_repairs_are_limited(self, story: Story) -> None:
        for attempt in (1, 2):
            assert story.end("main", CRASH, attempt)[-1] == "RepairRequested"
            story.give(repair(attempt=attempt))
            story.request_all()
        assert story.end("main", CRASH, 3)[-1] == "IntentFailed"

    def test_steps_share_the_limit(self) -> None:
        story = Story(submitted(SENTENCE), planned(step("a"), step("b"), repairs=1))
        story.request_all()
        assert story.end("a", CRASH)[-1] == "RepairRequested"
        assert story.end("b", CRASH)[-1] == "IntentFailed"

    def test_other_steps_go_on_meanwhile(self) -> None:
        plan = planned(step("a"), step("b"), step("c", "b"), repairs=1)
        story = Story(submitted(SENTENCE), plan)
        story.request_all()
        story.end("a", CRASH)
        story.end("b", SUCCESS)
        assert story.next == RequestRunStep("c", 1)  # before the repair: it takes its time
        story.request_all()
        assert isinstance(story.next, RepairStep)
        assert story.end("c", SUCCESS) == ["SandboxRunFinished"]
        story.give(repair("a"))
        story.request_all()
        assert story.end("a", SUCCESS, 2)[-1] == "IntentSucceeded"

    def test_outages_do_not_count_as_failures_of_the_program(self, story: Story) -> None:
        assert story.end("main", OUTAGE)[-1] == "SandboxRunRequested"
        assert story.end("main", CRASH, 2)[-1] == "RepairRequested"
        story.give(repair(attempt=2))
        assert story.request_all() == ["main"]
        for attempt in range(3, 2 + MAX_RUN_ATTEMPTS):
            assert story.end("main", OUTAGE, attempt)[-1] == "SandboxRunRequested"

    @pytest.mark.parametrize("verdict", ["killed_by_operator", "invalid_job"])
    def test_what_another_program_would_not_change_is_not_repaired(
        self, story: Story, verdict: str
    ) -> None:
        assert story.end("main", RunOutcome(verdict=verdict))[-1] == "IntentFailed"

    def test_a_repair_that_is_impossible_ends_with_the_programs_failure(self, story: Story) -> None:
        story.end("main", CRASH)
        cause = FailureCause(code="token_budget_exhausted", message="The day's tokens are used.")
        [failed] = story.give(RejectRepair("main", run_id_of(INTENT, 1), cause, NOW))
        assert isinstance(failed, IntentFailed)
        assert failed.cause.code == "program_exited"
        assert failed.cause.message.endswith("not be repaired: The day's tokens are used.")
        assert failed.run_id == run_id_of(INTENT, 1)

    def test_a_late_or_repeated_repair_only_records_its_calls(self, story: Story) -> None:
        assert story.give(repair(calls=(CALL,))) == [CALLED]
        story.end("main", CRASH)
        story.give(repair())
        assert story.give(repair()) == []
        story.give(CancelIntent(None, NOW))
        assert story.give(repair(calls=(CALL,))) == [CALLED]

    def test_submitted_programs_are_left_alone(self) -> None:
        story = Story(submitted(), IntentPlanned(at=NOW, source="submitted"))
        story.request_all()
        assert story.end("main", CRASH)[-1] == "IntentFailed"


def postpone(attempt: int, retry_after: timedelta | None = None) -> PostponePlanning:
    return PostponePlanning(attempt, AWAY, retry_after, NOW)


class TestPostponement:
    def test_planning_is_tried_again_later_and_then_fails(self) -> None:
        story = Story(submitted(SENTENCE))
        for attempt, delay in enumerate(PLANNING_DELAYS, 1):
            assert story.next == PlanStep(attempt, story.state.delay.not_before)
            [event] = story.give(postpone(attempt))
            assert event == PlanningPostponed(
                at=NOW, attempt=attempt, not_before=NOW + delay, cause=AWAY
            )
        [failed] = story.give(postpone(len(PLANNING_DELAYS) + 1))
        assert isinstance(failed, IntentFailed)
        assert failed.cause == AWAY

    def test_a_provider_that_names_a_time_is_left_alone_until_then(self) -> None:
        story = Story(submitted(SENTENCE))
        story.give(postpone(1, timedelta(minutes=3)))
        assert story.state.delay.not_before == NOW + timedelta(minutes=3)
        story.give(postpone(2, timedelta(days=3)))
        assert story.state.delay.not_before == NOW + LONGEST_DELAY

    def test_a_repeated_or_late_postponement_changes_nothing(self) -> None:
        given(submitted(SENTENCE)).when(postpone(2)).then_nothing()
        story = Story(submitted(SENTENCE))
        story.give(postpone(1))
        assert story.give(postpone(1)) == []
        story.give(RecordPlan("generated", program(), None, None, NOW))
        assert story.give(postpone(2)) == []

    def test_a_postponed_repair_does_not_stop_other_steps(self) -> None:
        story = Story(submitted(SENTENCE), planned(step("a"), step("b"), repairs=1))
        story.request_all()
        story.end("a", CRASH)
        run_id = run_id_of(INTENT, 1, "a")
        for attempt, delay in enumerate(PLANNING_DELAYS, 1):
            story.give(PostponePlanning(attempt, AWAY, None, NOW, "a", run_id))
            assert story.next == RepairStep("a", run_id, attempt + 1, NOW + delay)
        assert story.end("b", SUCCESS) == ["SandboxRunFinished"]
        last = len(PLANNING_DELAYS) + 1
        [failed] = story.give(PostponePlanning(last, AWAY, None, NOW, "a", run_id))
        assert isinstance(failed, IntentFailed)
        assert failed.cause.code == "program_exited"

    def test_calls_are_recorded_whatever_comes_of_them(self) -> None:
        story = Story(submitted(SENTENCE))
        story.give(PostponePlanning(1, AWAY, None, NOW, calls=(CALL,)))
        story.give(RejectPlan(AWAY, NOW, (CALL, CALL)))
        assert story.state.usage == ModelUsage(3, 2_100, 900, 3_750)
        assert story.give(RejectPlan(AWAY, NOW, (CALL,))) == [CALLED]
        assert story.state.status is Status.FAILED
