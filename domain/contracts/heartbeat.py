"""What the sandbox host and the application say to each other over HTTP while programs run.

``POST /api/sandbox/heartbeat`` carries `Heartbeat` and answers `Orders`: live output goes up, and
the wish to kill a run comes back. ``PUT /api/sandbox/runs/{run_id}/artifacts/{sha256}`` takes an
artifact too large for the result, and ``GET …/inputs/{sha256}`` gives what another step has left.
All come with the job's token as bearer; a heartbeat with that of any of its runs, which the header
`RUN_HEADER` names, so that nobody else's body is even read. A token speaks for one run, and only
while the application still waits for that run's result.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, FailFast, Field, StringConstraints

HEARTBEAT_ROUTE = "sandbox/heartbeat"
ARTIFACT_ROUTE = "sandbox/runs/{run_id}/artifacts/{sha256}"
INPUT_ROUTE = "sandbox/runs/{run_id}/inputs/{sha256}"

#: With the run that the bearer of a heartbeat speaks for.
RUN_HEADER = "X-Run-Id"

#: Realm of the challenge to a token that does not speak for its run (RFC 9110, section 11.5).
RUN_REALM = "qlp-run"

#: Seconds between two heartbeats of a host that runs something: half of what a kill may take.
HEARTBEAT_SECONDS = 0.5

#: Runs in one heartbeat; a host with more sends several.
MAX_RUNS = 64

#: Characters of one chunk, chunks of one run in one heartbeat, and characters of all the chunks
#: that a run may send in its life; its result carries the rest.
MAX_CHUNK_CHARACTERS = 8 * 1024
MAX_CHUNKS = 16
MAX_LIVE_CHARACTERS = 128 * 1024

#: Values and keys in a heartbeat; one with all chunks of all runs has 7,700.
MAX_HEARTBEAT_NODES = 8_000


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OutputChunk(_Frozen):
    """A piece of what a program printed, in the order of ``seq`` within its run, from 0."""

    seq: int = Field(ge=0, le=1_000_000)
    stream: Literal["stdout", "stderr"]
    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHUNK_CHARACTERS)]


class RunBeat(_Frozen):
    """One run in progress."""

    run_id: UUID
    intent_id: UUID
    token: str = Field(max_length=512, repr=False)
    output: Annotated[tuple[OutputChunk, ...], FailFast()] = Field(
        default=(), max_length=MAX_CHUNKS
    )


class Heartbeat(_Frozen):
    """What one host runs now. ``host`` names it in the application's logs."""

    host: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    runs: Annotated[tuple[RunBeat, ...], FailFast()] = Field(min_length=1, max_length=MAX_RUNS)


class Order(StrEnum):
    """What is to become of a run."""

    CONTINUE = "continue"
    KILL = "kill"  # cancelled, killed by an operator, or nobody waits for it any more
    REFUSED = "refused"  # the token does not speak for this run; its output was not taken


class Orders(_Frozen):
    """The answer to a heartbeat: an order for each of its runs."""

    orders: dict[UUID, Order]
