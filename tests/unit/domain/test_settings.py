from __future__ import annotations

import pytest

from domain.settings import InvalidSettings, Settings

ENOUGH = {
    "DATABASE_URL": "postgresql://somewhere/db",
    "ServiceBusConnection": "Endpoint=sb://x;SharedAccessKeyName=n;SharedAccessKey=k",
}


def test_the_least_that_must_be_set_is_enough() -> None:
    settings = Settings.from_environment(ENOUGH)
    assert settings.intents_queue == "intents"
    assert settings.database_admin_url is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
        ({"ServiceBusConnection": ""}, "ServiceBusConnection__fullyQualifiedNamespace"),
        ({"QLP_DATABASE_POOL_SIZE": "many"}, "QLP_DATABASE_POOL_SIZE"),
        ({"QLP_DATABASE_POOL_SIZE": "1000"}, "QLP_DATABASE_POOL_SIZE"),
        ({"QLP_STALLED_AFTER_SECONDS": "0"}, "QLP_STALLED_AFTER_SECONDS"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidSettings, match=named):
        Settings.from_environment({**ENOUGH, **change})


def test_an_error_never_shows_a_value() -> None:
    secret = "postgresql://user:secret@host/db"
    with pytest.raises(InvalidSettings) as caught:
        Settings.from_environment({"DATABASE_URL": secret, "QLP_DATABASE_POOL_SIZE": "hunter2"})
    assert "secret" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_identity_may_stand_in_for_a_connection_string() -> None:
    settings = Settings.from_environment(
        {
            "DATABASE_URL": "postgresql://h/d",
            "ServiceBusConnection__fullyQualifiedNamespace": "qlp.servicebus.windows.net",
        }
    )
    assert settings.service_bus_namespace == "qlp.servicebus.windows.net"
