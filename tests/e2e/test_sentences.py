"""What becomes of sentences where a language model is configured, through the public endpoints."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from tests.support.openai import wire_forms
from tests.support.openai.chat import OpenAIServer, Reply, fault, program
from tests.support.qlp import qlp
from tests.support.stack import Client, RunningStack, thinking_stack

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("scripted")]

SAME = {"reason": "They ask the same.", "equivalent": True}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def thinking(model: OpenAIServer) -> AsyncIterator[RunningStack]:
    prices = {"QLP_LLM_INPUT_PRICE": "2", "QLP_LLM_OUTPUT_PRICE": "8"}
    async with thinking_stack(model, QLP_REUSE_SIMILARITY="0.3", **prices) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def client(thinking: RunningStack) -> Client:
    return await thinking.new_tenant()


async def planned(client: Client, intent: dict[str, Any]) -> dict[str, Any]:
    """What was recorded of the plan."""
    items = await client.events(intent["id"])
    data: dict[str, Any] = next(i["data"] for i in items if i["type"] == "IntentPlanned")
    return data


async def calls(client: Client, intent: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls of the model that were recorded."""
    items = await client.events(intent["id"])
    return [item["data"]["call"] for item in items if item["type"] == "LanguageModelCalled"]


async def test_health_names_model_and_prompts(client: Client) -> None:
    planner = (await client.get("/health")).body["checks"]["planner"]
    assert planner["sources"] == ["submitted", "reused", "generated", "repaired"]
    assert planner["model"] == "gpt-test"
    assert planner["prompts"] == ["plan@1", "repair@1", "compare@1"]


async def test_each_call_is_recorded_with_what_it_took(model: OpenAIServer, client: Client) -> None:
    model.script("not JSON", program("print(42)"))
    intent = await client.run({"text": "print forty-two"})
    assert intent["outcome"]["stdout"] == "42\n"
    first, second = await calls(client, intent)
    assert (first["outcome"], second["outcome"]) == ("invalid", "answered")
    assert second["prompt"] == "plan@1"
    assert (second["model"], second["input_tokens"], second["output_tokens"]) == (
        *("gpt-test", 900, 100),
    )
    assert second["cost_microusd"] == 900 * 2 + 100 * 8
    assert second["latency_ms"] > 0


async def test_a_repeat_costs_nothing_and_never_is_never(
    model: OpenAIServer, client: Client
) -> None:
    model.script(program("print(42)"), program("print(43)"))
    first = await client.run({"text": "print the answer"})
    again = await client.run({"text": " print the answer\r\n"})
    assert (await planned(client, again))["reused_from"] == first["id"]
    assert (await planned(client, again))["author"] == {"model": "gpt-test", "prompt": "plan@1"}
    assert len(model.asked) == 1
    anew = await client.run({"text": "print the answer", "planning": {"reuse": "never"}})
    assert anew["outcome"]["stdout"] == "43\n"


async def test_a_similar_one_is_reused_only_where_asked_and_the_model_is_sure(
    model: OpenAIServer, client: Client
) -> None:
    model.script(program("print(2432902008176640000)"))
    first = await client.run({"text": "calculate the factorial of 20"})
    similar = {"planning": {"reuse": "similar"}}
    model.script(SAME)
    other = await client.run({"text": "compute the factorial of 20", **similar})
    assert (await planned(client, other))["reused_from"] == first["id"]
    assert [call["purpose"] for call in await calls(client, other)] == ["compare"]
    # Another number: the model is not even asked whether it is the same.
    model.script(program("print(6)"))
    near = await client.run({"text": "calculate the factorial of 3", **similar})
    assert (await planned(client, near))["source"] == "generated"
    assert first["id"] in (await planned(client, near))["examples"]
    # Allowed nothing, it is written anew.
    model.script(program("print(7)"))
    plain = await client.run({"text": "work out the factorial of 20"})
    assert (await planned(client, plain))["source"] == "generated"


