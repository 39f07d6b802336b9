"""The values in events of intents.

Fields marked `Personal` hold what people wrote or what their programs printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from domain.intents.content import Program
from domain.intents.struct import Value

PlanSource = Literal["submitted", "reused", "generated", "repaired"]


class Personal:
    """Marks a field as personal content of the tenant's people."""


class RunArtifact(Value, frozen=True):
    """A file that a run left in its output folder; its content lies outside the log."""

    name: Annotated[str, Personal()]
    size: int
    sha256: str


class RunOutcome(Value, frozen=True):
    """How one sandbox run ended, as the host reports it.

    Attributes:
        verdict: a `domain.contracts.job.Verdict`; only ``succeeded`` is a success.
        retryable: the host failed, not the program: another try may help.
        stdout, stderr: what the program printed, cut at its limit.
        usage: measured usage, with units in the names (``wall_ms``, ``peak_memory_bytes``, …).
        image: digest of the image it ran in, where there was one.
        artifacts: what it left in its output folder.
        skipped_artifacts: ``name`` and ``reason`` of what it left there and was not kept.
        more_skipped_artifacts: how many more were not kept, beyond those named.
        behaviour: what was observed (`domain.contracts.job.Behaviour`), as recorded.
    """

    verdict: str
    retryable: bool = False
    exit_code: int | None = None
    signal: int | None = None
    stdout: Annotated[str, Personal()] = ""
    stderr: Annotated[str, Personal()] = ""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    usage: Mapping[str, float | int | None] = msgspec.field(default_factory=dict)
    runtime: str = ""
    image: str | None = None
    error: str | None = None
    warm: bool = False
    artifacts: tuple[RunArtifact, ...] = ()
    skipped_artifacts: Annotated[tuple[dict[str, str], ...], Personal()] = ()
    more_skipped_artifacts: int = 0
    behaviour: dict[str, Any] = msgspec.field(default_factory=dict)


class FailureCause(Value, frozen=True):
    """Why an intent failed.

    Attributes:
        code: stable, for programs: ``planner_not_configured``, ``program_exited``, …
        message: for people: what happened and what would help.
    """

    code: str
    message: str


CallPurpose = Literal["plan", "repair", "compare"]
CallOutcome = Literal[
    "answered",
    "invalid",
    "truncated",
    "refused",
    "rejected",
    "rate_limited",
    "unavailable",
    "timed_out",
]


class ModelCall(Value, frozen=True):
    """One call of a language model, whatever its outcome.

    Attributes:
        purpose: write a plan, repair a program, or compare two sentences.
        outcome: only ``answered`` is useful; ``invalid``: the answer does not have the form that
            was asked for; ``rejected``: the provider rejected the request, as with a wrong key.
        prompt: name and version of the prompt, such as ``plan@1``.
        cost_microusd: by the prices configured at the time, millionths of a US dollar.
        latency_ms: from the request to the end of the answer.
        detail: what the provider said, or what is wrong with the answer.
    """

    purpose: CallPurpose
    outcome: CallOutcome
    model: str
    prompt: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int = 0
    latency_ms: int = 0
    detail: Annotated[str | None, Personal()] = None


class Author(Value, frozen=True):
    """The model that wrote a program, and the prompt it was given."""

    model: str
    prompt: str


class PlannedStep(Value, frozen=True):
    """One program of a plan.

    Attributes:
        name: unique within the plan.
        needs: names of earlier steps, whose artifacts it gets.
    """

    name: str
    program: Annotated[Program, Personal()]
    needs: tuple[str, ...] = ()
