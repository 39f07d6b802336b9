"""Loads the fixtures of `tests.fixtures`."""

from hypothesis import HealthCheck, settings

# How long an example takes says nothing on a machine that does other things too.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

pytest_plugins = [
    f"tests.fixtures.{name}"
    for name in (
        *("postgres", "servicebus", "functions_host", "stack"),
        *("sandbox", "sandbox_bus", "app_server", "engine", "host_container", "compose"),
        *("openai_server", "openai_embeddings"),
    )
]
