"""Settings are checked at start, by the name of their variable."""

from __future__ import annotations

import pytest

from sandbox_host.settings import InvalidSettings, Settings

BUS = {"ServiceBusConnection": "Endpoint=sb://x;SharedAccessKeyName=n;SharedAccessKey=secret"}


def test_the_defaults_need_nothing_but_a_bus() -> None:
    settings = Settings.from_environment(BUS)
    assert settings.runtimes == ("docker", "bubblewrap")
    assert (settings.jobs_queue, settings.results_queue) == ("sandbox-jobs", "sandbox-results")
    assert settings.concurrency >= 1


def test_an_identity_needs_no_connection_string() -> None:
    name = "ServiceBusConnection__fullyQualifiedNamespace"
    assert Settings.from_environment({name: "x.servicebus.windows.net"}).connection is None


def test_empty_variables_count_as_unset() -> None:
    settings = Settings.from_environment({**BUS, "QLP_SANDBOX_HEALTH_PORT": ""})
    assert settings.health_port == 8081


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QLP_SANDBOX_CONCURRENCY", "many"),
        ("QLP_SANDBOX_CONCURRENCY", "0"),
        ("QLP_SANDBOX_DRAIN_SECONDS", "-1"),
        ("QLP_SANDBOX_HEALTH_PORT", "70000"),
        ("QLP_SANDBOX_RUNTIMES", "docker,podman"),
        ("QLP_SANDBOX_RUNTIMES", " , "),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidSettings, match=name):
        Settings.from_environment({**BUS, name: value})


def test_the_secret_is_not_shown() -> None:
    assert "secret" not in repr(Settings.from_environment(BUS))
