"""The functions host: requests per second beside bare aiohttp, and queue to function latency.

``python -m tests.benchmarks.bench_functions_host`` prints one JSON object per measurement.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from aiohttp import web
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from tests.benchmarks.lean_http import load, request
from tests.benchmarks.statistics_of import percentile
from tests.support.functions_host import HostProcess, write_app
from tests.support.servicebus.broker import BrokerProcess

SECONDS = 3.0
MESSAGES = 100
BURST = 1000

APP = """
import time
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("empty")
async def empty(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("")

@app.service_bus_queue_trigger(arg_name="message", queue_name="single", connection="Bus")
async def single(message: func.ServiceBusMessage):
    print(message.get_body().decode(), time.time(), flush=True)
"""

NAMESPACE = {"UserConfig": {"Namespaces": [{"Name": "bench", "Queues": [{"Name": "single"}]}]}}


async def http(name: str, port: int, path: str, clients: int) -> dict[str, Any]:
    """Measure ``clients`` keep-alive connections for three seconds."""
    latencies = await load(port, request("GET", path, {}), 200, clients, SECONDS)
    return {
        "measurement": name,
        "clients": clients,
        "requests_per_second": round(len(latencies) / SECONDS),
        **_percentiles(latencies),
    }


def _percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{rank}_ms": round(percentile(seconds, rank) * 1000, 2) for rank in (50, 99)}


async def _bare(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="")


async def _serve_bare() -> None:
    """What the host is compared with: aiohttp and nothing else, in a process of its own."""
    runner = web.ServerRunner(web.Server(_bare, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


async def bare(clients: int) -> dict[str, Any]:
    """Measure bare aiohttp."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __spec__.name, "--serve-bare", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        return await http("bare aiohttp", port, "/", clients)
    finally:
        process.kill()
        await process.wait()


def _starts(host: HostProcess) -> dict[str, float]:
    """When the function started, by message body."""
    lines = (line.split() for line in host.output.rpartition("\n")[0].splitlines())
    return {words[0]: float(words[1]) for words in lines if len(words) == 2}


async def _wait_for_starts(host: HostProcess, count: int) -> None:
    while len(_starts(host)) < count:
        await asyncio.sleep(0.02)


async def queue_latency(client: ServiceBusClient, host: HostProcess) -> dict[str, Any]:
    """Measure from before the send to the function's first line, one message at a time."""
    sent = {}
    async with client.get_queue_sender("single") as sender:
        await sender.send_messages(ServiceBusMessage("warm-up"))
        await _wait_for_starts(host, 1)
        for number in range(MESSAGES):
            body = f"m{number}"
            sent[body] = time.time()
            await sender.send_messages(ServiceBusMessage(body))
            await asyncio.sleep(0.03)
    await _wait_for_starts(host, MESSAGES + 1)
    starts = _starts(host)
    latencies = [starts[body] - moment for body, moment in sent.items()]
    return {"measurement": "send to function start", **_percentiles(latencies)}


async def queue_burst(client: ServiceBusClient, host: HostProcess) -> dict[str, Any]:
    """Measure how fast a backlog is worked off."""
    before = len(_starts(host))
    async with client.get_queue_sender("single") as sender:
        started = time.time()
        for first in range(0, BURST, 250):
            batch = [ServiceBusMessage(f"b{number}") for number in range(first, first + 250)]
            await sender.send_messages(batch)
    await _wait_for_starts(host, before + BURST)
    rate = BURST / (max(_starts(host).values()) - started)
    return {"measurement": "backlog", "messages": BURST, "messages_per_second": round(rate)}


async def run(scratch: Path) -> None:
    """Run all measurements."""
    namespace = scratch / "servicebus.json"
    namespace.write_text(json.dumps(NAMESPACE))
    with ExitStack() as cleanup:
        broker = BrokerProcess(scratch / "broker.log", namespace)
        cleanup.callback(broker.close)
        broker.start()
        settings = {"Bus": broker.connection_string}
        host = HostProcess(write_app(scratch / "app", APP), settings, (), scratch)
        cleanup.callback(host.kill)
        host.start()
        port = int(host.url.rpartition(":")[2])
        for clients in (1, 16):
            print(json.dumps(await http("empty function", port, "/api/empty", clients)))
            print(json.dumps(await bare(clients)))
        async with ServiceBusClient.from_connection_string(broker.connection_string) as client:
            print(json.dumps(await queue_latency(client, host)))
            print(json.dumps(await queue_burst(client, host)))


def main() -> None:
    """Measure, and print the results."""
    if sys.argv[1:] == ["--serve-bare"]:
        asyncio.run(_serve_bare())
        return
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(run(Path(scratch)))


if __name__ == "__main__":
    main()
