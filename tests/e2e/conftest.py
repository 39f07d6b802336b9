"""One stack for the tests that leave it unharmed, on the runtime that starts quickest.

It ends with them: one that idles takes time from others. Docker is behind the stacks of
`test_plans`, `test_sentences` and `test_compose`.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.stack import Client, RunningStack, running_stack


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def stack() -> AsyncIterator[RunningStack]:
    """It is shared by the tests of this folder, each with tenants of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="qlp-test-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as settings,
    ):
        Path(folder).chmod(0o711)
        settings.setenv("QLP_SANDBOX_RUNTIMES", "bubblewrap")
        async with running_stack(Path(folder) / "stack") as running:
            yield running


@pytest_asyncio.fixture(loop_scope="session")
async def client(stack: RunningStack) -> Client:
    """A client of a tenant that nobody else uses."""
    return await stack.new_tenant()
