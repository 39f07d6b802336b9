"""Secrets are kept out of what people read."""

from __future__ import annotations

import base64
import io
import json
import logging
import subprocess
import sys
import timeit
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from urllib.parse import quote
from uuid import uuid4

import orjson
import pytest

from domain.contracts import redaction
from domain.contracts.connections import database_url
from domain.contracts.redaction import (
    MARK,
    guard,
    redact,
    remember,
    remember_all,
    remember_temporary,
)
from domain.messaging.bus import what_failed
from domain.models.client import open_client
from domain.models.failures import failure_in
from domain.models.settings import ModelSettings
from domain.operations.doctor.services import _excerpt
from domain.planning.failures import clean
from domain.similarity.openai_embedder import _message_of
from functions.problems import Problem
from infra.local.functions_host.logs import JsonFormatter as HostFormatter
from infra.local.stack.config import ROOT
from sandbox_host.logs import JsonFormatter as SandboxFormatter

SECRET = 'tr0ub4dor&3 /+é"\\'
BUS_KEY = "aGVsbG8gd29ybGQhISE="

ENVIRONMENT = {
    "DATABASE_URL": f"postgresql://qlp:{quote(SECRET, safe='')}@db/qlp",
    "ServiceBusConnection": f"Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey={BUS_KEY}",
    "QLP_RUN_TOKEN_KEY": "run-token-key-in-base64",
    "QLP_RUN_TOKEN_KEY_PREVIOUS": "the-one-before",
    "AZURE_OPENAI_API_KEY": "0123456789abcdef",
    "PGPASSWORD": "hunter22",
    "IDENTITY_HEADER": "of-the-platform",
    "AzureWebJobsStorage": "AccountName=a;AccountKey=c3RvcmFnZQ==;EndpointSuffix=x",
    "QLP_LLM_TOKENS_PER_DAY": "1000000",
    "DATABASE_ADMIN_URL": "postgresql://postgres:postgres@db/qlp",
    "HOME": "/home/somebody",
}


@pytest.fixture(autouse=True)
def nothing_else_is_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redaction, "_permanent", ())
    monkeypatch.setattr(redaction, "_temporary", ())
    factory, hook = logging.getLogRecordFactory(), sys.excepthook
    yield
    logging.setLogRecordFactory(factory)
    sys.excepthook = hook


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        ascii(SECRET)[1:-1],
        repr(SECRET.encode())[2:-1],
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
        BUS_KEY,
        quote(BUS_KEY, safe=""),
        "run-token-key-in-base64",
        "the-one-before",
        "0123456789abcdef",
        "hunter22",
        "of-the-platform",
        "c3RvcmFnZQ==",
    ],
)
def test_what_is_secret_in_an_environment_is_found_in_each_form(form: str) -> None:
    remember_all(ENVIRONMENT)
    said = redact(f"before {form} after")
    assert form not in said
    assert said.startswith(f"before {MARK}")
    assert said.endswith(" after")


@pytest.mark.parametrize("user", ["", "u", "us", "use"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_in_the_base64_of_a_longer_text_is_found(
    user: str, encode: Callable[[bytes], bytes]
) -> None:
    remember(SECRET)
    said = encode(f"{user}:{SECRET}:x".encode()).decode()
    left = redact(said).split(MARK)
    assert len(left) == 2
    assert sum(map(len, left)) <= len(said) - len(SECRET) * 4 // 3 + 2


@pytest.mark.parametrize(
    ("value", "password"),
    [
        ("host=h dbname=d user=u password='it\\'s hunter22'", "it's hunter22"),
        ("host=h dbname=d user=u password=a\\ hunter22", "a hunter22"),
        ("postgresql://u:hunter22#x[y@h/d", "hunter22#x[y"),
    ],
)
def test_the_password_is_what_libpq_reads_as_one(value: str, password: str) -> None:
    database_url(value)
    assert redact(f"as {password}!") == f"as {MARK}!"


@pytest.mark.parametrize(
    "text", ["1000000 tokens", "postgres is ready", "/home/somebody", "db/qlp"]
)
def test_what_is_not_secret_stays(text: str) -> None:
    remember_all(ENVIRONMENT)
    assert redact(text) is text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("wrong key sk-proj-abc***xyz.", f"wrong key {MARK}"),
        ("Authorization: Bearer abcdefghijklmnopqrstuvwxyz", f"Authorization: Bearer {MARK}"),
        ("at postgresql://u:p4ss@h/d failed", f"at postgresql://u:{MARK}@h/d failed"),
        ("host=h password='a b' x", f"host=h password={MARK} x"),
        ("…;SharedAccessKey=abc=;x", f"…;SharedAccessKey={MARK};x"),
        ("https://s.blob/x?sv=1&sig=abc%3D&se=2", f"https://s.blob/x?sv=1&sig={MARK}&se=2"),
        ("token eyJhbGciOiJI.eyJzdWIi.c2ln end", f"token {MARK} end"),
    ],
)
def test_what_looks_like_a_secret_is_redacted_even_if_it_is_unknown(said: str, shown: str) -> None:
    assert redact(said) == shown


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://USER:PASSWORD@HOST:5432/DATABASE",
        "Endpoint=sb://x;SharedAccessKeyName=…;SharedAccessKey=…",
        "GET https://127.0.0.1:7071/api/health took 3 ms",
        "a disk-full risk-free task-list; bearer of news",
        "https://h/a:b and mail@example.org",
    ],
)
def test_what_only_resembles_a_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_a_key_that_a_provider_repeats_is_not_recorded() -> None:
    key = "0a1b2c3d" * 8
    client = open_client(
        ModelSettings.model_validate({"OPENAI_API_KEY": key, "OPENAI_BASE_URL": "http://h/v1"})
    )
    assert client is not None
    assert clean(f"HTTP 403: {key} may not") == f"HTTP 403: {MARK} may not"
    # No part of it is left where the text is cut.
    assert "0a1b" not in clean("x" * 480 + f" {key}")
    assert "0a1b" not in clean("x" * 1990 + f" {key}")


