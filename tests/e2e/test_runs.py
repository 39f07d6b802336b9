"""Runs in progress, on the whole stack: live output, artifacts, cancellation, kills."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import aiohttp
import pytest

from domain.access.limits import LimitsStore, TenantLimits
from domain.contracts.heartbeat import RUN_HEADER
from domain.contracts.job import MAX_ARTIFACT_BYTES
from domain.database.pool import fetch
from domain.intents.content import Limits
from domain.intents.run_decisions import run_id_of
from domain.runs.tokens import RunTokens
from domain.settings import Settings
from tests.support.stack import Client, Reply, RunningStack, leaving, problem, python, submission

_MINUTE = {"wall_seconds": 60}
SLEEP = {
    "language": "python",
    "files": {"main.py": "import time; time.sleep(60)"},
    "limits": _MINUTE,
}


async def started(client: Client, body: dict[str, Any]) -> UUID:
    """The id of an intent whose run was asked for."""
    intent_id = UUID((await client.submit(body)).body["id"])
    after = 0
    while True:
        reply = await client.get(f"/intents/{intent_id}/events?after={after}&wait=20")
        if any(event["type"] == "SandboxRunRequested" for event in reply.body["items"]):
            return intent_id
        after = reply.body["next_after"]


async def moments(client: Client, intent_id: UUID) -> dict[str, datetime]:
    """When each type of event was recorded."""
    items = await client.events(intent_id)
    return {item["type"]: datetime.fromisoformat(item["recorded_at"]) for item in items}


async def until(client: Client, intent_id: UUID, type_: str) -> dict[str, datetime]:
    async with asyncio.timeout(60):
        while type_ not in (found := await moments(client, intent_id)):
            await asyncio.sleep(0.05)
    return found


async def token_of(stack: RunningStack, client: Client, intent_id: UUID) -> str:
    """The token that the intent's first run has, made with the stack's own key."""
    key = (stack.data / "run-token-key").read_text().strip()
    settings = Settings.model_validate(
        {
            "DATABASE_URL": "postgresql://nowhere/none",
            "ServiceBusConnection__fullyQualifiedNamespace": "none.servicebus.windows.net",
            "QLP_RUN_TOKEN_KEY": key,
        }
    )
    token = settings.run_tokens.issue(
        run_id_of(intent_id, 1), intent_id, await stack.tenant_of(client)
    )
    assert token is not None
    return token


async def put(
    client: Client, intent_id: UUID, content: bytes, token: str | None, sha256: str | None = None
) -> Reply:
    digest = sha256 or hashlib.sha256(content).hexdigest()
    anonymous = Client(client.session, client.base, None)
    return await anonymous.call(
        "PUT",
        f"/sandbox/runs/{run_id_of(intent_id, 1)}/artifacts/{digest}",
        data=content,
        headers={"Content-Type": "application/octet-stream"}
        | ({"Authorization": f"Bearer {token}"} if token else {}),
    )


class TestArtifacts:
    async def test_what_is_left_out_is_named_truly_or_counted(self, client: Client) -> None:
        code = (
            "import os\n"
            "os.chdir(os.environ['OUT_DIR'])\n"
            "for n in range(20): open(f'{n:02}\\n', 'w')\n"
        )
        program = {"language": "python", "files": {"main.py": code}}
        outcome = (await client.run({"program": program}))["outcome"]
        why = "its name has control characters"
        assert outcome["skipped_artifacts"] == [
            {"name": f"{n:02}\\n", "reason": why} for n in range(16)
        ]
        assert outcome["more_skipped_artifacts"] == 4

    async def test_exit_codes_and_signals_are_told_apart(self, client: Client) -> None:
        outcomes = []
        for ending in ("exit 137", "kill -9 $$"):
            program = {"language": "shell", "files": {"main.sh": ending}}
            outcomes.append((await client.run({"program": program}))["outcome"])
        said = [
            {key: each.get(key) for key in ("verdict", "exit_code", "signal")} for each in outcomes
        ]
        assert said == [
            {"verdict": "exited", "exit_code": 137, "signal": None},
            {"verdict": "signalled", "exit_code": None, "signal": 9},
        ]

    async def test_small_and_large_files_arrive_whole_under_their_names(
        self, client: Client
    ) -> None:
        files = {
            "a.txt": "b'small'",
            "größe/plot 1%.png": "bytes(range(256)) * 4",
            "large.bin": "b'0123456789abcdef' * 65536 * 3",
        }
        intent = await client.run(leaving(files))
        assert "skipped_artifacts" not in intent["outcome"]
        listed = (await client.get(f"/intents/{intent['id']}/artifacts")).body["items"]
        assert [each["name"] for each in listed] == sorted(files)
        assert [each["available"] for each in listed] == [True] * 3
        outcome = intent["outcome"]["artifacts"]
        assert [{**each, "available": True} for each in outcome] == listed
        assert [each["media_type"] for each in listed] == [
            "text/plain",
            "image/png",
            "application/octet-stream",
        ]
        for each in listed:
            reply = await client.call("GET", each["href"].removeprefix("/api"))
            assert reply.status == 200
            assert len(reply.body) == each["size"]
            assert hashlib.sha256(reply.body).hexdigest() == each["sha256"]
            assert reply.headers["ETag"] == f'"{each["sha256"]}"'
        assert listed[2]["size"] == 3 * 1024**2

    async def test_no_browser_runs_what_a_program_wrote(self, client: Client) -> None:
        intent = await client.run(
            leaving({"x.html": "b'<script>1</script>'", "y.svg": "b'<svg/>'", "z.txt": "b'z'"})
        )
        policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'"
        for name, inline in (("x.html", False), ("y.svg", True), ("z.txt", True)):
            for query in ("", "?inline=1"):
                reply = await client.get(f"/intents/{intent['id']}/artifacts/{name}{query}")
                kind = "inline" if inline and query else "attachment"
                assert reply.headers["Content-Disposition"].startswith(f"{kind}; filename=")
                assert reply.headers["X-Content-Type-Options"] == "nosniff"
                assert reply.headers["Content-Security-Policy"] == policy
                assert "private" in reply.headers["Cache-Control"]

    async def test_a_file_is_named_for_any_client_and_sent_once(self, client: Client) -> None:
        name = 'ü "quoted".txt'
        intent = await client.run(leaving({name: "b'1'"}))
        path = f"/intents/{intent['id']}/artifacts/{quote(name)}"
        reply = await client.get(path)
        assert reply.headers["Content-Disposition"] == (
            f"attachment; filename=\"_ _quoted_.txt\"; filename*=UTF-8''{quote(name, safe='')}"
        )
        again = await client.get(path, **{"If-None-Match": f'W/"x", {reply.headers["ETag"]}'})
        assert (again.status, again.body) == (304, b"")
        other = await client.get(path, **{"If-None-Match": '"0"'})
        assert other.status == 200

    async def test_another_tenant_finds_neither_list_nor_file(
        self, client: Client, stack: RunningStack
    ) -> None:
        intent = await client.run(leaving({"a.txt": "b'mine'"}))
        other_tenant = await stack.new_tenant()
        for path in ("artifacts", "artifacts/a.txt", "output"):
            problem(await other_tenant.get(f"/intents/{intent['id']}/{path}"), 404, "not-found")

    @pytest.mark.parametrize("name", ["b.txt", "a.txt/x", "%01", "..%2Fa.txt", "x" * 300])
    async def test_a_name_that_is_not_there_is_not_found(self, client: Client, name: str) -> None:
        intent = await client.run(leaving({"a.txt": "b'1'"}))
        reply = await client.get(f"/intents/{intent['id']}/artifacts/{name}")
        assert reply.status == 404

    async def test_a_content_whose_time_is_over_is_gone_and_its_name_stays(
        self, client: Client, stack: RunningStack
    ) -> None:
        intent = await client.run(leaving({"a.txt": "b'fleeting'"}))
        async with stack.pool() as pool:
            await fetch(
                pool,
                b"delete from artifact_contents where tenant_id = %(tenant)s",
                {"tenant": await stack.tenant_of(client)},
            )
        problem(await client.get(f"/intents/{intent['id']}/artifacts/a.txt"), 410, "gone")
        [listed] = (await client.get(f"/intents/{intent['id']}/artifacts")).body["items"]
        assert (listed["name"], listed["available"]) == ("a.txt", False)

    async def test_an_intent_without_artifacts_has_an_empty_list(self, client: Client) -> None:
        intent = await client.run(python("print(1)"))
        assert intent["outcome"]["artifacts"] == []
        assert (await client.get(f"/intents/{intent['id']}/artifacts")).body == {"items": []}


class TestUploads:
    async def test_only_the_runs_own_token_is_accepted(
        self, client: Client, stack: RunningStack
    ) -> None:
        intent_id = await started(client, {"program": SLEEP})
        token = await token_of(stack, client, intent_id)
        other = await token_of(stack, client, uuid4())
        tenant, of, mac = token.split(".")
        forged = RunTokens([b"x" * 32]).issue(run_id_of(intent_id, 1), intent_id, tenant)
        swapped = [f"other.{of}.{mac}", f"{tenant}.{uuid4().hex}.{mac}"]
        for wrong in (None, other, token[:-1], mac, *swapped, forged, client.key, "é"):
            if wrong is not None and not wrong.isascii():
                wrong = quote(wrong)
            problem(await put(client, intent_id, b"x", wrong), 401, "unauthenticated")
        assert (await put(client, intent_id, b"x", token)).status == 204
        assert (await put(client, intent_id, b"x", token)).status == 204
        await client.call("POST", f"/intents/{intent_id}/cancel")

    async def test_what_does_not_fit_is_refused_by_name(
        self, client: Client, stack: RunningStack
    ) -> None:
        program = {**SLEEP, "limits": {**_MINUTE, "artifact_bytes": 10}}
        intent_id = await started(client, {"program": program})
        token = await token_of(stack, client, intent_id)
        wrong_hash = await put(client, intent_id, b"x", token, "0" * 64)
        assert "SHA-256" in problem(wrong_hash, 400, "invalid-request")["detail"]
        no_hash = await put(client, intent_id, b"x", token, "f" * 63)
        assert "sha256" in problem(no_hash, 400, "invalid-request")["detail"]
        assert (await put(client, intent_id, b"123456", token)).status == 204
        more = await put(client, intent_id, b"12345", token)
        assert "artifact_bytes" in problem(more, 413, "too-large")["detail"]
        assert (await put(client, intent_id, b"1234", token)).status == 204
        huge = await put(client, intent_id, bytes(MAX_ARTIFACT_BYTES + 1), token)
        problem(huge, 413, "too-large")
        await client.call("POST", f"/intents/{intent_id}/cancel")

    async def test_a_run_that_has_ended_takes_nothing_more(
        self, client: Client, stack: RunningStack
    ) -> None:
        intent = await client.run(python("print(1)"))
        intent_id = UUID(intent["id"])
        token = await token_of(stack, client, intent_id)
        problem(await put(client, intent_id, b"late", token), 409, "run-ended")


class TestLiveOutput:
    async def test_it_is_seen_before_the_program_ends(self, client: Client) -> None:
        code = "import time\nprint('first')\ntime.sleep(8)\nprint('second')"
        intent_id = await started(client, python(code, limits=_MINUTE))
        seen: list[dict[str, Any]] = []
        path = f"/intents/{intent_id}/output?wait=20"
        reply = await client.get(path)
        assert not reply.body["ended"], reply.body
        assert "SandboxRunFinished" not in await moments(client, intent_id)
        assert reply.body["items"] == [{"seq": 0, "stream": "stdout", "text": "first\n"}]
        seen += reply.body["items"]
        assert UUID(reply.body["run_id"]) == run_id_of(intent_id, 1)
        last = await client.get(f"{path}&after={reply.body['next_after']}")
        assert last.body["ended"] or last.body["items"][0]["text"] == "second\n"
        assert (await client.finished(str(intent_id)))["outcome"]["stdout"] == "first\nsecond\n"

    async def test_waiting_ends_with_the_run(self, client: Client) -> None:
        intent_id = await started(client, python("import time; time.sleep(2)"))
        before = time.monotonic()
        reply = await client.get(f"/intents/{intent_id}/output?wait=50")
        assert (reply.body["ended"], reply.body["items"]) == (True, [])
        assert time.monotonic() - before < 40

    async def test_an_intent_that_never_ran_has_none(self, client: Client) -> None:
        intent = await client.run({"text": f"nobody solved {uuid4()}"})
        reply = await client.get(f"/intents/{intent['id']}/output?wait=5")
        assert reply.body == {"run_id": None, "items": [], "next_after": None, "ended": True}

    @pytest.mark.parametrize(
        "query",
        ["after=-1", "after=x", "wait=-1", "run=1", "run=7f6f9d1e-5a0b-4b3c-9a51-0c6f3c1f2ab4"],
    )
    async def test_a_wrong_parameter_is_named(self, client: Client, query: str) -> None:
        intent = await client.run(python("print(1)"))
        reply = await client.get(f"/intents/{intent['id']}/output?{query}")
        detail = problem(reply, 400, "invalid-request")["detail"]
        assert detail.startswith(query.partition("=")[0])


class TestKills:
    async def test_a_cancelled_program_dies_soon(self, client: Client) -> None:
        """Within a second on an idle machine; the bound leaves room for a busy one."""
        program = python("import time; print(1); time.sleep(60)", limits=_MINUTE)
        intent_id = await started(client, program)
        assert (await client.get(f"/intents/{intent_id}/output?wait=20")).body["items"]
        await client.call("POST", f"/intents/{intent_id}/cancel", {"reason": "enough"})
        at = await until(client, intent_id, "SandboxRunFinished")
        assert (at["SandboxRunFinished"] - at["IntentCancelled"]).total_seconds() < 15
        intent = (await client.get(f"/intents/{intent_id}")).body
        assert intent["status"] == "cancelled"
        assert intent["outcome"]["verdict"] == "cancelled"
        assert "operator" not in json.dumps(intent)
        events = await client.events(intent_id)
        assert "operator" not in json.dumps(events)

    async def test_an_operator_kills_a_run_and_the_intent_says_so(
        self, client: Client, stack: RunningStack
    ) -> None:
        program = python("import time; print(1); time.sleep(60)", limits=_MINUTE)
        intent_id = await started(client, program)
        assert (await client.get(f"/intents/{intent_id}/output?wait=20")).body["items"]
        operator = await stack.operator_of(client)
        path = f"/operations/intents/{intent_id}/kill"
        reply = await operator.call("POST", path, {"reason": "maintenance"})
        assert reply.status == 202
        assert reply.body == {
            "intent_id": str(intent_id),
            "runs": [{"run_id": str(run_id_of(intent_id, 1)), "requested": True}],
        }
        again = await operator.call("POST", path)
        assert again.status == 409 or not again.body["runs"][0]["requested"]
        intent = await client.finished(str(intent_id))
        assert (intent["status"], intent["outcome"]["error"]["code"]) == (
            "failed",
            "killed_by_operator",
        )
        told = await client.events(intent_id)
        kill_request = next(
            each["data"] for each in told if each["type"] == "SandboxRunKillRequested"
        )
        assert kill_request.keys() == {"at", "run_id", "reason"}  # and not who the operator is
        assert kill_request["reason"] == "maintenance"
        stream = (await operator.get(f"/operations/streams/{intent_id}")).body["events"]
        [kill_request] = [
            each["data"] for each in stream if each["type"] == "SandboxRunKillRequested"
        ]
        assert kill_request["operator"].startswith("key ")
        at = await moments(client, intent_id)
        waited = at["SandboxRunFinished"] - at["SandboxRunKillRequested"]
        assert waited.total_seconds() < 15
        problem(await operator.call("POST", path), 409, "nothing-runs")

    async def test_only_the_tenants_operators_may_kill(
        self, client: Client, stack: RunningStack
    ) -> None:
        intent_id = await started(client, {"program": SLEEP})
        path = f"/operations/intents/{intent_id}/kill"
        problem(await client.call("POST", path), 403, "forbidden")
        other_tenant = await stack.operator_of(await stack.new_tenant())
        problem(await other_tenant.call("POST", path), 404, "not-found")
        problem(await other_tenant.call("POST", "/operations/intents/x/kill"), 404, "not-found")
        wrong = await (await stack.operator_of(client)).call("POST", path, {"why": 1})
        problem(wrong, 400, "invalid-request")
        await client.call("POST", f"/intents/{intent_id}/cancel")


class TestHeartbeats:
    async def beat(self, client: Client, run: dict[str, str], body: object) -> Reply:
        """A heartbeat that comes with the token of ``run``."""
        return await Client(client.session, client.base, None).call(
            "POST",
            "/sandbox/heartbeat",
            body,
            headers={"Authorization": f"Bearer {run['token']}", RUN_HEADER: run["run_id"]},
        )

    async def run_of(self, stack: RunningStack, client: Client, intent_id: UUID) -> dict[str, str]:
        return {
            "run_id": str(run_id_of(intent_id, 1)),
            "intent_id": str(intent_id),
            "token": await token_of(stack, client, intent_id),
        }

    async def test_a_run_is_told_to_go_on_to_die_or_nothing(
        self, client: Client, stack: RunningStack
    ) -> None:
        intent_id = await started(client, {"program": SLEEP})
        finished = UUID((await client.run(python("print(1)")))["id"])
        never = uuid4()
        runs = [await self.run_of(stack, client, each) for each in (intent_id, finished, never)]
        stolen = {**runs[0], "run_id": str(run_id_of(intent_id, 2))}
        reply = await self.beat(client, runs[0], {"host": "test", "runs": [*runs, stolen]})
        assert reply.status == 200
        assert reply.body["orders"] == {
            runs[0]["run_id"]: "continue",
            runs[1]["run_id"]: "kill",
            runs[2]["run_id"]: "kill",
            stolen["run_id"]: "refused",
        }
        await client.call("POST", f"/intents/{intent_id}/cancel")
        reply = await self.beat(client, runs[0], {"host": "test", "runs": runs[:1]})
        assert reply.body["orders"] == {runs[0]["run_id"]: "kill"}

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({}, "/host"),
            ({"host": "h", "runs": []}, "/runs"),
            ({"host": "h", "runs": [{"run_id": "x"}]}, "/runs/0/run_id"),
        ],
    )
    async def test_a_malformed_heartbeat_is_refused_by_field(
        self, client: Client, stack: RunningStack, body: object, pointer: str
    ) -> None:
        run = await self.run_of(stack, client, uuid4())
        shown = problem(await self.beat(client, run, body), 400, "invalid-request")
        assert pointer in [error["pointer"] for error in shown["errors"]]

    async def test_what_comes_without_a_token_is_not_read(
        self, client: Client, stack: RunningStack
    ) -> None:
        """A megabyte of runs took seconds in which nobody else was served."""
        flood = b'{"runs":[' + b",".join([b"{}"] * 340_000) + b"]}"
        run = await self.run_of(stack, client, uuid4())
        nobody = Client(client.session, client.base, None)
        forged = {"Authorization": f"Bearer {run['token']}", RUN_HEADER: str(uuid4())}
        for headers in ({}, {RUN_HEADER: run["run_id"]}, {RUN_HEADER: "x"}, forged):
            reply = await nobody.call("POST", "/sandbox/heartbeat", data=flood, headers=headers)
            problem(reply, 401, "unauthenticated")
        told = {"Authorization": f"Bearer {run['token']}", RUN_HEADER: run["run_id"]}
        reply = await nobody.call("POST", "/sandbox/heartbeat", data=flood, headers=told)
        shown = problem(reply, 400, "invalid-request")
        assert shown["detail"] == "body: it holds more than 8000 values and keys"


class TestAdmission:
    async def test_an_unknown_language_is_refused_with_the_choices(self, client: Client) -> None:
        program = {"language": "cobol", "files": {"main.cob": "STOP RUN."}}
        shown = problem(await client.submit({"program": program}), 400, "invalid-request")
        assert shown["errors"][0]["pointer"] == "/program/language"
        assert "'python'" in shown["detail"]

    async def test_a_producer_learns_it_as_a_rejected_message(
        self, client: Client, stack: RunningStack
    ) -> None:
        program = {"language": "cobol", "files": {"main.cob": f"* {uuid4()}"}}
        event = submission(await stack.tenant_of(client), {"program": program})
        await stack.publish("intents", json.dumps(event))
        [rejected] = await stack.rejections(event["id"])
        assert rejected.reason == "InvalidIntent"
        assert rejected.description.startswith("data.program.language: must be one of 'python'")

    async def test_a_tenants_ceiling_is_named_and_its_default_is_what_runs_get(
        self, client: Client, stack: RunningStack
    ) -> None:
        async with stack.pool() as pool:
            await LimitsStore(pool).set(
                await stack.tenant_of(client),
                TenantLimits(Limits(wall_seconds=1), Limits(wall_seconds=2, processes=9)),
            )
        over = await client.submit(python("print(1)", limits={"wall_seconds": 3}))
        shown = problem(over, 400, "invalid-request")
        assert shown["errors"] == [
            {"pointer": "/program/limits/wall_seconds", "detail": "the tenant's ceiling is 2"}
        ]
        intent = await client.run(python("import time; time.sleep(30)"))
        assert intent["outcome"]["verdict"] == "timed_out"
        items = await client.events(intent["id"])
        [limits] = [e["data"]["limits"] for e in items if e["type"] == "SandboxRunRequested"]
        assert (limits["wall_seconds"], limits["processes"]) == (1, 9)

    async def test_the_environment_reaches_the_program_as_far_as_it_is_allowed(
        self, client: Client
    ) -> None:
        code = "import os; print(os.environ['APP_MODE'], os.environ['TZ'])"
        environment = {"APP_MODE": "dry run", "TZ": "Asia/Kathmandu"}
        intent = await client.run(python(code, environment=environment))
        assert intent["outcome"]["stdout"] == "dry run Asia/Kathmandu\n"
        refused = await client.submit(python(code, environment={"LD_PRELOAD": "/x.so"}))
        assert "LD_PRELOAD" in problem(refused, 400, "invalid-request")["detail"]


async def test_reaching_for_the_network_is_recorded_and_raises_a_security_event(
    client: Client, stack: RunningStack
) -> None:
    code = (
        "import socket\n"
        "for _ in range(3):\n"
        "    try: socket.create_connection(('192.0.2.1', 443), 1)\n"
        "    except OSError: pass\n"
    )
    intent = await client.run(python(code))
    assert intent["status"] == "succeeded"
    assert intent["outcome"]["behaviour"]["network_attempts"] == 3
    log = stack.data / "logs" / "functions.log"
    expected = {
        "kind": "network_attempt",
        "tenant": await stack.tenant_of(client),
        "intent": intent["id"],
        "run": intent["outcome"]["run_id"],
        "times": 3,
    }
    async with asyncio.timeout(60):
        while not (found := security_events(log, intent["id"])):
            await asyncio.sleep(0.05)
    assert [{name: event[name] for name in expected} for event in found] == [expected]


def security_events(log: Path, intent_id: str) -> list[dict[str, Any]]:
    """Those about one intent, in the order in which they were logged."""
    head = "security_event "
    whole = log.read_text().rpartition("\n")[0].splitlines()
    said = [json.loads(line)["message"] for line in whole if head in line]
    events = [json.loads(line.removeprefix(head)) for line in said if line.startswith(head)]
    return [event for event in events if event.get("intent") == intent_id]


async def test_an_upload_broken_off_leaves_nothing_and_can_be_repeated(
    client: Client, stack: RunningStack
) -> None:
    intent_id = await started(client, {"program": SLEEP})
    token = await token_of(stack, client, intent_id)
    content = b"0123456789" * 100_000
    url = (
        f"{client.base}/api/sandbox/runs/{run_id_of(intent_id, 1)}/artifacts/"
        f"{hashlib.sha256(content).hexdigest()}"
    )

    async def half() -> Any:
        yield content[: len(content) // 2]
        raise ConnectionResetError

    with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
        await client.session.put(url, data=half(), headers={"Authorization": f"Bearer {token}"})
    assert (await put(client, intent_id, content, token)).status == 204
    await client.call("POST", f"/intents/{intent_id}/cancel")
