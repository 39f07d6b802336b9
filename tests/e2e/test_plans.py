"""From a sentence to programs that run: plans that a language model writes, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.support.openai.chat import OpenAIServer, Reply, fault, program, repaired, step
from tests.support.stack import Client, RunningStack, thinking_stack

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("scripted")]

#: More than travels inside a result: it is uploaded, and fetched by the steps that need it.
ROWS = 20_000

LOAD = f"""\
import os
with open(os.environ["OUT_DIR"] + "/numbers.txt", "w") as out:
    for number in range({ROWS}):
        out.write(f"{{number}}\\n")
"""
SUM = """\
import os
numbers = [int(line) for line in open("inputs/load/numbers.txt")]
chosen = [number for number in numbers if number % 2 == {parity}]
open(os.environ["OUT_DIR"] + "/sum.txt", "w").write(str(sum(chosen)))
"""
JOIN = """\
even, odd = (int(open(f"inputs/{name}/sum.txt").read()) for name in ("even", "odd"))
print(even, odd, even + odd)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def thinking(model: OpenAIServer) -> AsyncIterator[RunningStack]:
    """A stack whose model is soon given up, and whose stalled intents are soon found."""
    async with thinking_stack(model) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def client(thinking: RunningStack) -> Client:
    return await thinking.new_tenant()


def sentence(text: str = "do it", **more: Any) -> dict[str, Any]:
    return {"text": f"{text} {uuid4()}", **more}


def plan(*steps: dict[str, Any], expected: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"explanation": "Step by step.", "steps": steps, "expected_artifacts": expected}


async def types_of(client: Client, intent_id: str) -> list[str]:
    items = await client.events(intent_id)
    return [item["type"] for item in items]


async def until(client: Client, intent_id: str, type_: str) -> None:
    """Wait until an event of that type has happened."""
    after = 0
    async with asyncio.timeout(60):
        while True:
            path = f"/intents/{intent_id}/events?after={after}&wait=10"
            page = (await client.get(path)).body
            if any(item["type"] == type_ for item in page["items"]):
                return
            after = page["next_after"]


async def submit(client: Client, body: dict[str, Any]) -> str:
    reply = await client.submit(body)
    assert reply.status == 202, reply.body
    return str(reply.body["id"])


async def test_a_sentence_becomes_a_program_that_runs(model: OpenAIServer, client: Client) -> None:
    model.script(program("print(6 * 7)"))
    intent = await client.run(sentence("six by seven"))
    assert (intent["status"], intent["outcome"]["stdout"]) == ("succeeded", "42\n")
    assert intent["outcome"]["plan"]["source"] == "generated"
    assert intent["outcome"]["model_usage"]["calls"] == 1
    assert intent["outcome"]["model_usage"]["input_tokens"] > 0
    assert await types_of(client, intent["id"]) == [
        "IntentSubmitted",
        "LanguageModelCalled",
        "IntentPlanned",
        "SandboxRunRequested",
        "SandboxRunFinished",
        "IntentSucceeded",
    ]


async def test_a_sentence_without_words_is_planned_without_examples(
    model: OpenAIServer, client: Client
) -> None:
    model.script(program("print('what?')"))
    intent = await client.run({"text": "___"})
    assert intent["outcome"]["stdout"] == "what?\n"


async def test_artifacts_flow_along_the_edges_and_independent_steps_run_at_once(
    model: OpenAIServer, client: Client
) -> None:
    model.script(
        plan(
            step(LOAD, "load"),
            step(SUM.format(parity=0), "even", ("load",)),
            step(SUM.format(parity=1), "odd", ("load",)),
            step(JOIN, "join", ("even", "odd")),
        )
    )
    intent = await client.run(sentence("sums"))
    even, odd = sum(range(0, ROWS, 2)), sum(range(1, ROWS, 2))
    assert intent["outcome"]["stdout"] == f"{even} {odd} {even + odd}\n"
    steps = intent["outcome"]["steps"]
    assert [each["name"] for each in steps] == ["load", "even", "odd", "join"]
    assert {each["verdict"] for each in steps} == {"succeeded"}
    [numbers] = steps[0]["artifacts"]
    assert numbers["href"].endswith("/artifacts/numbers.txt?step=load")
    content = await client.get(numbers["href"].removeprefix("/api"))
    assert content.body.count(b"\n") == ROWS
    of_step = await client.get(f"/intents/{intent['id']}/artifacts?step=odd")
    assert [each["name"] for each in of_step.body["items"]] == ["sum.txt"]
    assert (await client.get(f"/intents/{intent['id']}/artifacts?step=none")).status == 404
    assert (await client.get(f"/intents/{intent['id']}/artifacts")).body["items"] == []
    events = await client.events(intent["id"])
    runs = [
        (event["type"][10:], event["data"].get("step"))
        for event in events
        if event["type"].startswith("SandboxRun")
    ]
    # Both were asked for before either had ended.
    asked = [name for _, name in runs if name]
    assert asked == ["load", "even", "odd", "join"]
    assert [kind for kind, _ in runs[2:4]] == ["Requested", "Requested"]


