"""Loads the fixtures of `tests.fixtures`."""

from importlib.util import find_spec

_MODULES = ("postgres", "servicebus", "functions_host", "sandbox")

pytest_plugins = [
    f"tests.fixtures.{name}" for name in _MODULES if find_spec(f"tests.fixtures.{name}")
]
