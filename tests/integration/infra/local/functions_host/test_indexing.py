"""A v2 app is indexed alike by azure-functions 1.x (to Python 3.12) and 2.x (from 3.13).

The literals below are what both give; the suite runs on each Python in turn.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from tests.support import ROOT
from tests.support.functions_host import write_app

APP = """
import typing
import azure.functions as func

orders = func.Blueprint()

@orders.function_name("PlaceOrder")
@orders.route("orders/{id:guid}", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
async def place(req: func.HttpRequest, context: func.Context) -> func.HttpResponse: ...

@orders.service_bus_queue_trigger(
    arg_name="message", queue_name="%QUEUE%", connection="Bus", data_type=func.DataType.BINARY)
@orders.retry(strategy="fixed_delay", max_retry_count="3", delay_interval="00:00:10")
async def order(message: func.ServiceBusMessage): ...

app = func.FunctionApp()

@app.route()
def bare(req: func.HttpRequest) -> str: ...

@app.service_bus_topic_trigger(
    arg_name="batch", topic_name="news", subscription_name="me", connection="Bus",
    cardinality=func.Cardinality.MANY)
async def reader(batch: typing.List[func.ServiceBusMessage]): ...

@app.timer_trigger(
    arg_name="timer", schedule="%EVERY%", run_on_startup=True, use_monitor=False)
def tick(timer: func.TimerRequest): ...

app.register_functions(orders)
"""

PRINT = """
import dataclasses, json, os, sys
from pathlib import Path
from infra.local.functions_host import indexing
environ = {"QUEUE": "orders", "EVERY": "00:05:00", "AzureWebJobs.tick.Disabled": "1"}
for function in indexing.load(Path(sys.argv[1]), environ):
    trigger = dataclasses.asdict(function.trigger)
    print(json.dumps({
        "name": function.name, "async": function.is_async, "context": function.requires_context,
        "return": function.has_return, "disabled": function.disabled, "trigger": trigger,
    }, default=sorted))
"""


def index(app_dir: Path) -> list[dict[str, Any]]:
    # In a process of its own: an app can be imported, and get_functions called, once.
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PRINT), str(app_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_names_triggers_settings_and_signatures_are_read(tmp_path: Path) -> None:
    bare, reader, tick, place, order = index(write_app(tmp_path, APP))
    assert [f["name"] for f in (bare, reader, tick, place, order)] == [
        *("bare", "reader", "tick", "PlaceOrder", "order")
    ]
    assert bare["trigger"] == {
        "parameter": "req",
        "route": "bare",
        "methods": None,
        "auth_level": "FUNCTION",
    }
    assert place["trigger"] == {
        "parameter": "req",
        "route": "orders/{id:guid}",
        "methods": ["POST"],
        "auth_level": "ANONYMOUS",
    }
    assert order["trigger"] == {
        "parameter": "message",
        "connection": "Bus",
        "queue": "orders",
        "topic": None,
        "subscription": None,
        "many": False,
        "body": "binary",
        "plain": None,
    }
    assert reader["trigger"] == {
        "parameter": "batch",
        "connection": "Bus",
        "queue": None,
        "topic": "news",
        "subscription": "me",
        "many": True,
        "body": "text",
        "plain": None,
    }
    assert tick["trigger"] == {
        "parameter": "timer",
        "schedule": "00:05:00",
        "run_on_startup": True,
        "use_monitor": False,
    }
    assert [f["async"] for f in (bare, reader, tick, place, order)] == [
        *(False, True, False, True, True)
    ]
    assert (place["context"], place["return"]) == (True, True)
    assert (order["context"], order["return"]) == (False, False)
    assert (tick["disabled"], bare["disabled"]) == (True, False)
