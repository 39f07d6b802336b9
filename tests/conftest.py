"""Loads the fixtures of `tests.fixtures`."""

pytest_plugins = [
    f"tests.fixtures.{name}"
    for name in ("postgres", "servicebus", "functions_host", "sandbox", "stack")
]