@pytest.mark.parametrize(
    "shorten",
    [
        lambda text: what_failed(ValueError(text)),
        lambda text: _excerpt({"said": text}),
        lambda text: str(failure_in({"error": {"code": text, "message": text}})),
        lambda text: _message_of(SimpleNamespace(body={"detail": text})),  # type: ignore[arg-type]
    ],
    ids=["bus", "sandbox", "models", "embeddings"],
)
def test_half_a_secret_is_not_left_where_a_text_is_cut(shorten: Callable[[str], str]) -> None:
    key = "0a1b2c3d" * 40
    remember(key)
    for before in (60, 160, 260, 460):
        assert "0a1b" not in shorten("x" * before + f" {key}")


def test_a_problem_holds_no_secret() -> None:
    remember(SECRET)
    response = Problem(502, "bad-gateway", f"it said {SECRET}", errors=[SECRET]).response()
    assert orjson.loads(response.get_body())["errors"] == [MARK]
    assert orjson.loads(response.get_body())["detail"] == f"it said {MARK}"


def logged(formatter: logging.Formatter) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.getLogger("tests.redaction")
    logger.addHandler(handler)
    try:
        logger.warning("connecting as %s", SECRET)
        logger.warning("by %(way)s", {"way": SECRET}, extra={"tried": SECRET})
        try:
            int(SECRET)
        except ValueError:
            logger.exception("it failed")
    finally:
        logger.removeHandler(handler)
    return stream.getvalue()


@pytest.mark.parametrize(
    "formatter", [logging.Formatter(), HostFormatter(), SandboxFormatter()], ids=type
)
def test_logs_hold_no_secret_whoever_writes_them(formatter: logging.Formatter) -> None:
    guard({"PASSWORD": SECRET})
    guard({"PASSWORD": SECRET})
    said = logged(formatter)
    assert "tr0ub4dor" not in said
    assert said.count(MARK) >= 3
    assert "Traceback" in said, "all but the secret is there"


def test_an_uncaught_exception_shows_no_secret() -> None:
    script = (
        "import os, threading; from domain.contracts.redaction import guard; guard(os.environ)\n"
        "def fail(): raise ValueError('cannot parse ' + os.environ['X_PASSWORD'])\n"
        "thread = threading.Thread(target=fail); thread.start(); thread.join()\n"
        "fail()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"X_PASSWORD": SECRET, "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count(f"ValueError: cannot parse {MARK}") == 2
    assert "tr0ub4dor" not in done.stderr


def test_what_is_redacted_may_be_redacted_again() -> None:
    remember("secret", "hunter22")
    assert redact(redact("hunter22 and secret")) == f"{MARK} and secret"


def test_tokens_are_forgotten_and_what_is_configured_is_not() -> None:
    remember("hunter22")
    for number in range(1000):
        remember_temporary(f"token-{number:06}")
    assert redact("token-000999 of hunter22") == f"{MARK} of {MARK}"
    assert redact("token-000000") == "token-000000"


def test_redacting_a_line_costs_less_than_formatting_it() -> None:
    """Formatting it once as JSON is the least that writing it costs."""
    remember_all(ENVIRONMENT)
    line = f"function receive_intents took 12 ms for the intent {uuid4()} of tenant demo"
    record = logging.makeLogRecord({"msg": line})
    formatter = HostFormatter()
    cost = min(timeit.repeat(lambda: redact(line), number=2000, repeat=5))
    writing = min(timeit.repeat(lambda: formatter.format(record), number=2000, repeat=5))
    assert cost < writing