async def test_a_wrong_yes_of_the_model_is_the_answer_of_one_intent_alone(
    model: OpenAIServer, client: Client
) -> None:
    model.script(program("print('of the team')"))
    first = await client.run({"text": "show the figures of the team"})
    similar = {"planning": {"reuse": "similar"}}
    model.script(SAME)
    wrong = await client.run({"text": "show the figures of the company", **similar})
    assert (await planned(client, wrong))["reused_from"] == first["id"]

    model.script(program("print('of the company')"))
    asked = await client.run({"text": "show the figures of the company"})
    assert asked["outcome"]["stdout"] == "of the company\n"
    assert wrong["id"] not in (await planned(client, asked))["examples"]
    # From now on that one is the answer to these words; what it took does not count.
    again = await client.run({"text": "show the figures of the company"})
    assert (await planned(client, again))["reused_from"] == asked["id"]


async def test_a_row_that_does_not_tell_what_was_reused_is_corrected_by_the_log(
    model: OpenAIServer, client: Client, thinking: RunningStack
) -> None:
    """Such as a worker of an earlier release writes while the next one is rolled out."""
    model.script(program("print('of the forest')"))
    first = await client.run({"text": "list the birds of the forest"})
    model.script(SAME)
    asked = {"text": "list the birds of the desert", "planning": {"reuse": "similar"}}
    wrong = await client.run(asked)
    repeat = await client.run({"text": "list the birds of the forest"})
    for intent in (wrong, repeat):
        assert (await planned(client, intent))["reused_from"] == first["id"]
        await _forget_what_it_reused(thinking, intent["id"])

    model.script(program("print('of the desert')"))
    right = await client.run({"text": "list the birds of the desert"})
    assert right["outcome"]["stdout"] == "of the desert\n"
    assert wrong["id"] not in (await planned(client, right))["examples"]
    # A repeat leads to what it repeats.
    again = await client.run({"text": "list the birds of the forest"})
    assert (await planned(client, again))["reused_from"] == first["id"]


async def _forget_what_it_reused(running: RunningStack, intent_id: str) -> None:
    async with await psycopg.AsyncConnection.connect(running.endpoints.database_admin_url) as owner:
        await owner.execute(
            "update intent_states set reused_from = null where id = %s", [intent_id]
        )


async def test_what_a_model_thought_of_and_did_not_say_is_never_run(
    model: OpenAIServer, client: Client
) -> None:
    draft = json.dumps(program("print('a draft')"))
    thought = {"content": "", "reasoning_content": f"Is it {draft}? No, that is wrong."}
    model.script(Reply(raw=wire_forms.whole(thought)))
    intent = await client.run({"text": "show what was thought of"})
    assert (intent["status"], intent["outcome"]["error"]["code"]) == (
        "failed",
        "model_answer_invalid",
    )


@pytest.mark.parametrize(
    ("scripted", "code", "says"),
    [
        (Reply("", refusal="I will not."), "model_refused", "I will not."),
        (Reply("{", finish_reason="length"), "model_answer_truncated", "QLP_LLM_OUTPUT_TOKENS"),
        (fault(403, "no access"), "model_rejected", "no access"),
    ],
)
async def test_what_cannot_be_planned_says_why(
    model: OpenAIServer, client: Client, scripted: Reply, code: str, says: str
) -> None:
    model.script(scripted)
    intent = await client.run({"text": f"do what leads to {code}"})
    assert intent["status"] == "failed"
    assert intent["outcome"]["error"]["code"] == code
    assert says in intent["outcome"]["error"]["message"]


async def test_a_tenant_without_tokens_fails_until_an_operator_gives_it_some(
    model: OpenAIServer, client: Client, thinking: RunningStack
) -> None:
    tenant, url = await thinking.tenant_of(client), thinking.endpoints.database_url
    await qlp("tenants", "budget", "set", tenant, "100", "--yes", url=url)
    intent = await client.run({"text": "print one"})
    assert intent["outcome"]["error"]["code"] == "token_budget_exhausted"
    assert "operator" in intent["outcome"]["error"]["message"]
    assert model.asked == []
    await qlp("tenants", "budget", "set", tenant, "default", "--yes", url=url)
    model.script(program("print(1)"))
    assert (await client.run({"text": "print one"}))["status"] == "succeeded"
    shown = (await qlp("tenants", "budget", "show", tenant, "--json", url=url)).json
    assert (shown["used"], shown["reserved"], shown["own"]) == (1_000, 0, None)
