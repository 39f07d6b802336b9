"""The host process: what keeps it from starting, when it is ready, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import aiohttp
import pytest

from tests.support import ROOT
from tests.support.functions_host import HostFactory, write_app

HELLO = """
import os
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)

@app.route("hello")
async def hello(req: func.HttpRequest) -> str:
    return os.environ.get("GREETING", "-")
"""

SLOW = """
import asyncio, time
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("nap")
async def nap(req: func.HttpRequest) -> str:
    print("napping", flush=True)
    await asyncio.sleep(float(req.params["s"]))
    return "rested"

@app.route("block")
def block(req: func.HttpRequest) -> str:
    print("blocking", flush=True)
    time.sleep(float(req.params["s"]))
    return "rested"
"""


def run(app_dir: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a host that is expected not to start."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "infra.local.functions_host"),
            *("--app-dir", str(app_dir), "--port", "0", *options),
        ],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=90,
    )


def app_with(body: str) -> str:
    return "import azure.functions as func\napp = func.FunctionApp()\n" + textwrap.dedent(body)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("import nosuchmodule", "nosuchmodule"),
        ("import sys; sys.exit(7)", "cannot be imported"),
        ("app = 1", "no FunctionApp"),
        (app_with("other = func.FunctionApp()"), "several FunctionApps"),
        (
            app_with("""
            @app.route("x")
            def f(req: func.HttpRequest) -> str: ...
            @app.route("y")
            def f(req: func.HttpRequest) -> str: ...
            """),
            "unique function name",
        ),
        (
            app_with("""
            @app.queue_trigger(arg_name="m", queue_name="q", connection="c")
            def f(m: func.QueueMessage): ...
            """),
            "function f: the binding type 'queueTrigger' is not supported",
        ),
        (
            app_with("""
            @app.route("x")
            @app.service_bus_queue_output(arg_name="out", queue_name="q", connection="c")
            def f(req: func.HttpRequest, out: func.Out[str]) -> str: ...
            """),
            "function f: the output binding 'out' of type 'serviceBus' is not supported",
        ),
        (
            app_with("""
            @app.service_bus_queue_trigger(arg_name="m", queue_name="%Q%", connection="Bus")
            def f(m: func.ServiceBusMessage): ...
            """),
            "function f, binding 'm', queueName: the setting 'Q'",
        ),
        (
            app_with("""
            @app.service_bus_queue_trigger(arg_name="m", queue_name="q", connection="Bus")
            def f(m: func.ServiceBusMessage): ...
            """),
            "function f, connection: neither the setting Bus",
        ),
        (
            app_with("""
            @app.service_bus_queue_trigger(
                arg_name="m", queue_name="q", connection="Bus", is_sessions_enabled=True)
            def f(m: func.ServiceBusMessage): ...
            """),
            "is_sessions_enabled",
        ),
        (
            app_with("""
            @app.route("x")
            def F(req: func.HttpRequest) -> str: ...
            @app.route("y")
            def f(req: func.HttpRequest) -> str: ...
            """),
            "functions F and f differ in case only",
        ),
        (
            app_with("""
            @app.function_name("../x")
            @app.route("x")
            def f(req: func.HttpRequest) -> str: ...
            """),
            "function '../x': a name starts with",
        ),
        (
            app_with("""
            @app.timer_trigger(arg_name="t", schedule="sometimes")
            def f(t: func.TimerRequest): ...
            """),
            "function f, schedule",
        ),
    ],
)
def test_a_wrong_app_is_exit_2_with_the_reason_and_no_stack_of_the_host(
    tmp_path: Path, source: str, named: str
) -> None:
    result = run(write_app(tmp_path, source))
    assert result.returncode == 2
    assert named in result.stderr
    assert "infra/local/functions_host/__main__" not in result.stderr
    assert result.stdout == ""


def test_a_connection_string_is_never_shown(tmp_path: Path) -> None:
    app = write_app(
        tmp_path,
        app_with("""
        @app.service_bus_queue_trigger(arg_name="m", queue_name="q", connection="Bus")
        def f(m: func.ServiceBusMessage): ...
        """),
    )
    result = run(app, Bus="Endpoint=;SharedAccessKeyName=x;SharedAccessKey=topsecret")
    assert result.returncode == 2
    assert "function f: wrong setting: Bus: names no Endpoint" in result.stderr
    assert "topsecret" not in result.stderr


def test_a_directory_without_an_app_is_exit_2(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.returncode == 2
    assert "host.json" in result.stderr


def test_a_taken_port_is_exit_2_and_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(write_app(tmp_path, HELLO), "--port", str(port))
    assert result.returncode == 2
    assert f"127.0.0.1:{port}" in result.stderr


def test_the_ready_line_tells_url_and_functions(
    tmp_path: Path, functions_host: HostFactory
) -> None:
    source = "print('importing')\n" + HELLO
    source += """
