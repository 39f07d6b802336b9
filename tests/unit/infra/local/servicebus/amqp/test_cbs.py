"""A token grants its path and what is below; one that is not good is refused."""

from __future__ import annotations

import pytest
from azure.servicebus._pyamqp.utils import generate_sas_token

from infra.local.servicebus.amqp.cbs import SharedKey
from infra.local.servicebus.errors import Unauthorized
from tests.support.servicebus.entities import FakeClock

KEY = "0123456789abcdef"


def sas(resource: str, key: str = KEY, name: str = "root", expiry: int = 2000) -> str:
    return str(generate_sas_token(resource, name, key, expiry))  # type: ignore[no-untyped-call]


def test_a_token_of_the_sdk_grants_its_path_and_what_is_below() -> None:
    shared_key = SharedKey("root", KEY, FakeClock())
    grant = shared_key.verify(sas("sb://127.0.0.1:5672/Queue"))
    assert grant.covers("queue")
    assert grant.covers("queue/$deadletterqueue")
    assert not grant.covers("queue-2")
    assert grant.expires_at == 2_000_000
    assert shared_key.verify(sas("sb://127.0.0.1:5672/")).covers("anything")


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "Bearer x",
        "SharedAccessSignature ",
        "SharedAccessSignature sr=&sig=&se=&skn=",
        sas("sb://h/q", key="another key"),
        sas("sb://h/q", name="another name"),
        sas("sb://h/q", expiry=1000),
        sas("sb://h/q").replace("se=2000", "se=9999"),
        sas("sb://h/q").replace("%2Fq", "%2Fother"),
        "SharedAccessSignature " + "x" * 5000,
    ],
)
def test_a_token_that_is_not_good_is_refused(token: object) -> None:
    with pytest.raises(Unauthorized):
        SharedKey("root", KEY, FakeClock()).verify(token)
