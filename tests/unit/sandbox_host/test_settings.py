"""Settings are checked at start, by the name of their variable."""

from __future__ import annotations

import pytest

from sandbox_host import run_once
from sandbox_host.__main__ import main
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
        ("QLP_SANDBOX_RUNTIMES", "sessions"),
        ("QLP_SANDBOX_IMAGES", "one-for-all:1"),
        ("QLP_SANDBOX_ENGINE_RUNTIME", "../runsc"),
        ("QLP_SANDBOX_MEMORY_BYTES", "1"),
        ("QLP_SANDBOX_POOL_MEMORY_BYTES", "-1"),
        ("QLP_SANDBOX_CANARY_SECONDS", "0"),
        ("QLP_SANDBOX_APP_URL", "qlp.example"),
        ("QLP_SANDBOX_APP_URL", "http://qlp.example.org"),
        ("QLP_SANDBOX_APP_URL", "https://user:secret@qlp.example.org"),
        ("QLP_SANDBOX_SESSIONS_ENDPOINT", "ftp://pool.example.org"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidSettings, match=name):
        Settings.from_environment({**BUS, name: value})


@pytest.mark.parametrize(
    "url",
    [
        "https://qlp.azurewebsites.net/",
        "http://127.0.0.1:7071",
        "http://10.0.0.7",
        "http://[::1]:80",
        "http://functions:80",
    ],
)
def test_the_application_is_reached_over_tls_or_nearby(url: str) -> None:
    assert Settings.from_environment({**BUS, "QLP_SANDBOX_APP_URL": url}).app_url == url.rstrip("/")


def test_all_runtimes_may_be_asked_for_each_once() -> None:
    settings = Settings.from_environment(
        {
            **BUS,
            "QLP_SANDBOX_RUNTIMES": "sessions, confined,docker,docker, bubblewrap",
            "QLP_SANDBOX_SESSIONS_ENDPOINT": "https://x.dynamicsessions.io/sessionPools/p",
        }
    )
    assert settings.runtimes == ("sessions", "confined", "docker", "bubblewrap")


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    for field in Settings.model_fields.values():
        assert f"  {field.alias} " in shown.replace("\n", " \n")


def test_the_secret_is_not_shown() -> None:
    assert "secret" not in repr(Settings.from_environment(BUS))


@pytest.mark.parametrize("url", ["http://me:hunter22@pool", "http://pool.example/hunter22"])
def test_tokens_are_sent_only_to_endpoints_that_were_checked(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_once.main(["--runtime", "sessions", "--sessions-endpoint", url])
    said = capsys.readouterr().err
    assert (ended.value.code, "--sessions-endpoint: must" in said) == (2, True)
    assert "hunter22" not in said
