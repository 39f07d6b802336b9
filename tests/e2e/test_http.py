"""The HTTP endpoints, called over real HTTP on the whole stack."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from domain.intents.content import MAX_CONTENT_BYTES
from tests.support.stack import ECHO, NOBODYS, Client, RunningStack, problem

PRINT_42 = {"language": "python", "files": {"main.py": "print(6 * 7)"}}
SLEEP = {
    "language": "shell",
    "files": {"main.sh": "sleep 60"},
    "limits": {"wall_seconds": 60},
}


async def test_a_submitted_program_runs_and_its_outcome_is_returned(client: Client) -> None:
    reply = await client.submit({"text": "six by seven", "program": PRINT_42}, Prefer="wait=30")
    assert reply.status == 200
    assert reply.headers["Preference-Applied"] == "wait=30"
    assert reply.headers["Location"] == f"/api/intents/{reply.body['id']}"
    assert reply.body["status"] == "succeeded"
    outcome = reply.body["outcome"]
    assert (outcome["stdout"], outcome["exit_code"], outcome["attempts"]) == ("42\n", 0, 1)
    assert outcome["usage"]["wall_ms"] > 0


async def test_without_waiting_it_is_accepted_and_found_at_its_location(client: Client) -> None:
    reply = await client.submit({"program": PRINT_42})
    assert reply.status == 202
    assert reply.body["status"] in ("submitted", "planned", "running")
    assert reply.body["outcome"] is None
    found = await client.call("GET", reply.headers["Location"].removeprefix("/api"))
    assert (found.status, found.body["id"]) == (200, reply.body["id"])
    assert (await client.finished(reply.body["id"]))["status"] == "succeeded"


async def test_stdin_args_and_files_reach_the_program(client: Client) -> None:
    program = {
        "language": "python",
        "files": {
            "app/main.py": "import sys, helper; print(helper.up(sys.stdin.read()), sys.argv[1:])",
            "app/helper.py": "def up(text): return text.upper()",
        },
        "entrypoint": "app/main.py",
        "args": ["a b", "$HOME"],
        "stdin": "žluťoučký",
    }
    intent = await client.run({"program": program})
    assert intent["outcome"]["stdout"] == "ŽLUŤOUČKÝ ['a b', '$HOME']\n"


async def test_what_was_submitted_is_given_back(client: Client) -> None:
    content = {
        "text": "six by seven",
        "metadata": {"ticket": "A-17"},
        "program": {
            "language": "python",
            "files": [
                {"path": "main.py", "content": "print('é')"},
                {"path": "data.bin", "content": "AAEC/w==", "encoding": "base64"},
            ],
            "entrypoint": "main.py",
            "limits": {"wall_seconds": 7},
        },
    }
    submitted = (await client.submit(content)).body
    finished = await client.finished(submitted["id"])
    listed = (await client.get("/intents")).body["items"][0]
    found = (await client.get(f"/intents/{submitted['id']}/similar")).body["items"]
    searched = (
        await client.call("POST", "/intents/search", {"text": "six by seven", "threshold": 0.9})
    ).body["items"][0]["intent"]
    assert found == []
    for shown in (submitted, finished, listed, searched):
        assert shown["metadata"] == {"ticket": "A-17"}
        assert shown["planning"] == {"reuse": "exact"}
        assert shown["program"] == {
            "language": "python",
            "entrypoint": "main.py",
            "files": [{"path": "main.py", "size": 11}, {"path": "data.bin", "size": 4}],
        }
        assert shown["limits"]["wall_seconds"] == 7
    # All that its run is given, from the beginning: it was requested at once.
    assert submitted["limits"] == finished["limits"] == listed["limits"]
    assert finished["limits"]["memory_bytes"] == 256 * 1024**2


async def test_a_sentence_has_no_program_until_there_is_one(client: Client) -> None:
    intent = await client.run({"text": "write me a poem", "planning": {"reuse": "never"}})
    assert (intent["program"], intent["limits"], intent["metadata"]) == (None, None, {})
    assert intent["planning"] == {"reuse": "never"}
    await client.run({"text": "six by seven", "program": PRINT_42})
    reused = await client.run({"text": "six by seven"})
    assert reused["program"]["files"] == [{"path": "main.py", "size": 12}]


async def test_a_failing_program_fails_the_intent_with_its_stderr(client: Client) -> None:
    program = {"language": "shell", "files": {"main.sh": "echo oops >&2; exit 3"}}
    intent = await client.run({"program": program})
    assert intent["status"] == "failed"
    assert intent["outcome"]["error"]["code"] == "program_exited"
    assert (intent["outcome"]["exit_code"], intent["outcome"]["stderr"]) == (3, "oops\n")


async def test_the_wall_limit_ends_the_program(client: Client) -> None:
    intent = await client.run({"program": {**SLEEP, "limits": {"wall_seconds": 0.5}}})
    assert intent["outcome"]["error"]["code"] == "timed_out"


async def test_a_sentence_alone_fails_and_says_what_to_do(client: Client) -> None:
    intent = await client.run({"text": "write me a poem"})
    assert intent["status"] == "failed"
    assert intent["outcome"]["error"]["code"] == "planner_not_configured"


async def test_an_exact_repeat_of_a_solved_sentence_is_reused(client: Client) -> None:
    first = await client.run({"text": "six by seven", "program": PRINT_42})
    again = await client.run({"text": " six by seven\n"})
    assert (again["status"], again["outcome"]["stdout"]) == ("succeeded", "42\n")
    events = await client.events(again["id"])
    planned = next(event for event in events if event["type"] == "IntentPlanned")
    assert planned["data"]["source"] == "reused"
    assert planned["data"]["reused_from"] == first["id"]


class TestIdempotency:
    async def test_the_same_key_gives_the_same_intent_and_runs_once(self, client: Client) -> None:
        key = str(uuid4())
        body = {"program": PRINT_42}
        replies = await asyncio.gather(
            *(client.submit(body, Idempotency_Key=key, Prefer="wait=60") for _ in range(8))
        )
        assert len({reply.body["id"] for reply in replies}) == 1
        assert [r.headers["Idempotency-Replayed"] for r in replies].count("false") == 1
        types = [event["type"] for event in await client.events(replies[0].body["id"])]
        assert types.count("SandboxRunFinished") == 1

    async def test_the_same_key_for_something_else_is_refused(self, client: Client) -> None:
        key = str(uuid4())
        await client.submit({"text": "one"}, Idempotency_Key=key)
        reply = await client.submit({"text": "two"}, Idempotency_Key=key)
        problem(reply, 422, "idempotency-key-reused")

    async def test_another_tenants_key_is_another_key(self, stack: RunningStack) -> None:
        key = str(uuid4())
        one, other = await stack.new_tenant(), await stack.new_tenant()
        first = await one.submit({"text": "one"}, Idempotency_Key=key)
        second = await other.submit({"text": "two"}, Idempotency_Key=key)
        assert (first.status, second.status) == (202, 202)
        assert first.body["id"] != second.body["id"]

    @pytest.mark.parametrize("key", ["", "x" * 256, "é"])
    async def test_an_unusable_key_is_refused(self, client: Client, key: str) -> None:
        reply = await client.submit({"text": "one"}, Idempotency_Key=key)
        assert "Idempotency-Key" in problem(reply, 400, "invalid-request")["detail"]


class TestEvents:
    async def test_they_tell_the_whole_story_in_order(self, client: Client) -> None:
        intent = await client.run({"program": ECHO})
        reply = await client.get(f"/intents/{intent['id']}/events")
        assert [event["type"] for event in reply.body["items"]] == [
            "IntentSubmitted",
            "IntentPlanned",
            "SandboxRunRequested",
            "SandboxRunFinished",
            "IntentSucceeded",
        ]
        assert [event["version"] for event in reply.body["items"]] == [1, 2, 3, 4, 5]
        assert reply.body["next_after"] == 5

    async def test_one_trace_runs_through_all_of_them(self, client: Client) -> None:
        trace = "0af7651916cd43dd8448eb211c80319c"
        reply = await client.submit(
            {"program": ECHO}, Prefer="wait=30", traceparent=f"00-{trace}-b7ad6b7169203331-01"
        )
        events = await client.events(reply.body["id"])
        assert {event["traceparent"].split("-")[1] for event in events} == {trace}
        assert reply.headers["traceparent"].split("-")[1] == trace

    async def test_after_skips_what_is_known(self, client: Client) -> None:
        intent = await client.run({"program": ECHO})
        reply = await client.get(f"/intents/{intent['id']}/events?after=3")
        assert [event["version"] for event in reply.body["items"]] == [4, 5]

    async def test_a_long_poll_returns_as_soon_as_something_happens(self, client: Client) -> None:
        slow = {"language": "shell", "files": {"main.sh": "sleep 0.7"}}
        intent = (await client.submit({"program": slow})).body
        after, types = 0, []
        async with asyncio.timeout(30):
            while "IntentSucceeded" not in types:
                reply = await client.get(f"/intents/{intent['id']}/events?after={after}&wait=20")
                types += [event["type"] for event in reply.body["items"]]
                after = reply.body["next_after"]
        assert len(types) == 5

    async def test_a_long_poll_that_sees_nothing_ends_in_time(self, client: Client) -> None:
        intent = (await client.submit({"program": SLEEP})).body
        await client.until_running(intent["id"])
        started = asyncio.get_running_loop().time()
        reply = await client.get(f"/intents/{intent['id']}/events?after=3&wait=0.5")
        assert reply.body["items"] == []
        assert 0.4 < asyncio.get_running_loop().time() - started < 20
        await client.call("POST", f"/intents/{intent['id']}/cancel")


class TestCancel:
    async def test_a_running_intent_is_cancelled_and_stays_so(self, client: Client) -> None:
        intent = (await client.submit({"program": SLEEP})).body
        reply = await client.call("POST", f"/intents/{intent['id']}/cancel", {"reason": "too slow"})
        assert (reply.status, reply.body["status"]) == (200, "cancelled")
        again = await client.call("POST", f"/intents/{intent['id']}/cancel")
        assert (again.status, again.body["status"]) == (200, "cancelled")

    async def test_a_finished_intent_cannot_be_cancelled(self, client: Client) -> None:
        intent = await client.run({"program": PRINT_42})
        reply = await client.call("POST", f"/intents/{intent['id']}/cancel")
        problem(reply, 409, "already-finished")

    async def test_a_wrong_body_is_refused(self, client: Client) -> None:
        intent = (await client.submit({"text": "x"})).body
        reply = await client.call("POST", f"/intents/{intent['id']}/cancel", {"reason": 5})
        assert problem(reply, 400, "invalid-request")["errors"][0]["pointer"] == "/reason"


class TestList:
    async def test_pages_are_complete_and_newest_first(self, client: Client) -> None:
        ids = [(await client.submit({"text": f"intent {n}"})).body["id"] for n in range(7)]
        seen: list[str] = []
        path = "/intents?limit=3"
        while True:
            page = (await client.get(path)).body
            seen += [item["id"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            path = f"/intents?limit=3&cursor={page['next_cursor']}"
        assert seen == ids[::-1]

    async def test_filters_by_status_and_time(self, client: Client) -> None:
        good = await client.run({"program": PRINT_42})
        bad = await client.run({"text": "no program for this"})
        by_status = (await client.get("/intents?status=failed")).body["items"]
        assert [item["id"] for item in by_status] == [bad["id"]]
        moment = bad["created_at"].replace("+", "%2B")
        before = (await client.get(f"/intents?created_before={moment}")).body["items"]
        assert [item["id"] for item in before] == [good["id"]]

    @pytest.mark.parametrize(
        ("query", "named"),
        [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=x", "limit"),
            ("limit=١", "limit"),
            ("status=happy", "status"),
            ("created_after=yesterday", "created_after"),
            ("created_before=2026-03-01T12:00:00", "created_before"),
            ("cursor=AAAA", "cursor"),
            ("cursor=%00", "cursor"),
        ],
    )
    async def test_a_wrong_parameter_is_named(self, client: Client, query: str, named: str) -> None:
        reply = await client.get(f"/intents?{query}")
        assert named in problem(reply, 400, "invalid-request")["detail"]


class TestAccess:
    @pytest.mark.parametrize("key", [None, "", "wrong", "qlp_" + "0" * 16 + "_" + "0" * 64])
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/intents"),
            ("GET", "/intents"),
            ("GET", f"/intents/{NOBODYS}"),
            ("GET", f"/intents/{NOBODYS}/events"),
            ("POST", f"/intents/{NOBODYS}/cancel"),
        ],
    )
    async def test_nothing_is_answered_without_a_valid_key(
        self, stack: RunningStack, key: str | None, method: str, path: str
    ) -> None:
        reply = await stack.client_with(key).call(method, path, {} if method == "POST" else None)
        problem(reply, 401, "unauthenticated")
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")

    async def test_the_key_may_come_as_a_bearer_token(self, client: Client) -> None:
        headers = {"Authorization": f"Bearer {client.key}"}
        anonymous = Client(client.session, client.base, None)
        assert (await anonymous.call("GET", "/intents", headers=headers)).status == 200

    async def test_another_tenants_intents_do_not_exist(self, stack: RunningStack) -> None:
        owner, other_tenant = await stack.new_tenant(), await stack.new_tenant()
        intent_id = (await owner.submit({"text": "secret"})).body["id"]
        for method, path in (
            ("GET", f"/intents/{intent_id}"),
            ("GET", f"/intents/{intent_id}/events"),
            ("POST", f"/intents/{intent_id}/cancel"),
        ):
            problem(await other_tenant.call(method, path), 404, "not-found")
        assert (await other_tenant.get("/intents")).body["items"] == []


class TestBadInput:
    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe\x00", b'{"text": "\\ud800"}', b"{}"],
    )
    async def test_a_body_that_is_no_intent_is_refused(self, client: Client, body: bytes) -> None:
        problem(await client.call("POST", "/intents", data=body), 400, "invalid-request")

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"text": 1}, "/text"),
            ({"text": "a\x00b"}, "/text"),
            ({"text": "x" * 8001}, "/text"),
            ({"text": "x", "colour": "red"}, "/colour"),
            ({"text": "x", "metadata": {"k": 1}}, "/metadata/k"),
            ({"program": {**PRINT_42, "language": "cobol"}}, "/program/language"),
            ({"program": {**PRINT_42, "args": ["ж" * 4000] * 13}}, "/program/args"),
            (
                {"program": {"language": "python", "files": {"ж" * 130: ""}}},
                "/program/files/" + "ж" * 63 + "…",
            ),
            ({"program": {**PRINT_42, "limits": {"processes": 0}}}, "/program/limits/processes"),
            (
                {"program": {"language": "python", "files": {"../x": ""}}},
                "/program/files/..~1x",
            ),
        ],
    )
    async def test_the_wrong_field_is_pointed_at(
        self, client: Client, body: object, pointer: str
    ) -> None:
        reply = await client.submit(body)
        pointers = [e["pointer"] for e in problem(reply, 400, "invalid-request")["errors"]]
        assert pointer in pointers

    @pytest.mark.parametrize(
        ("limits", "pointer"),
        [
            ({"memory_bytes": "2_68435456"}, "memory_bytes"),
            ({"memory_bytes": 268435456.5}, "memory_bytes"),
            ({"wall_seconds": True}, "wall_seconds"),
            ({"wall_seconds": "5"}, "wall_seconds"),
        ],
    )
    async def test_a_number_is_written_as_one(
        self, client: Client, limits: object, pointer: str
    ) -> None:
        reply = await client.submit({"program": {**PRINT_42, "limits": limits}})
        [error] = problem(reply, 400, "invalid-request")["errors"]
        assert error["pointer"] == f"/program/limits/{pointer}"

    @pytest.mark.parametrize(
        "flood",
        [
            {"files": [{}] * 60_000},
            {"files": {str(number): 1 for number in range(20_000)}},
            {"args": [1] * 80_000},
            {"environment": {str(number): 1 for number in range(20_000)}},
            {str(number): 1 for number in range(20_000)},
        ],
    )
    async def test_a_flood_of_values_is_not_looked_into(
        self, client: Client, flood: dict[str, object]
    ) -> None:
        """It took the app seconds, in which nobody else was served."""
        reply = await client.submit({"program": {**PRINT_42, **flood}})
        shown = problem(reply, 400, "invalid-request")
        assert shown["detail"] == "body: it holds more than 2000 values and keys"

    async def test_oversize_is_refused(self, client: Client) -> None:
        big = {"program": {**PRINT_42, "stdin": "x" * MAX_CONTENT_BYTES}}
        assert "limit" in problem(await client.submit(big), 400, "invalid-request")["detail"]
        huge = {"program": {**PRINT_42, "stdin": "x" * 300_000}}
        problem(await client.submit(huge), 413, "too-large")

    async def test_another_content_type_is_refused(self, client: Client) -> None:
        reply = await client.call(
            "POST", "/intents", data=b"text=x", headers={"Content-Type": "text/plain"}
        )
        problem(reply, 415, "unsupported-media-type")

    @pytest.mark.parametrize("intent_id", [str(UUID(int=0)), "nonsense", "a%2Fb", "a" * 500])
    async def test_an_unknown_id_is_not_found(self, client: Client, intent_id: str) -> None:
        problem(await client.get(f"/intents/{intent_id}"), 404, "not-found")

    @pytest.mark.parametrize("wait", ["soon", "-1", "nan", "inf", "1e999"])
    async def test_an_impossible_wait_is_no_preference(self, client: Client, wait: str) -> None:
        reply = await client.submit({"text": "x"}, Prefer=f"wait={wait}")
        assert (reply.status, "Preference-Applied" in reply.headers) == (202, False)

    async def test_deep_nesting_is_refused(self, client: Client) -> None:
        body = b'{"metadata":' * 5000 + b"1" + b"}" * 5000
        problem(await client.call("POST", "/intents", data=body), 400, "invalid-request")

    async def test_a_broken_traceparent_is_replaced(self, client: Client) -> None:
        reply = await client.submit({"text": "x"}, traceparent="00-zz-yy-01")
        assert reply.status == 202
        assert reply.headers["traceparent"].startswith("00-")


async def test_health_names_the_parts_and_says_what_they_are(stack: RunningStack) -> None:
    async with asyncio.timeout(30):  # each look at a part gives up after two seconds
        while (reply := await stack.client.get("/health")).body["status"] != "ok":
            await asyncio.sleep(0.2)
    assert reply.status == 200
    checks = reply.body["checks"]
    assert {check["status"] for check in checks.values()} == {"ok"}
    assert checks["eventLog"]["relayLagEvents"] >= 0
    assert "lexical" in checks["embedder"]["note"]
    assert "program" in checks["planner"]["note"]


async def test_health_tells_anyone_its_status_and_clients_no_reasons(
    stack: RunningStack, client: Client
) -> None:
    unauthenticated = await stack.client_with(None).get("/health")
    assert (unauthenticated.status, set(unauthenticated.body)) == (200, {"status"})
    checks = (await client.get("/health")).body["checks"]
    assert checks["sandbox"].keys() == {"status"}  # what the host says of itself names it
    assert not [name for name, check in checks.items() if "problem" in check]
    problem(await stack.client_with("qlp_wrong").get("/health"), 401, "unauthenticated")
