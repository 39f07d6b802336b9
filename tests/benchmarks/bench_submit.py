"""``POST /intents`` at 1 and 16 clients, against an empty function on the same host.

Twice: with the HTTP functions alone (the cost of accepting an intent), and with everything behind
them at work on the same two cores, which competes with the requests for the CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from statistics import median

from infra.local.stack.config import ROOT
from tests.benchmarks.lean_http import load, request
from tests.benchmarks.parts import skip_without
from tests.benchmarks.statistics_of import percentile
from tests.support.stack import Client, open_folder, running_stack

APP = """
import azure.functions as func
from functions import health, intents_http, maintenance, messages

app = func.FunctionApp()
for module in (intents_http, messages, maintenance, health):
    app.register_functions(module.bp)


@app.function_name("empty")
@app.route(route="empty", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def empty(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(status_code=202)
"""
BEHIND = ("receive_intents", "advance_intent", "record_sandbox_result", "relay_events",
          "recover_stalled", "run_projections", "seal_log")  # fmt: skip


async def compare(client: Client, title: str, rounds: int, seconds: float) -> None:
    """Alternate between the two functions and print the medians."""
    port = int(client.base.rpartition(":")[2])
    body = json.dumps({"text": "plot the monthly totals", "metadata": {"from": "bench"}}).encode()
    headers = {"X-API-Key": client.key or "", "Content-Type": "application/json"}
    requests = {
        path: request("POST", f"/api{path}", headers, body) for path in ("/empty", "/intents")
    }
    for clients in (1, 16):
        rates: dict[str, list[float]] = {path: [] for path in requests}
        latencies: dict[str, list[float]] = {path: [] for path in requests}
        for round_ in range(rounds + 1):
            for path, sent in requests.items():
                measured = await load(port, sent, 202, clients, seconds)
                if round_ > 0:  # the first one warms up
                    rates[path].append(len(measured) / seconds)
                    latencies[path] += measured
        floor = median(rates["/empty"])
        for path, values in rates.items():
            p50, p99 = (percentile(latencies[path], p) * 1000 for p in (50, 99))
            print(
                f"{title:<11} {clients:>2} clients  POST {path:<9} {median(values):6.0f} /s   "
                f"p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   "
                f"{median(values) / floor:.2f} of the empty function"
            )


async def measure(title: str, disabled: tuple[str, ...], rounds: int, seconds: float) -> None:
    """Run one configuration on a stack of its own."""
    for name in BEHIND:
        os.environ[f"AzureWebJobs.{name}.Disabled"] = str(int(name in disabled))
    with open_folder() as folder:
        app = folder / "app"
        app.mkdir()
        (app / "function_app.py").write_text(APP)
        (app / "host.json").write_text((ROOT / "host.json").read_text())
        async with running_stack(folder / "data", app=app) as stack:
            await compare(stack.client, title, rounds, seconds)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="per contestant and round")
    options = parser.parse_args()
    os.environ["QLP_SANDBOX_RUNTIMES"] = "bubblewrap"
    skip_without("bubblewrap")
    asyncio.run(measure("HTTP alone", BEHIND, options.rounds, options.seconds))
    asyncio.run(measure("everything", (), options.rounds, options.seconds))


if __name__ == "__main__":
    main()
