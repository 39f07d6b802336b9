"""The state of an intent, as its events tell it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.intents.content import IntentContent, Limits, Program
from domain.intents.event_parts import Author, FailureCause, PlanSource, RunOutcome

#: The name of the step in a plan that has only one.
MAIN_STEP = "main"


class Status(StrEnum):
    """submitted → planned → running → succeeded | failed | cancelled."""

    SUBMITTED = "submitted"
    PLANNED = "planned"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen to the intent."""
        return self in _TERMINAL


#: Looked up once: getting a member of an enumeration costs more than comparing it.
_TERMINAL = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)


@dataclass(frozen=True)
class Run:
    """One sandbox run; ``outcome`` is None while it is open.

    Attributes:
        attempt: number of the run among those of its step, from 1.
        repairs: how often its program had been repaired.
    """

    run_id: UUID
    attempt: int
    not_before: datetime | None
    outcome: RunOutcome | None = None
    kill_requested: bool = False
    limits: Limits | None = None
    step: str = MAIN_STEP
    repairs: int = 0

    @property
    def succeeded(self) -> bool:
        """Whether its program ran to its end and exited with 0."""
        return self.outcome is not None and self.outcome.verdict == "succeeded"


@dataclass(frozen=True)
class Delay:
    """How many times in a row something was postponed, and until when."""

    attempts: int = 0
    not_before: datetime | None = None


NO_DELAY = Delay()


@dataclass(frozen=True)
class Step:
    """A step of the plan, with the program that it has now.

    Attributes:
        needs: names of the steps whose artifacts it gets.
        expects: names of artifacts that it must leave.
        repairs: how often its program was repaired.
        broken: the failed run after which it waits to be repaired; None if it does not.
        delay: how its repair was postponed.
    """

    name: str
    program: Program
    needs: tuple[str, ...] = ()
    expects: tuple[str, ...] = ()
    repairs: int = 0
    broken: UUID | None = None
    delay: Delay = NO_DELAY

    def missing_from(self, outcome: RunOutcome) -> tuple[str, ...]:
        """The artifacts that a run should have left and has not."""
        left = {artifact.name for artifact in outcome.artifacts}
        return tuple(name for name in self.expects if name not in left)


@dataclass(frozen=True)
class ModelUsage:
    """What language models have used for an intent."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int = 0


NO_USAGE = ModelUsage()


@dataclass(frozen=True)
class IntentState:
    """An intent as its events tell it. ``version`` counts events, unknown ones too.

    Attributes:
        steps: those of its plan, each after those it needs.
        author: the model that wrote the plan, if one did.
        repairs: how many repairs the plan's programs may have in all.
        delay: how planning was postponed.
        failed_run: the run that it failed with.
    """

    version: int
    id: UUID
    tenant_id: str
    status: Status
    content: IntentContent
    fingerprint: str
    submitted_at: datetime
    updated_at: datetime
    steps: tuple[Step, ...] = ()
    plan_source: PlanSource | None = None
    reused_from: UUID | None = None
    embedding_model: str | None = None
    explanation: str | None = None
    author: Author | None = None
    repairs: int = 0
    runs: tuple[Run, ...] = ()
    usage: ModelUsage = NO_USAGE
    delay: Delay = NO_DELAY
    failure: FailureCause | None = None
    failed_run: UUID | None = None
    completed_at: datetime | None = None

    @property
    def result_step(self) -> Step | None:
        """The step whose outcome is the intent's: the last one."""
        return self.steps[-1] if self.steps else None

    @property
    def open_runs(self) -> tuple[Run, ...]:
        """The runs that have no result yet."""
        return tuple(run for run in self.runs if run.outcome is None)

    @property
    def repairs_left(self) -> int:
        """How many more repairs may be requested."""
        return self.repairs - sum(step.repairs + (step.broken is not None) for step in self.steps)

    @property
    def ready_step(self) -> Step | None:
        """The first step that could run now: all it needs is there, and it has not run yet."""
        return next(filter(self.is_ready, self.steps), None)

    def is_ready(self, step: Step) -> bool:
        """Whether a run of ``step`` with its current program could be requested."""
        ran = any(run.repairs == step.repairs for run in self.runs_of(step.name))
        return not ran and step.broken is None and all(map(self.has_succeeded, step.needs))

    def step(self, name: str) -> Step | None:
        """The step of that name."""
        for step in self.steps:
            if step.name == name:
                return step
        return None

    def run(self, run_id: UUID) -> Run | None:
        """The run of that id."""
        return next((run for run in self.runs if run.run_id == run_id), None)

    def runs_of(self, step: str) -> tuple[Run, ...]:
        """The runs of a step, in order."""
        return tuple([run for run in self.runs if run.step == step])

    def has_succeeded(self, step: str) -> bool:
        """Whether a run of the step succeeded, and left the artifacts it must."""
        found = self.step(step)
        return found is not None and any(
            run.outcome is not None and run.succeeded and not found.missing_from(run.outcome)
            for run in self.runs_of(step)
        )

    @property
    def decisive_run(self) -> Run | None:
        """The run whose outcome is shown for the intent.

        The one with which it failed, else the last of the step whose result counts, else the last.
        """
        if self.failed_run is not None:
            return self.run(self.failed_run)
        last = self.steps and self.runs_of(self.steps[-1].name)
        return (last or self.runs or (None,))[-1]