async def test_a_program_that_fails_is_mended_with_what_it_said(
    model: OpenAIServer, client: Client
) -> None:
    model.script(program("print(1 / 0)"), repaired("print('mended')"))
    intent = await client.run(sentence())
    assert (intent["status"], intent["outcome"]["stdout"]) == ("succeeded", "mended\n")
    assert intent["outcome"]["plan"]["source"] == "repaired"
    assert intent["outcome"]["attempts"] == 2
    assert "ZeroDivisionError" in str(model.asked[1].body["messages"])
    types = await types_of(client, intent["id"])
    assert types[4:8] == [
        "SandboxRunFinished",
        "RepairRequested",
        "LanguageModelCalled",
        "ProgramRepaired",
    ]


async def test_a_file_that_was_promised_and_is_not_there_is_a_failure(
    model: OpenAIServer, client: Client
) -> None:
    promised = plan(step("print('done')"), expected=("plot.png",))
    model.script(promised, repaired("print('done')"), repaired("print('done')"))
    intent = await client.run(sentence("plot"))
    assert intent["status"] == "failed"
    assert intent["outcome"]["error"]["code"] == "artifacts_missing"
    assert "plot.png" in intent["outcome"]["error"]["message"]


async def test_a_provider_that_is_away_is_asked_again_later(
    model: OpenAIServer, client: Client
) -> None:
    model.script(fault(503), program("print('late')"))
    intent = await client.run(sentence())
    assert intent["outcome"]["stdout"] == "late\n"
    types = await types_of(client, intent["id"])
    assert types[1:5] == [
        "LanguageModelCalled",
        "PlanningPostponed",
        "LanguageModelCalled",
        "IntentPlanned",
    ]


async def test_when_one_step_fails_the_others_are_killed(
    model: OpenAIServer, client: Client, thinking: RunningStack
) -> None:
    await thinking.give_time(client, 60)
    endless = "import time\nwhile True: time.sleep(1)"
    broken = "import time, sys; time.sleep(1); sys.exit(9)"
    failed = plan(step(endless, "endless"), step(broken, "broken"))
    model.script(failed, fault(401))  # and it cannot be mended
    intent = await client.run(sentence())
    assert intent["status"] == "failed"
    assert intent["outcome"]["error"]["message"].startswith("Step 'broken'")
    assert intent["outcome"]["exit_code"] == 9
    async with asyncio.timeout(30):  # far below the deadline of the endless one
        while (await types_of(client, intent["id"])).count("SandboxRunFinished") < 2:
            await asyncio.sleep(0.1)
    after = (await client.get(f"/intents/{intent['id']}")).body
    assert after["status"] == "failed"
    assert after["outcome"]["steps"][0]["verdict"] == "cancelled"


async def test_a_functions_host_that_dies_while_the_model_thinks_loses_nothing(
    model: OpenAIServer, client: Client, thinking: RunningStack
) -> None:
    model.arrived.clear()
    model.script(Reply(program("print('never')"), seconds=30), program("print('at last')"))
    intent_id = await submit(client, sentence())
    async with asyncio.timeout(60):
        await model.arrived.wait()
    functions = thinking.stack.children["functions"]
    await functions.kill()
    await functions.start(60)
    intent = await client.finished(intent_id, wait=60)
    assert (intent["status"], intent["outcome"]["stdout"]) == ("succeeded", "at last\n")
    types = await types_of(client, intent_id)
    assert types.count("IntentPlanned") == types.count("SandboxRunFinished") == 1


async def test_a_cancelled_intent_stays_so_whatever_the_model_says(
    model: OpenAIServer, client: Client
) -> None:
    model.arrived.clear()
    model.script(Reply(program("print('too late')"), seconds=1.5))
    intent_id = await submit(client, sentence())
    async with asyncio.timeout(60):
        await model.arrived.wait()
    assert (await client.call("POST", f"/intents/{intent_id}/cancel")).status == 200
    async with asyncio.timeout(60):
        while "LanguageModelCalled" not in await types_of(client, intent_id):
            await asyncio.sleep(0.1)
    assert await types_of(client, intent_id) == [
        "IntentSubmitted",
        "IntentCancelled",
        "LanguageModelCalled",  # it was paid for
    ]