@app.timer_trigger(arg_name="t", schedule="0 0 0 * * *")
def tick(t: func.TimerRequest): ...

@app.route("off")
def off(req: func.HttpRequest) -> str: ...

@app.queue_trigger(arg_name="m", queue_name="%NOT_SET%", connection="c")
def unsupported(m: func.QueueMessage): ...
"""
    host = functions_host(
        write_app(tmp_path / "app", source),
        {"AzureWebJobs.off.Disabled": "true", "AzureWebJobs__unsupported__Disabled": "1"},
    )
    assert host.ready["functions"] == [
        {"name": "hello", "trigger": "http", "route": "/api/hello", "methods": None},
        {"name": "tick", "trigger": "timer", "schedule": "0 0 0 * * *"},
        {
            "name": "off",
            "trigger": "http",
            "route": "/api/off",
            "methods": None,
            "disabled": True,
        },
    ]
    assert host.ready["url"].startswith("http://127.0.0.1:")
    assert "on Azure these need one: hello" in host.log  # keys


async def test_settings_reach_the_app_and_the_environment_wins(
    tmp_path: Path, functions_host: HostFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = functions_host(write_app(tmp_path / "app", HELLO), {"GREETING": "from the file"})
    async with aiohttp.ClientSession(host.url) as client:
        async with client.get("/api/hello") as response:
            assert await response.text() == "from the file"
        monkeypatch.setenv("GREETING", "from the environment")
        host.restart()
        async with client.get("/api/hello") as response:
            assert await response.text() == "from the environment"


async def test_sigterm_lets_running_functions_finish(
    tmp_path: Path, functions_host: HostFactory
) -> None:
    host = functions_host(write_app(tmp_path / "app", SLOW))
    async with aiohttp.ClientSession(host.url) as client:
        nap = asyncio.create_task(_text(client, "/api/nap?s=0.6"))
        await asyncio.to_thread(host.wait_for_output, "napping")
        assert host.process is not None
        host.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(host.wait_for_log, "stopping")
        with pytest.raises(aiohttp.ClientConnectionError):
            await _text(client, "/api/nap?s=0")  # nothing new
        assert await nap == "rested"
    assert await asyncio.to_thread(host.wait) == 0


@pytest.mark.parametrize("function", ["nap", "block"])
async def test_after_the_grace_the_host_leaves(
    tmp_path: Path, functions_host: HostFactory, function: str
) -> None:
    host = functions_host(write_app(tmp_path / "app", SLOW), {}, "--grace", "0.3")
    async with aiohttp.ClientSession(host.url) as client:
        nap = asyncio.create_task(_text(client, f"/api/{function}?s=60"))
        await asyncio.to_thread(host.wait_for_output, "ing\n")
        started = time.monotonic()
        assert await asyncio.to_thread(host.stop) == 0
        assert time.monotonic() - started < 30
        with pytest.raises(aiohttp.ClientError):
            await nap
    assert "still run" in host.log


async def test_a_second_signal_ends_the_host_at_once(
    tmp_path: Path, functions_host: HostFactory
) -> None:
    host = functions_host(write_app(tmp_path / "app", SLOW))
    async with aiohttp.ClientSession(host.url) as client:
        nap = asyncio.create_task(_text(client, "/api/nap?s=60"))
        await asyncio.to_thread(host.wait_for_output, "napping")
        assert host.process is not None
        host.process.send_signal(signal.SIGINT)
        await asyncio.to_thread(host.wait_for_log, "stopping")
        host.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(host.wait) == 128 + signal.SIGINT
        with pytest.raises(aiohttp.ClientError):
            await nap


def test_timers_run_and_remember_across_restarts(
    tmp_path: Path, functions_host: HostFactory
) -> None:
    source = """
    import azure.functions as func
    app = func.FunctionApp()

    @app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *", run_on_startup=True)
    def tick(timer: func.TimerRequest):
        print("tick", timer.past_due, timer.schedule_status["Last"] is None, flush=True)
    """
    state = tmp_path / "state"
    host = functions_host(write_app(tmp_path / "app", source), {}, "--state-dir", str(state))
    host.wait_for_output("tick False True")
    _wait_for_file(state / "tick.timer.json")
    host.restart()
    host.wait_for_output("tick False False")
    host.kill()
    status = json.loads((state / "tick.timer.json").read_text())
    (state / "tick.timer.json").write_text(
        json.dumps({**status, "Next": "2020-01-01T00:00:00+00:00"})
    )
    host.start()
    host.wait_for_output("tick True False")


async def test_admin_lists_and_runs_functions(tmp_path: Path, functions_host: HostFactory) -> None:
    source = """
    import os, typing
    import azure.functions as func
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    @app.route("hello")
    def hello(req: func.HttpRequest) -> str:
        return "x"

    @app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
    def tick(timer: func.TimerRequest):
        print(f"tick {timer.past_due}", flush=True)

    @app.service_bus_queue_trigger(arg_name="message", queue_name="q", connection="Bus")
    async def one(message: func.ServiceBusMessage):
        print(f"one {message.get_body()}", flush=True)

    @app.service_bus_queue_trigger(
        arg_name="messages", queue_name="q", connection="Bus", cardinality="many")
    async def many(messages: typing.List[func.ServiceBusMessage]):
        print(f"many {[message.get_body() for message in messages]}", flush=True)
    """
    # No broker answers here: HTTP must work all the same.
    bus = "Endpoint=sb://127.0.0.1:9;SharedAccessKeyName=k;SharedAccessKey=c2VjcmV0;"
    bus += "UseDevelopmentEmulator=true;"
    host = functions_host(write_app(tmp_path / "app", source), {"Bus": bus})
    async with aiohttp.ClientSession(host.url) as client:
        async with client.get("/admin/host/status") as response:
            assert (await response.json())["state"] == "Running"
        async with client.get("/admin/functions") as response:
            names = [function["name"] for function in await response.json()]
            assert names == ["hello", "tick", "one", "many"]
        for name in ("tick", "one", "MANY"):
            async with client.post(f"/admin/functions/{name}", json={"input": "hi"}) as response:
                assert (response.status, await response.text()) == (202, "")
        host.wait_for_output("tick False")
        host.wait_for_output("one b'hi'")
        host.wait_for_output("many [b'hi']")

        async def status(method: str, path: str, **options: object) -> int:
            async with client.request(method, path, **options) as response:  # type: ignore[arg-type]
                return response.status

        tick = "/admin/functions/tick"
        assert await status("POST", tick, data=b"{}") == 415
        assert await status("POST", tick, data=b"{", headers=JSON) == 400
        assert await status("POST", tick, data=b"x" * 2_000_000, headers=JSON) == 400
        assert await status("POST", "/admin/functions/hello", json={}) == 400
        assert await status("POST", "/admin/functions/nosuch", json={}) == 404
        assert await status("GET", "/admin") == 404
        assert await status("GET", "/Admin/host/status/x") == 404
        # A page in a browser that resolves its own name to this machine.
        assert await status("GET", "/admin/functions", headers={"Host": "evil.example"}) == 403
        assert await status("GET", "/api/hello", headers={"Host": "evil.example"}) == 200


@pytest.mark.skipif(
    shutil.which("ip") is None and not Path("/proc/net/fib_trie").exists(),
    reason="needs a way to find this machine's address",
)
async def test_admin_is_closed_to_other_machines(
    tmp_path: Path, functions_host: HostFactory
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("203.0.113.1", 9))  # sends nothing; picks the outgoing address
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address = probe.getsockname()[0]
    host = functions_host(write_app(tmp_path / "app", HELLO), {}, "--bind", "0.0.0.0")
    port = host.url.rpartition(":")[2]
    headers = {"Host": "localhost"}
    async with aiohttp.ClientSession(f"http://{address}:{port}", headers=headers) as client:
        async with client.get("/admin/functions") as response:
            assert response.status == 403
        async with client.get("/api/hello") as response:
            assert response.status == 200


JSON = {"Content-Type": "application/json"}


async def _text(client: aiohttp.ClientSession, path: str) -> str:
    async with client.get(path) as response:
        return await response.text()


def _wait_for_file(path: Path, timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)
