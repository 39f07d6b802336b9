"""The cases measure something: references run and pass, and no checker takes a wrong answer."""

from __future__ import annotations

import base64
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from domain.contracts.job import JobFile, Verdict
from sandbox_host.run.job import prepare
from sandbox_host.runtimes.base import Runtime
from tests.evaluation.case import Case, Output
from tests.evaluation.cases import CASES, FAMILIES
from tests.evaluation.checkers import judge
from tests.support.sandbox.runtimes import ensure_image, open_runtime, sandbox_job


def each_case() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def runtimes() -> AsyncIterator[dict[str, Runtime]]:
    """By language: bubblewrap where this machine has the interpreter, else its image."""
    here = await open_runtime("bubblewrap")
    opened = {"python": here, "shell": here}
    opened |= {name: here for name in ("node", "ruby") if shutil.which(name)}
    yield opened
    for runtime in {id(each): each for each in opened.values()}.values():
        await runtime.aclose()


async def runtime_for(language: str, runtimes: dict[str, Runtime]) -> Runtime:
    if language not in runtimes:
        await ensure_image([language])
        runtimes[language] = await open_runtime("docker")
    return runtimes[language]


async def reference_output(case: Case, runtimes: dict[str, Runtime]) -> Output:
    """What the reference leaves: the last step's output, each step given what it needs."""
    done: dict[str, Output] = {}
    for step in case.plan:
        job = sandbox_job(step.source, language=step.language)
        inputs = tuple(
            JobFile(
                path=f"inputs/{needed}/{name}",
                encoding="base64",
                content=base64.b64encode(content).decode(),
            )
            for needed in step.needs
            for name, content in done[needed].artifacts.items()
        )
        job = job.model_copy(update={"files": job.files + inputs})
        runtime = await runtime_for(step.language, runtimes)
        outcome = await runtime.run(prepare(job))
        result = outcome.result
        assert result.verdict is Verdict.SUCCEEDED, (step.name, result.verdict, result.stderr)
        artifacts = {
            each.name: outcome.collected.contents[each.sha256]
            if each.content is None
            else base64.b64decode(each.content)
            for each in result.artifacts
        }
        done[step.name] = Output(result.stdout, artifacts)
    return done[case.plan[-1].name]


def spoilt_versions(output: Output) -> Iterator[Output]:
    """The output with a file missing, empty or cut; without files, with its last sign changed."""
    for name, content in output.artifacts.items():
        others = {other: kept for other, kept in output.artifacts.items() if other != name}
        yield Output(output.stdout, others)
        whole = content.strip()
        for damaged in (b"", whole[: len(whole) // 2]):
            yield Output(output.stdout, {**others, name: damaged})
    if not output.artifacts:
        kept = output.stdout.rstrip()
        yield Output(kept[:-1] + ("8" if kept[-1] != "8" else "9"))


def test_there_are_enough_of_all_kinds() -> None:
    assert len(CASES) >= 60
    assert [name for name, count in Counter(case.id for case in CASES).items() if count > 1] == []
    assert len({case.sentence for case in CASES}) == len(CASES)
    assert min(len(family) for family in FAMILIES.values()) >= 4
    assert set(Counter(case.level for case in CASES)) == {"easy", "medium", "hard"}
    assert len({step.language for case in CASES for step in case.plan}) == 4
    assert sum(len(case.plan) > 1 for case in CASES) >= 3


@each_case()
async def test_the_reference_passes_and_nothing_near_it(
    case: Case, runtimes: dict[str, Runtime]
) -> None:
    output = await reference_output(case, runtimes)
    assert judge(case.right, output) is None
    for spoilt in spoilt_versions(output):
        assert judge(case.right, spoilt), spoilt


@each_case()
def test_wrong_answers_are_refused(case: Case) -> None:
    assert case.wrong
    for output in (*case.wrong, Output(), Output(case.sentence)):
        assert judge(case.right, output), output
