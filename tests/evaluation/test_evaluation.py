"""``make evaluate`` as a person runs it, against a model whose answers are known beforehand."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

import psutil
import pytest

from infra.local.stack.config import ROOT
from tests.evaluation.cases import CASES
from tests.evaluation.oracle import Oracle
from tests.support.openai.chat import Asked, OpenAIServer, Reply

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: The third fails in the last of several steps, which gets the files of the others again.
REPAIRED = {"primes", "bar-plot", "two-sources"}
HOPELESS = {"weekday"}
MISTAKEN = {"word-count", "zip"}
REFUSED = {"sudoku"}
#: Of each family some, and those above: `test_cases` runs the programs of all.
TRIED = [
    case
    for number, case in enumerate(CASES)
    if (number % 4 == 0 or case.id in REPAIRED | HOPELESS | MISTAKEN | REFUSED)
    # What the machine's bubblewrap can run.
    and all(step.language != "ruby" or shutil.which("ruby") for step in case.plan)
]
PRICES = {"QLP_LLM_INPUT_PRICE": "2", "QLP_LLM_OUTPUT_PRICE": "10"}


async def evaluate(server: OpenAIServer | None, *arguments: str, **settings: str) -> Process:
    without = ("OPENAI_", "AZURE_OPENAI_", "QLP_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(without)}
    asked = server.environment() if server is not None else {}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.evaluation", *arguments),
        cwd=ROOT,
        env={**inherited, "QLP_SANDBOX_RUNTIMES": "bubblewrap", **asked, **settings},
        stdout=PIPE,
        stderr=PIPE,
    )


async def outcome(process: Process) -> tuple[int, str, str]:
    stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stdout.decode(), stderr.decode()


async def test_cases_come_out_as_they_must(openai_server: OpenAIServer) -> None:
    openai_server.respond = Oracle(
        repaired=REPAIRED, hopeless=HOPELESS, mistaken=MISTAKEN, refused=REFUSED
    )
    only = [argument for case in TRIED for argument in ("--only", case.id)]
    status, stdout, stderr = await outcome(await evaluate(openai_server, "--json", *only, **PRICES))
    assert status == 0, stderr
    document = json.loads(stdout)
    found: dict[str, Any] = {each["case"]: each for each in document["attempts"]}
    assert set(found) == {case.id for case in TRIED}
    failed = HOPELESS | MISTAKEN | REFUSED
    assert {case for case, each in found.items() if not each["passed"]} == failed
    assert {case for case, each in found.items() if each["repairs"]} == REPAIRED | HOPELESS
    assert all(each["repairs"] == 1 for case, each in found.items() if case in REPAIRED)
    assert found["weekday"]["repairs"] == 2
    assert all(found[case]["status"] == "succeeded" for case in MISTAKEN)
    assert found["sudoku"]["status"] == "failed"
    assert "refused" in found["sudoku"]["wrong"]

    totals, count = document["totals"], len(TRIED)
    assert totals["pass_at_1"] == pytest.approx((count - len(REPAIRED | failed)) / count)
    assert totals["pass_after_repair"] == pytest.approx((count - len(failed)) / count)
    assert totals["calls"] == len(openai_server.asked) == count + len(REPAIRED) + 2
    assert totals["input_tokens"] == 900 * totals["calls"]
    assert totals["output_tokens"] == 100 * totals["calls"]
    assert totals["cost_usd"] == pytest.approx((900 * 2 + 100 * 10) / 1e6 * totals["calls"])
    assert 0 < totals["seconds_p50"] <= totals["seconds_p95"]
    assert all(asked.data["examples"] == [] for asked in openai_server.asked if is_plan(asked))


def is_plan(asked: Asked) -> bool:
    return asked.schema == "plan"


async def test_too_few_passes_and_a_case_tried_again_are_told_in_the_table(
    openai_server: OpenAIServer,
) -> None:
    answers = iter([(), ["weekday"], ()])

    def sometimes(asked: Asked) -> Reply:
        return Oracle(mistaken=next(answers))(asked)

    openai_server.respond = sometimes
    status, stdout, stderr = await outcome(
        await evaluate(
            openai_server,
            *("--only", "weekday", "--repeat", "3", "--min-pass", "0.7", "--concurrency", "1"),
        )
    )
    assert status == 1, stderr
    assert stdout.count("weekday") == 3
    [last] = [line for line in stdout.splitlines() if line.startswith("all")]
    assert last.split()[:3] == ["all", "3", "66.7%"]
    assert "–" in last  # no price is set, so no cost is claimed


async def test_an_interrupt_shows_what_is_known_and_leaves_nothing_running(
    openai_server: OpenAIServer,
) -> None:
    def slow_after_two(asked: Asked) -> Reply:
        reply = Oracle()(asked)
        late = len(openai_server.asked) > 2
        return Reply(reply.content, seconds=600) if late else reply

    openai_server.respond = slow_after_two
    process = await evaluate(
        openai_server, "--only", "dates", "--concurrency", "1", "--json", "--timeout", "500"
    )
    async with asyncio.timeout(300):
        while len(openai_server.asked) < 3:
            openai_server.arrived.clear()
            await openai_server.arrived.wait()
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    status, stdout, _ = await outcome(process)
    assert status == 130
    document = json.loads(stdout)
    assert document["interrupted"] is True
    assert [each["passed"] for each in document["attempts"]] == [True, True]
    assert children
    assert psutil.wait_procs(children, timeout=60)[1] == []


@pytest.mark.parametrize(
    ("arguments", "settings", "told"),
    [
        ((), {}, "set QLP_LLM_MODEL, and OPENAI_API_KEY"),
        ((), {"QLP_LLM_MODEL": "m"}, "needs a provider"),
        ((), {"OPENAI_API_KEY": "k"}, "set QLP_LLM_MODEL"),
        (
            ("--only", "no-such"),
            {"OPENAI_API_KEY": "k", "QLP_LLM_MODEL": "m"},
            "--only no-such",
        ),
        (("--repeat", "0"), {}, "--repeat"),
    ],
)
async def test_what_is_missing_is_named_before_anything_starts(
    arguments: tuple[str, ...], settings: dict[str, str], told: str
) -> None:
    status, stdout, stderr = await outcome(await evaluate(None, *arguments, **settings))
    assert (status, stdout) == (2, "")
    assert told in " ".join(stderr.split())
