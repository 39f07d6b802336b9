"""Command line: ``python -m infra.local.functions_host --app-dir DIR --port N``.

When the host is ready, it prints a line of JSON to stdout: ``{"ready": true, "url": …,
"functions": […]}``. Logs go to stderr. Exit codes: 0 after SIGTERM or SIGINT, 2 if the app, its
settings or the port keep it from starting.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from domain.contracts.connections import CHECKS, connection_setting
from domain.contracts.redaction import guard, redact
from infra.local.functions_host import indexing, logs, settings
from infra.local.functions_host.errors import HostStartupError
from infra.local.functions_host.host import Address, FunctionsHost
from infra.local.functions_host.host_json import read_host_json
from infra.local.functions_host.settings import LocalSettings
from infra.local.ports import port_argument

DEFAULT_PORT = 7071  # as in Core Tools
DEFAULT_GRACE_SECONDS = 10.0

logger = logging.getLogger("infra.local.functions_host")


def main(arguments: list[str] | None = None) -> int:
    """Run the host in the foreground; returns the exit code."""
    options = _parse(arguments)
    logs.configure(options.log_level)
    try:
        local = _local_settings(options.app_dir, options.settings)
        settings.export(local.values, os.environ)
        guard(os.environ)
        _check_connections()
        config = read_host_json(options.app_dir / "host.json")
        functions = indexing.load(options.app_dir, os.environ)
        port = options.port if options.port is not None else local.http_port
        address = Address(options.bind, DEFAULT_PORT if port is None else port)

        async def serve() -> None:
            host = FunctionsHost(functions, config, os.environ, options.state_dir)
            await _serve(host, address, options.grace)

        asyncio.run(serve())
    except HostStartupError as error:
        print(redact(f"functions host: {error}"), file=sys.stderr, flush=True)
        return 2
    return 0


def _check_connections() -> None:
    """Check all connection settings that are set, whether the app uses them or not.

    Raises:
        HostStartupError: names the wrong setting, but not its value.
    """
    for name in CHECKS:
        try:
            connection_setting(os.environ, name)
        except ValueError as error:
            raise HostStartupError(f"wrong setting: {error}") from None


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("infra.local.functions_host", description=__doc__)
    parser.add_argument(
        "--app-dir", type=_absolute, required=True, help="directory of function_app.py"
    )
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=port_argument, help="0 picks a free one; default: 7071")
    parser.add_argument(
        "--settings", type=_absolute, help="default: local.settings.json in --app-dir, if it exists"
    )
    parser.add_argument(
        "--state-dir",
        type=_absolute,
        help="keeps timers across restarts; default: they are not kept",
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=DEFAULT_GRACE_SECONDS,
        help="seconds that running functions have to finish when the host stops",
    )
    parser.add_argument(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"]
    )
    return parser.parse_args(arguments)


def _absolute(text: str) -> Path:
    return Path(text).resolve()  # before indexing changes the working directory


def _local_settings(app_dir: Path, path: Path | None) -> LocalSettings:
    if path is not None:
        return settings.read_local_settings(path)
    default = app_dir / "local.settings.json"
    return settings.read_local_settings(default) if default.exists() else LocalSettings({})


async def _serve(host: FunctionsHost, address: Address, grace: float) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop, number)
    starting = asyncio.create_task(host.start(address))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        await starting
        ready = {"ready": True, "url": host.url, "functions": host.describe()}
        print(json.dumps(ready), flush=True)
        host.start_timers()
        await stopping
    logger.info("stopping; running functions have %g s to finish", grace)
    starting.cancel()
    await asyncio.wait([starting])
    await host.stop(grace)
    _leave_threads_behind()


def _on_signal(stop: asyncio.Event, number: int) -> None:
    if stop.is_set():
        os._exit(128 + number)  # a second signal ends the process immediately
    stop.set()


def _leave_threads_behind() -> None:
    """End the process even if a synchronous function still runs; Python would wait for it."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("function_")]
    for thread in threads:
        thread.join(0.2)
    late = [thread.name for thread in threads if thread.is_alive()]
    if late:
        logger.warning("%d synchronous functions still run and end with the process", len(late))
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
