"""``python -m infra.local.servicebus``: run the broker until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import signal
import sys
from pathlib import Path

from infra.local.ports import port_argument
from infra.local.servicebus.broker.config import DEFAULT_CONFIG, ConfigError, load_config
from infra.local.servicebus.server import Broker

#: Enough file descriptors for the default limit of 10,000 connections.
_DESCRIPTORS = 10_240
_EPILOG = """\
When the broker is ready, it prints a line of JSON on standard output:
  {"ready": true, "port": 5672, "healthPort": 5673, "namespace": "qlp"}

Clients connect with the azure-servicebus SDK, unmodified:
  Endpoint=sb://127.0.0.1:PORT;SharedAccessKeyName=RootManageSharedAccessKey;\\
  SharedAccessKey=KEY;UseDevelopmentEmulator=true;
("true" must be in lower case, or the SDK uses TLS on port 5671.)

  curl http://127.0.0.1:HEALTH_PORT/health                  readiness and queue depths
  curl -X POST -H "Authorization: Bearer KEY" http://127.0.0.1:HEALTH_PORT/reset
                                                            drop all messages

Messages are kept in memory and lost when the broker stops.

Exit status: 0 after a signal, 2 if an option or the configuration is wrong or a port is taken.

Example:
  SERVICEBUS_KEY=$(openssl rand -hex 32) \\
    python -m infra.local.servicebus --port 5672 --key-env SERVICEBUS_KEY
"""


class _Refusal(Exception):
    """An error that is printed before exiting with status 2."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.servicebus",
        description="An embedded Azure Service Bus: queues and topics over AMQP 1.0.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        help="entities, in the emulator's format (default: those that Terraform deploys)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=port_argument, default=5672, help="AMQP port, 0 for any (%(default)s)"
    )
    parser.add_argument(
        "--health-port", type=port_argument, default=0, help="HTTP port, 0 for any (%(default)s)"
    )
    key = parser.add_mutually_exclusive_group(required=True)
    key.add_argument("--key-file", type=Path, help="file that holds the shared access key")
    key.add_argument("--key-env", metavar="VAR", help="environment variable that holds it")
    return parser


def _read_key(options: argparse.Namespace) -> str:
    if options.key_env is not None:
        key = os.environ.get(options.key_env, "")
        source = f"environment variable {options.key_env}"
    else:
        source = f"file {options.key_file}"
        try:
            key = options.key_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _Refusal(f"--key-file: {error}") from None
    if not key.strip():
        raise _Refusal(f"{source}: contains no key")
    return str(key.strip())


def _raise_descriptor_limit() -> None:
    """Raise the soft limit, usually 1024, on file descriptors, to allow many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if wanted > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            logging.warning("at most %d file descriptors are available: %s", soft, error)


async def _serve(options: argparse.Namespace) -> None:
    try:
        config = load_config(options.config)
    except ConfigError as error:
        raise _Refusal(f"configuration {options.config}: {error}") from None
    key = _read_key(options)
    try:
        broker = Broker(
            config, key, host=options.host, port=options.port, health_port=options.health_port
        )
    except ValueError as error:
        raise _Refusal(str(error)) from None
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    try:
        await broker.start()
    except OSError as error:
        raise _Refusal(
            f"cannot listen on {options.host}, port {options.port} or {options.health_port}: "
            f"{error.strerror or error}; choose others with --port and --health-port"
        ) from None
    ready = {
        "ready": True,
        "port": broker.port,
        "healthPort": broker.health_port,
        "namespace": config.name,
    }
    print(json.dumps(ready), flush=True)
    try:
        await stopping.wait()
    finally:
        await broker.stop()


def main(arguments: list[str] | None = None) -> int:
    """Run the broker; returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    _raise_descriptor_limit()
    try:
        asyncio.run(_serve(options))
    except _Refusal as refusal:
        print(f"servicebus: {refusal}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
