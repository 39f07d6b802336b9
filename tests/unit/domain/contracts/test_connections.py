"""Settings that say where something is: what is accepted, and how the rest is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from psycopg.conninfo import conninfo_to_dict

from domain.contracts.connections import (
    CHECKS,
    api_key,
    connection_setting,
    database_url,
    http_url,
    private_http_url,
    service_bus_connection,
    service_bus_namespace,
)

#: Part of every wrong value below; no message may hold any of it.
SECRET = "tr0ub4dor"

NAMESPACE = "x.servicebus.windows.net"
BUS = f"Endpoint=sb://{NAMESPACE}/;SharedAccessKeyName=n;SharedAccessKey={SECRET}="

Check = Callable[[str], str]


@pytest.mark.parametrize(
    "pasted",
    [
        "postgresql://qlp:tr0ub4dor@db:5432/qlp",
        "postgres://qlp:tr0ub4dor@db:5432/qlp",
        "postgresql+psycopg://qlp:tr0ub4dor@db:5432/qlp",
        "postgresql+asyncpg://qlp:tr0ub4dor@db:5432/qlp",
        "POSTGRESQL://qlp:tr0ub4dor@db:5432/qlp",
        '"postgresql://qlp:tr0ub4dor@db:5432/qlp"',
        " 'postgresql://qlp:tr0ub4dor@db:5432/qlp' \n",
        "jdbc:postgresql://db:5432/qlp?user=qlp&password=tr0ub4dor",
        "host=db port=5432 user=qlp password=tr0ub4dor dbname=qlp",
    ],
)
def test_a_database_url_is_understood_however_it_was_pasted(pasted: str) -> None:
    assert conninfo_to_dict(database_url(pasted)) == {
        "host": "db",
        "port": "5432",
        "user": "qlp",
        "password": "tr0ub4dor",
        "dbname": "qlp",
    }


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("postgresql://u:p%40%2F%25@h/d", "p@/%"),
        ("postgresql://u:a#b@h/d", "a#b"),
        ("postgresql://u:a:b@h/d", "a:b"),
        ("postgresql://u:p@[::1]:5432/d?sslmode=require", "p"),
        ("postgresql://u:p@one,two:5433/d", "p"),
        ("postgresql://u:p@%2Fvar%2Frun%2Fpostgresql/d", "p"),
        ("postgresql:///d", None),
        ("postgresql://u@x.postgres.database.azure.com/d", None),
        ("service=there", None),
        ("host=h dbname=d password='a b'", "a b"),
    ],
)
def test_a_url_that_libpq_takes_stays_as_it_is(url: str, password: str | None) -> None:
    assert database_url(url) == url
    assert conninfo_to_dict(url).get("password") == password


@pytest.mark.parametrize(
    ("wrong", "fix"),
    [
        ("garbage", "must be a PostgreSQL URL: postgresql://"),
        (SECRET, "must be a PostgreSQL URL"),
        (f"qlp:{SECRET}@h/d", "must be a PostgreSQL URL"),
        (f"mysql://u:{SECRET}@h/d", "must be a PostgreSQL URL"),
        (f"psql postgresql://u:{SECRET}@h/d", "must be a PostgreSQL URL"),
        (f"DATABASE_URL=postgresql://u:{SECRET}@h/d", "must be a PostgreSQL URL"),
        (f"postgresql:/u:{SECRET}@h/d", "must be a PostgreSQL URL"),
        (f"postgresql://u:a@{SECRET}@h/d", "an @ is %40"),
        (f"postgresql://u@x:{SECRET}@h/d", "an @ is %40"),
        (f"postgresql://u:{SECRET}%@h/d", "a % is %25"),
        (f"postgresql://u:%zz{SECRET}@h/d", "a % is %25"),
        (f"postgresql://u:a/{SECRET}@h/d", "a / is %2F"),
        (f"postgresql://u:{SECRET}?x@h/d", "a ? is %3F"),
        (f"postgresql://u:{SECRET} x@h/d", "a blank is %20"),
        (f"postgresql://u:{SECRET}@h/d\npostgresql://", "line break"),
        (f"postgresql://u:p@h:{SECRET}/d", "not a number from 1 to 65535"),
        (f"postgresql://u:{SECRET}@h:99999/d", "not a number from 1 to 65535"),
        (f"postgresql://u:p@{SECRET}!/d", "host name"),
        (f"postgresql://u:{SECRET}@h", "names no database"),
        (f"host=h user=u password={SECRET}", "names no database"),
        ("postgresql://", "names neither a server nor a database"),
        (f"host=h password='{SECRET}", "cannot be read"),
        (f"postgresql://u:p@h/d?pass={SECRET}", "cannot be read"),
        (f"host=h {SECRET}", "cannot be read"),
    ],
)
def test_a_wrong_database_url_is_refused_without_repeating_it(wrong: str, fix: str) -> None:
    with pytest.raises(ValueError, match=r"^DATABASE_URL: ") as raised:
        connection_setting({"DATABASE_URL": wrong}, "DATABASE_URL")
    assert fix in str(raised.value)
    assert SECRET not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("pasted", [BUS, f"{BUS};", f' "{BUS}"\n'])
def test_a_bus_connection_is_taken(pasted: str) -> None:
    assert service_bus_connection(pasted).rstrip(";") == BUS


@pytest.mark.parametrize(
    ("check", "pasted", "taken"),
    [
        (service_bus_namespace, NAMESPACE, NAMESPACE),
        (service_bus_namespace, f"sb://{NAMESPACE}/", NAMESPACE),
        (service_bus_namespace, f"https://{NAMESPACE}", NAMESPACE),
        (service_bus_namespace, f" '{NAMESPACE}'", NAMESPACE),
        (http_url, " https://api.example.org/v1/ ", "https://api.example.org/v1"),
        (http_url, "http://[::1]:8080/v1", "http://[::1]:8080/v1"),
        (private_http_url, "http://10.0.0.7:80/", "http://10.0.0.7:80"),
        (api_key, " 'sk-abc'\n", "sk-abc"),
    ],
)
def test_other_values_are_cleaned_of_what_was_pasted_with_them(
    check: Check, pasted: str, taken: str
) -> None:
    assert check(pasted) == taken


@pytest.mark.parametrize(
    ("check", "wrong", "fix"),
    [
        (service_bus_connection, SECRET, "Endpoint=sb://"),
        (service_bus_connection, BUS.replace("Endpoint=", ""), "not a connection string"),
        (service_bus_connection, BUS.replace("sb://", "https://"), "names no Endpoint"),
        (
            service_bus_connection,
            BUS.replace("SharedAccessKeyName=n;", ""),
            "SharedAccessKeyName",
        ),
        (service_bus_connection, f"{BUS};EntityPath=intents", "EntityPath"),
        (service_bus_connection, BUS.replace(SECRET, f"{SECRET}\n{SECRET}"), "line break"),
        (service_bus_connection, "Endpoint=sb://x", "SharedAccessKey"),
        *(
            (service_bus_namespace, wrong, "must be a")
            for wrong in ("x", BUS, f"{NAMESPACE}/queue", f"{NAMESPACE}:x", "-")
        ),
        *(
            (http_url, wrong, r"must be a URL|no URL may have")
            for wrong in (
                *(SECRET, f"https://u:{SECRET}@h/v1", f"https://{SECRET}@h/v1"),
                *(f"https://h/v1?key={SECRET}", f"https://h/v1#{SECRET}", f"https://h:{SECRET}/v1"),
                *(f"ftp://h/{SECRET}", f"https://h /{SECRET}", f"https://[{SECRET}/"),
            )
        ),
        (private_http_url, f"http://app.example.org/{SECRET}", "must begin with https://"),
        *(
            (api_key, wrong, "no key has")
            for wrong in (f"{SECRET}\n{SECRET}", f"{SECRET} {SECRET}", f"{SECRET}…", "  ")
        ),
    ],
)
def test_other_wrong_values_are_refused_without_repeating_them(
    check: Check, wrong: str, fix: str
) -> None:
    with pytest.raises(ValueError, match=fix) as raised:
        check(wrong)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("name", CHECKS)
def test_no_setting_is_repeated_in_a_message_and_all_are_optional(name: str) -> None:
    for wrong in (f"{SECRET}\x00{SECRET}", f"{SECRET}\t{SECRET}", f"{SECRET}é\n@"):
        with pytest.raises(ValueError, match=f"^{name}: ") as raised:
            connection_setting({name: wrong}, name)
        assert SECRET not in str(raised.value)
    assert connection_setting({name: ""}, name) is None
    assert connection_setting({}, name) is None
