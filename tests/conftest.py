"""Loads the fixtures of `tests.fixtures`."""

pytest_plugins = [
    f"tests.fixtures.{name}"
    for name in (
        *("postgres", "servicebus", "functions_host", "stack"),
        *("sandbox", "sandbox_bus", "app_server", "engine", "host_container", "compose"),
        *("openai_server", "openai_embeddings"),
    )
]
