"""Loads the fixtures of `tests.support`, and has the folders that take longest come first."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# What helpers assert says as much when it fails as what tests assert.
pytest.register_assert_rewrite("tests.support")

# How long an example takes says nothing on a machine that does other things too.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

pytest_plugins = [
    f"tests.support.{name}"
    for name in (
        *("postgres", "functions_host", "stack", "compose.composed", "servicebus.broker"),
        *("openai.chat", "openai.embeddings"),
        *("sandbox.runtimes", "sandbox.bus", "sandbox.application"),
        *("sandbox.engine", "sandbox.host_container", "azure_cli"),
    )
]

#: In the order of their names, but what is below the first of these that a test is in comes first.
_FOLDERS = ("e2e", "evaluation", "hostile", "integration/sandbox_host", "integration/infra", "")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have what takes longest come first, so that nobody waits for a last one."""
    items.sort(key=lambda item: _turn(item.path))


@cache
def _turn(path: Path) -> int:
    folders = (Path(__file__).parent / folder for folder in _FOLDERS)
    return next(turn for turn, folder in enumerate(folders) if path.is_relative_to(folder))
