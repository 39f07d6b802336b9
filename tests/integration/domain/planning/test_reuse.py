"""What is reused, and what never is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool

from domain.application.planning import Plan
from domain.intents.event_parts import Author
from domain.planning.budgets import Budget
from domain.planning.planner import Planner
from domain.planning.solved import Near
from tests.support.intents.planning import (
    CALL,
    NO,
    OLD,
    TODAY,
    YES,
    Remembered,
    intent,
    solved,
    spent,
)
from tests.support.openai.chat import MODEL, Asked, OpenAIServer, Reply, fault, program


class TestReuse:
    @pytest.mark.parametrize(
        "author",
        [None, TODAY, Author(model=MODEL, prompt="repair@1")],
        ids=["a client's", "today's", "mended today"],
    )
    async def test_an_exact_repeat_costs_nothing(
        self,
        planner: Planner,
        openai_server: OpenAIServer,
        memory: Remembered,
        author: Author | None,
    ) -> None:
        memory.exact = solved("six by seven", author=author)
        plan = await planner.plan(intent(), 1)
        assert isinstance(plan, Plan)
        assert (plan.source, plan.reused_from) == ("reused", memory.exact.intent_id)
        assert plan.repairs == (0 if author is None else 2)
        assert (openai_server.asked, plan.calls, list(plan.writes)) == ([], (), [])

    @pytest.mark.parametrize(
        "author",
        [OLD, Author(model=MODEL, prompt="plan@0")],
        ids=["another model's", "an older prompt's"],
    )
    async def test_what_was_written_by_another_version_is_written_anew(
        self, planner: Planner, openai_server: OpenAIServer, memory: Remembered, author: Author
    ) -> None:
        memory.exact = solved("six by seven", author=author)
        openai_server.script(program("print(1)"))
        plan = await planner.plan(intent(), 1)
        assert isinstance(plan, Plan)
        assert plan.source == "generated"

    async def test_never_means_never(
        self, planner: Planner, openai_server: OpenAIServer, memory: Remembered
    ) -> None:
        memory.exact = solved("six by seven")
        memory.near = [Near(memory.exact, 1.0)]
        openai_server.script(program("print(1)"))
        plan = await planner.plan(intent(reuse="never"), 1)
        assert isinstance(plan, Plan)
        assert plan.source == "generated"

    async def test_a_similar_one_is_reused_where_the_model_is_sure(
        self,
        planner: Planner,
        openai_server: OpenAIServer,
        memory: Remembered,
        pool: AsyncConnectionPool,
    ) -> None:
        memory.near = [Near(solved("calculate the factorial of 20"), 0.97)]
        openai_server.script(YES)
        plan = await planner.plan(intent("what is 20 factorial?", "similar"), 1)
        assert isinstance(plan, Plan)
        assert (plan.source, plan.reused_from) == ("reused", memory.near[0].solved.intent_id)
        assert [call.purpose for call in plan.calls] == ["compare"]
        assert await spent(pool, plan.writes) == Budget(None, CALL, 0)

    @pytest.mark.parametrize(
        "doubt",
        [
            NO,
            "yes",
            {"reason": "yes", "equivalent": "true"},
            Reply("", refusal="no comment"),
            fault(500),
            fault(429),
            Reply(YES, cut=5),
            Reply(json.dumps(YES), finish_reason="length"),
        ],
    )
    async def test_any_doubt_is_a_new_program(
        self, planner: Planner, openai_server: OpenAIServer, memory: Remembered, doubt: Any
    ) -> None:
        memory.near = [Near(solved("calculate the factorial of 20"), 0.97)]
        openai_server.respond = lambda asked: (
            (doubt if isinstance(doubt, Reply) else Reply(doubt))
            if asked.schema == "compare"
            else Reply(program("print(1)"))
        )
        plan = await planner.plan(intent("what is 20 factorial?", "similar"), 1)
        assert isinstance(plan, Plan)
        assert plan.source == "generated"
        assert plan.calls[0].purpose == "compare"
        assert plan.calls[-1].purpose == "plan"

    @pytest.mark.parametrize(
        ("text", "similarity", "author", "reuse"),
        [
            ("calculate the factorial of 20", 0.94, TODAY, "similar"),
            ("calculate the factorial of 21", 0.999, TODAY, "similar"),
            (
                "calculate the factorial of 20",
                0.99,
                Author(model="old", prompt="plan@1"),
                "similar",
            ),
            ("calculate the factorial of 20", 0.99, TODAY, "exact"),
            ("calculate the factorial of 20", 0.99, TODAY, "never"),
        ],
        ids=["too far", "another number", "another model's", "not allowed", "never"],
    )
    async def test_the_model_is_not_even_asked(
        self,
        planner: Planner,
        openai_server: OpenAIServer,
        memory: Remembered,
        text: str,
        similarity: float,
        author: Author,
        reuse: str,
    ) -> None:
        memory.near = [Near(solved(text, author=author), similarity)]

        def respond(asked: Asked) -> Reply:
            return Reply(YES if asked.schema == "compare" else program("print(1)"))

        openai_server.respond = respond
        plan = await planner.plan(intent("what is 20 factorial?", reuse), 1)
        assert isinstance(plan, Plan)
        assert plan.source == "generated"
        assert [each.schema for each in openai_server.asked] == ["plan"]
