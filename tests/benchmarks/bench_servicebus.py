"""What a message costs on the embedded Service Bus, beside what its bytes cost on a bare socket.

Run it with ``python -m tests.benchmarks.bench_servicebus``. Rates are medians over rounds; the
floor is a raw asyncio TCP echo of the same bytes, measured in the same run. Broker CPU is that of
the broker's process alone; the SDK, which runs in this one, is the bottleneck of most rates.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender

from tests.support.servicebus.broker import BrokerProcess

_BODY = b"x" * 1024
_ROUNDS = 5
_SINGLES = 500
_BATCHES = 20
_BATCH = 100

Work = Callable[[], Awaitable[int]]


async def _measure(name: str, work: Work, broker: BrokerProcess | None, rounds: int) -> None:
    """Print the median rate and the median broker CPU per message of several rounds."""
    rates, costs = [], []
    for _ in range(rounds):
        cpu = broker.cpu_seconds() if broker else 0.0
        started = time.perf_counter()
        count = await work()
        rates.append(count / (time.perf_counter() - started))
        costs.append((broker.cpu_seconds() - cpu if broker else 0.0) / count)
    cpu_text = f"{statistics.median(costs) * 1e6:8.0f} µs" if broker else "          –"
    print(f"{name:<34}{statistics.median(rates):>10.0f} /s {cpu_text}")


async def _floor() -> None:
    """Send each body over a bare socket and wait until it is back."""
    ended = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        ended.set()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def round_trips() -> int:
        for _ in range(_SINGLES):
            writer.write(_BODY)
            await reader.readexactly(len(_BODY))
        return _SINGLES

    await _measure("floor: TCP echo, one by one", round_trips, None, _ROUNDS)
    writer.close()
    await ended.wait()
    server.close()


async def _bench(broker: BrokerProcess) -> None:
    async with ServiceBusClient.from_connection_string(broker.connection_string) as client:
        sender: ServiceBusSender = client.get_queue_sender("intents")
        receiver: ServiceBusReceiver = client.get_queue_receiver("intents", prefetch_count=200)
        message = ServiceBusMessage(_BODY)

        async def send_singles() -> int:
            for _ in range(_SINGLES):
                await sender.send_messages(message)
            return _SINGLES

        async def send_batches() -> int:
            for _ in range(_BATCHES):
                await sender.send_messages(batch)
            return _BATCHES * _BATCH

        async def receive_and_complete() -> int:
            await asyncio.to_thread(broker.reset)
            for _ in range(_SINGLES // _BATCH):
                await sender.send_messages(batch)
            count = 0
            while count < _SINGLES:
                for received in await receiver.receive_messages(100, max_wait_time=5):
                    await receiver.complete_message(received)
                    count += 1
            return count

        async with sender:
            batch = await sender.create_message_batch()
            for _ in range(_BATCH):
                batch.add_message(message)
            await _measure("send, one by one", send_singles, broker, _ROUNDS)
            await asyncio.to_thread(broker.reset)
            await _measure(f"send, batches of {_BATCH}", send_batches, broker, _ROUNDS)
            async with receiver:
                await _measure("receive and complete", receive_and_complete, broker, _ROUNDS)


def main() -> None:
    """Start a broker, measure, and print one line per operation."""
    print(f"{len(_BODY)} byte bodies, medians of {_ROUNDS} rounds")
    print(f"{'':<34}{'rate':>13} {'broker CPU/message':>12}")
    asyncio.run(_floor())
    with tempfile.TemporaryDirectory() as folder:
        broker = BrokerProcess(Path(folder) / "broker.log")
        broker.start()
        try:
            asyncio.run(_bench(broker))
        finally:
            broker.close()


if __name__ == "__main__":
    main()
