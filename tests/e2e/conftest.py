"""One stack for the tests that leave it unharmed, on the runtime that starts quickest.

It ends with them: one that idles takes time from others. Docker is behind the stacks of
`test_plans`, `test_sentences` and `test_compose`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.support.openai.chat import OpenAIServer
from tests.support.stack import Client, RunningStack, open_folder, running_stack


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def stack() -> AsyncIterator[RunningStack]:
    """It is shared by the tests of this folder, each with tenants of its own."""
    with (
        open_folder() as folder,
        pytest.MonkeyPatch.context() as settings,
    ):
        settings.setenv("QLP_SANDBOX_RUNTIMES", "bubblewrap")
        async with running_stack(folder / "stack") as running:
            yield running


@pytest_asyncio.fixture(loop_scope="session")
async def client(stack: RunningStack) -> Client:
    """A client of a tenant that nobody else uses."""
    return await stack.new_tenant()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def model() -> AsyncIterator[OpenAIServer]:
    """A language model, for the stack of one file."""
    server = OpenAIServer()
    await server.start()
    yield server
    await server.aclose()


@pytest.fixture
def scripted(model: OpenAIServer) -> Iterator[None]:
    """Each test scripts the model's answers, uses them up, and asks as the API wants it."""
    model.replies.clear()
    model.asked.clear()
    yield
    assert not model.replies
    assert model.refused == []
