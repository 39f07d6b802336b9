"""Loads the fixtures of `tests.support`, and runs the folders that take longest first."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# What helpers assert says as much when it fails as what tests assert.
pytest.register_assert_rewrite("tests.support")

# How long an example takes says nothing on a machine that does other things too.
settings.register_profile(
    "no_deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("no_deadline")

pytest_plugins = [
    f"tests.support.{name}"
    for name in (
        *("postgres", "functions_host", "stack", "compose.composed", "servicebus.broker"),
        *("openai.chat", "openai.embeddings"),
        *("sandbox.runtimes", "sandbox.bus", "sandbox.application"),
        *("sandbox.engine", "sandbox.host_container", "azure_cli"),
    )
]

#: Tests in these folders run first, in this order; the rest by name.
_FOLDERS = ("e2e", "evaluation", "hostile", "integration/sandbox_host", "integration/infra", "")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what takes longest first, so that no process is left with it at the end."""
    items.sort(key=lambda item: _rank(item.path))


@cache
def _rank(path: Path) -> int:
    folders = (Path(__file__).parent / folder for folder in _FOLDERS)
    return next(rank for rank, folder in enumerate(folders) if path.is_relative_to(folder))
