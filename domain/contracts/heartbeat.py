"""What the sandbox host and the application exchange over HTTP while programs run.

``POST /api/sandbox/heartbeat`` carries a `Heartbeat` and is answered with `Orders`: live output
goes to the application, and requests to kill a run come back.
``PUT /api/sandbox/runs/{run_id}/artifacts/{sha256}`` uploads an artifact too large for the
result, and ``GET …/inputs/{sha256}`` downloads an artifact of another step. All requests carry the
job's token as bearer. A heartbeat carries the token of one of its runs, which the header
`RUN_HEADER` names, so that the body of an unauthenticated request is not read. A token is valid
for one run, and only while the application waits for that run's result.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, FailFast, Field, StringConstraints

HEARTBEAT_ROUTE = "sandbox/heartbeat"
ARTIFACT_ROUTE = "sandbox/runs/{run_id}/artifacts/{sha256}"
INPUT_ROUTE = "sandbox/runs/{run_id}/inputs/{sha256}"

#: Names the run whose token authenticates a heartbeat.
RUN_HEADER = "X-Run-Id"

#: Realm of the challenge when a token is not valid for its run (RFC 9110, section 11.5).
RUN_REALM = "qlp-run"

#: Seconds between two heartbeats of a host that runs something: half the time a kill may take.
HEARTBEAT_SECONDS = 0.5

#: Runs in one heartbeat; a host with more runs sends several.
MAX_RUNS = 64

#: Characters in one chunk; chunks of one run in one heartbeat; characters of live output that a run
#: may send in all. Its result carries the rest.
MAX_CHUNK_CHARACTERS = 8 * 1024
MAX_CHUNKS = 16
MAX_LIVE_CHARACTERS = 128 * 1024

#: JSON values and keys in a heartbeat; the largest one has 7,700.
MAX_HEARTBEAT_NODES = 8_000


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OutputChunk(_Frozen):
    """A piece of a program's output; ``seq`` numbers the pieces of a run from 0."""

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
    """What one host is running; ``host`` names it in the application's logs."""

    host: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    runs: Annotated[tuple[RunBeat, ...], FailFast()] = Field(min_length=1, max_length=MAX_RUNS)


class Order(StrEnum):
    """What the host shall do with a run."""

    CONTINUE = "continue"
    KILL = "kill"  # cancelled, killed by an operator, or its result is not awaited any more
    REFUSED = "refused"  # the token is not valid for this run; its output was not stored


class Orders(_Frozen):
    """The answer to a heartbeat: an order for each of its runs."""

    orders: dict[UUID, Order]
