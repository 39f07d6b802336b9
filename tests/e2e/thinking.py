"""A stack with a language model."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.openai.chat import OpenAIServer
from tests.support.stack import RunningStack, running_stack


@asynccontextmanager
async def thinking_stack(model: OpenAIServer, **settings: str) -> AsyncIterator[RunningStack]:
    """A stack of its own that asks ``model``, with ``settings`` by their names."""
    with (
        pytest.MonkeyPatch.context() as environment,
        tempfile.TemporaryDirectory(prefix="qlp-test-", ignore_cleanup_errors=True) as folder,
    ):
        given = {"QLP_LLM_TIMEOUT_SECONDS": "5", "QLP_STALLED_AFTER_SECONDS": "2", **settings}
        for name, value in {**model.environment(), **given}.items():
            environment.setenv(name, value)
        Path(folder).chmod(0o711)
        async with running_stack(Path(folder) / "stack") as running:
            yield running
