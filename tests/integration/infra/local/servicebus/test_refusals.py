"""What is not allowed is refused at once, with the SDK's own exception for it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusMessageBatch
from azure.servicebus._pyamqp.utils import generate_sas_token
from azure.servicebus.exceptions import (
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusError,
)

from tests.support.servicebus.broker import BrokerProcess
from tests.support.servicebus.sdk import Sdk, make_sdk, with_both_sdks

Names = Callable[[str], str]


@with_both_sdks
async def test_an_unknown_entity_is_not_found_and_not_asked_for_again(sdk: Sdk) -> None:
    started = time.monotonic()
    with pytest.raises(MessagingEntityNotFoundError, match="no-such-queue"):
        await sdk.sender("no-such-queue")
    assert time.monotonic() - started < 9, "the SDK's own attempts take nine seconds and more"


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_wrong_key_is_an_authentication_error(
    asynchronous: bool, bus: BrokerProcess
) -> None:
    unauthenticated = make_sdk(bus.connection_string.replace(bus.key, "0" * 64), asynchronous)
    with pytest.raises(ServiceBusAuthenticationError):
        await unauthenticated.sender("steady-0")
    await unauthenticated.close_all()


async def test_a_token_for_one_queue_opens_no_other(bus: BrokerProcess) -> None:
    resource = f"sb://127.0.0.1:{bus.port}/steady-1"
    token = generate_sas_token(  # type: ignore[no-untyped-call]
        resource, "RootManageSharedAccessKey", bus.key, int(time.time()) + 600
    )
    limited = make_sdk(
        f"Endpoint=sb://127.0.0.1:{bus.port};SharedAccessSignature={token};"
        "UseDevelopmentEmulator=true;",
        asynchronous=True,
    )
    await limited.sender("steady-1")
    with pytest.raises(ServiceBusAuthorizationError):
        await limited.sender("steady-2")
    await limited.close_all()


async def test_sessions_are_refused_in_words(async_sdk: Sdk, names: Names) -> None:
    with pytest.raises(ServiceBusError, match="does not require sessions"):
        await async_sdk.receiver(names("steady"), session_id="s")


@with_both_sdks
async def test_a_message_over_the_limit_is_refused_and_the_sender_goes_on(
    sdk: Sdk, names: Names, bus: BrokerProcess
) -> None:
    queue = names("steady")
    sender = await sdk.sender(queue)
    with pytest.raises(MessageSizeExceededError):
        await sender.send_messages(ServiceBusMessage(b"x" * 262_144))
    await sender.send_messages(ServiceBusMessage(b"x" * 261_000))
    batch: ServiceBusMessageBatch = await sender.create_message_batch()
    assert batch.max_size_in_bytes == 262_144
    assert bus.depth(queue)["active"] == 1


async def test_dead_lettering_a_dead_letter_is_refused(
    async_sdk: Sdk, names: Names, bus: BrokerProcess
) -> None:
    queue = names("steady")
    sender, receiver = await async_sdk.pair(queue)
    dead = await async_sdk.receiver(queue, sub_queue="deadletter")
    await sender.send_messages(ServiceBusMessage("x"))
    (message,) = await receiver.receive_messages(1)
    await receiver.dead_letter_message(message)
    (letter,) = await dead.receive_messages(1)
    with pytest.raises(ServiceBusError, match="dead-letter queue already"):
        await dead.dead_letter_message(letter)
    assert bus.depth(queue)["dead_lettered"] == 1
