"""Messages are read strictly and answered recognisably."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.contracts.envelope import MAX_ENVELOPE_BYTES, Envelope, is_traceparent
from domain.contracts.job import (
    INLINE_ARTIFACT_BYTES,
    JOB_TYPE,
    MAX_ARTIFACTS,
    MAX_STREAM_BYTES,
    Artifact,
    Behaviour,
    SandboxResult,
    SkippedArtifact,
    Usage,
    Verdict,
)
from sandbox_host.host.messages import (
    Refused,
    Reply,
    Unreadable,
    failure,
    fitting,
    read_envelope,
    read_job,
    reply,
)
from sandbox_host.host.recent_runs import RecentRuns

RUN, INTENT = uuid4(), uuid4()
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
JOB = {
    "run_id": str(RUN),
    "intent_id": str(INTENT),
    "language": "python",
    "files": [{"path": "m.py", "content": "1"}],
    "entrypoint": "m.py",
}


def envelope(**changes: Any) -> Envelope:
    fields: dict[str, Any] = {
        "id": "1",
        "source": "/app",
        "type": JOB_TYPE,
        "subject": "s",
        "tenantid": "acme",
        "traceparent": TRACE,
        "data": JOB,
        **changes,
    }
    return Envelope(**fields)


def test_a_job_survives_the_way_through_its_envelope() -> None:
    job = read_job(read_envelope(envelope().encode()))
    assert (job.job.run_id, job.job.intent_id) == (RUN, INTENT)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "InvalidEnvelope"),
        (b"\xff", "InvalidEnvelope"),
        (b"[]", "InvalidEnvelope"),
        (envelope(type="other").encode(), "UnexpectedType"),
    ],
)
def test_what_is_not_a_job_message_is_unreadable(body: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as refusal:
        read_envelope(body)
    assert refusal.value.reason == reason


def test_a_wrong_job_with_ids_is_refused_by_name() -> None:
    with pytest.raises(Refused, match=r"data\.language") as refusal:
        read_job(envelope(data={**JOB, "language": "cobol"}))
    assert (refusal.value.run_id, refusal.value.intent_id) == (RUN, INTENT)


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({"gpu": 1}, Verdict.INFRASTRUCTURE_ERROR),
        ({"limits": {"gpu_seconds": 1}}, Verdict.INFRASTRUCTURE_ERROR),
        ({"gpu": 1, "args": "x"}, Verdict.INVALID_JOB),
    ],
)
def test_a_job_that_says_more_than_is_known_here_is_for_a_newer_host(
    more: dict[str, object], verdict: Verdict
) -> None:
    with pytest.raises(Refused) as refusal:
        read_job(envelope(data={**JOB, **more}))
    assert refusal.value.verdict is verdict
    assert ("older than the application" in str(refusal.value)) is (
        verdict is Verdict.INFRASTRUCTURE_ERROR
    )


@pytest.mark.parametrize("field", ["run_id", "intent_id"])
def test_a_wrong_job_without_ids_is_unreadable(field: str) -> None:
    with pytest.raises(Unreadable, match=f"data.{field}"):
        read_job(envelope(data={**JOB, field: "nonsense"}))


def test_a_reply_keeps_tenant_subject_and_trace_with_a_span_of_its_own() -> None:
    answer = reply(envelope(), failure(RUN, INTENT, Verdict.INVALID_JOB, "why"))
    decoded = Envelope.decode(answer.body)
    assert (decoded.tenantid, decoded.subject) == ("acme", "s")
    assert is_traceparent(decoded.traceparent)
    assert decoded.traceparent is not None
    assert decoded.traceparent[:36] == TRACE[:36]
    assert decoded.traceparent[36:52] != TRACE[36:52]


def test_replies_to_one_run_have_one_id() -> None:
    first = reply(envelope(), failure(RUN, INTENT, Verdict.INVALID_JOB, "a"))
    second = reply(envelope(id="2"), failure(RUN, INTENT, Verdict.INVALID_JOB, "b"))
    assert first.message_id == second.message_id
    assert first.correlation_id == str(INTENT)


def encoded_bytes(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False)[1:-1].encode())


def largest_result(stdout: str, stderr: str) -> SandboxResult:
    """Everything a result may hold, at its largest and in its longest encoding."""
    name = "\N{GRINNING FACE}" * 252
    inline = base64.b64encode(b"x" * (INLINE_ARTIFACT_BYTES // MAX_ARTIFACTS)).decode()
    return SandboxResult(
        run_id=RUN,
        intent_id=INTENT,
        verdict=Verdict.EXITED,
        exit_code=1,
        stdout=stdout,
        stderr=stderr,
        usage=Usage(wall_ms=1.23456789, peak_memory_bytes=2**31),
        error="\x01" * 2000,
        artifacts=tuple(
            Artifact(name=f"{name}{n:03}", size=2**26, sha256="f" * 64, content=inline)
            for n in range(MAX_ARTIFACTS)
        ),
        skipped_artifacts=tuple(
            SkippedArtifact(name="\x01" * 255, reason="\x01" * 200) for _ in range(16)
        ),
        behaviour=Behaviour(
            executed=("x" * 255,) * 32, refused_syscalls=dict.fromkeys(map(str, range(64)), 10**6)
        ),
    )


@pytest.mark.parametrize("character", ["x", "\x01", '"', "é", "\N{GRINNING FACE}"])
def test_the_largest_result_fits_a_message(character: str) -> None:
    stream = character * (MAX_STREAM_BYTES // encoded_bytes(character))
    result = largest_result(stream, stream)
    body = reply(envelope(subject="\x01" * 200), result).body
    assert len(body) <= MAX_ENVELOPE_BYTES
    sent = SandboxResult.model_validate(Envelope.decode(body).data)
    assert sent.artifacts == result.artifacts
    assert sent.skipped_artifacts == result.skipped_artifacts
    for cut, whole in ((sent.stdout, result.stdout), (sent.stderr, result.stderr)):
        assert whole.startswith(cut)
        assert encoded_bytes(cut) > 30 * 1024
    assert (sent.stdout_truncated, sent.stderr_truncated) == (True, True)


def test_full_streams_without_artifacts_are_not_cut() -> None:
    stream = "x" * MAX_STREAM_BYTES
    result = failure(RUN, INTENT, Verdict.EXITED, "").model_copy(
        update={"stdout": stream, "stderr": stream}
    )
    sent = Envelope.decode(reply(envelope(), result).body).data
    assert SandboxResult.model_validate(sent) == result


def test_a_short_stream_leaves_its_share_to_the_other() -> None:
    result = failure(RUN, INTENT, Verdict.EXITED, "").model_copy(
        update={"stdout": "o" * 1000, "stderr": "e" * 50_000}
    )
    sent = fitting(result, 30_000)
    assert (sent.stdout, sent.stdout_truncated) == (result.stdout, False)
    assert 28_000 < len(sent.stderr) < 29_500
    assert sent.stderr_truncated


def answer(size: int) -> Reply:
    return Reply("id", "intent", b"x" * size)


def test_results_are_remembered_up_to_a_count_and_the_unused_go_first() -> None:
    runs = RecentRuns(max_results=2)
    ids = [UUID(int=n) for n in range(3)]
    runs.remember(ids[0], answer(1))
    runs.remember(ids[1], answer(1))
    assert runs.result(ids[0])
    runs.remember(ids[2], answer(1))
    assert [runs.result(run_id) is not None for run_id in ids] == [True, False, True]


def test_results_are_remembered_up_to_a_number_of_bytes() -> None:
    runs = RecentRuns(max_bytes=100)
    ids = [UUID(int=n) for n in range(3)]
    for run_id in ids:
        runs.remember(run_id, answer(40))
    assert [runs.result(run_id) is not None for run_id in ids] == [False, True, True]
    runs.remember(ids[1], answer(60))
    assert runs.result(ids[2])


async def test_whoever_waits_for_a_run_learns_of_its_end() -> None:
    runs = RecentRuns()
    running = runs.begin(RUN, 7)
    assert runs.running(RUN) is running
    runs.end(RUN)
    assert running.settled.is_set()
    assert runs.running(RUN) is None


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("File name too long: '/tmp/qlp-in-1/a b'", "File name too long: '…'"),
        ('No such file: "/run/it\'s/x"', 'No such file: "…"'),
        ("mount (/run/qlp-sandbox/1-2/box-3): busy", "mount (…): busy"),
        ("source path does not exist: /run/qlp-sandbox/in", "source path does not exist: …"),
        ("GET http+docker://localhost/v1.41/info failed", "GET … failed"),
        ("b'/var/tmp/x' and ~/keys, 3/4 of a/b", "b'…' and …, 3/4 of a/b"),
        ("4 boxes died before the program started", "4 boxes died before the program started"),
    ],
)
def test_a_hosts_own_failure_is_told_without_its_paths(said: str, told: str) -> None:
    assert failure(RUN, INTENT, Verdict.INFRASTRUCTURE_ERROR, said).error == told


def test_what_is_wrong_with_a_job_is_told_in_its_own_words() -> None:
    said = "data.files: ' /etc/x' is there twice"
    assert failure(RUN, INTENT, Verdict.INVALID_JOB, said).error == said
