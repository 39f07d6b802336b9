"""``python -m infra.pipeline``: the steps of the deployment pipeline, one command each."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from domain.contracts.redaction import guard, redact
from domain.database.migrate import MigrationError, migrate
from infra.pipeline.azure import Site, database_token, read_secret, set_image
from infra.pipeline.checks import CheckResult, run_checks
from infra.pipeline.client import (
    KEY_VARIABLE,
    Client,
    PipelineError,
    key_from_environment,
)
from infra.pipeline.notice import notice
from infra.pipeline.package import make_package
from infra.pipeline.performance import Limits, measure
from infra.pipeline.plan_summary import summarise
from infra.pipeline.release import release

#: Exit codes: a step failed; arguments or inputs are wrong; a plan destroys data.
FAILED, WRONG_INPUT, DESTRUCTIVE = 1, 2, 3


def _say(line: str) -> None:
    print(redact(line), file=sys.stderr, flush=True)


def _show(result: CheckResult) -> None:
    mark = "FAILED" if result.problem else "ok"
    _say(f"{mark:7}{result.name} ({result.seconds:.1f} s)")
    if result.problem:
        _say(f"       {result.problem}")


async def _wait_healthy(given: argparse.Namespace) -> int:
    async with Client.connect(given.url) as client:
        reply = await client.wait_healthy(given.seconds, degraded_is_fine=given.degraded_is_fine)
    _print(reply.body)
    return 0


async def _verify(url: str, key: str, seconds: float) -> None:
    async with Client.connect(url, key) as client:
        await client.wait_healthy(seconds)
        results = await run_checks(client, _show)
    failed = [result.name for result in results if result.problem]
    if failed:
        raise PipelineError(f"{len(failed)} of {len(results)} checks failed: {'; '.join(failed)}")


async def _check(given: argparse.Namespace) -> int:
    await _verify(given.url, key_from_environment(), given.seconds)
    return 0


async def _performance(given: argparse.Namespace) -> int:
    def progress(done: int) -> None:
        if done % max(1, given.count // 10) == 0:
            _say(f"{done} of {given.count}")

    async with Client.connect(given.url, key_from_environment()) as client:
        figures = await measure(client, given.count, given.concurrency, progress)
    broken = Limits(given.accept_ms, given.succeed_ms).broken_by(figures)
    _print({**figures.as_dict(), "broken": broken})
    return FAILED if broken else 0


async def _release(given: argparse.Namespace) -> int:
    key = key_from_environment()
    await release(
        given.site, given.resource_group, lambda: _verify(given.url, key, given.seconds), _say
    )
    return 0


async def _set_image(given: argparse.Namespace) -> int:
    await set_image(given.site, given.resource_group, given.image)
    return 0


async def _read_key(given: argparse.Namespace) -> int:
    key = await read_secret(given.vault, given.secret)
    if not key or any(character.isspace() for character in key):
        raise PipelineError(f"{given.secret}: is not an API key")
    _export_key(key)
    return 0


def _export_key(key: str) -> None:
    """Pass a key to the workflow's later steps; GitHub masks it in every log."""
    print(f"::add-mask::{key}", flush=True)
    with Path(os.environ["GITHUB_ENV"]).open("a") as environment:
        environment.write(f"{KEY_VARIABLE}={key}\n")


async def _migrate(given: argparse.Namespace) -> int:
    """Migrate as the owner, with an access token as password."""
    owner = make_conninfo(
        host=given.host,
        port=given.port,
        dbname=given.database,
        user=given.owner,
        password=await database_token(),
        sslmode=given.sslmode,
        sslrootcert="system" if given.sslmode == "verify-full" else None,
    )
    try:
        applied = await migrate(owner, progress=_say)
    except (psycopg.Error, MigrationError) as error:
        raise PipelineError(f"migrate {given.database} on {given.host}: {error}") from None
    _print({"applied": applied})
    return 0


async def _package(given: argparse.Namespace) -> int:
    count = make_package(given.target, given.python, tuple(given.platform))
    _say(f"{given.target}: {count} files, {given.target.stat().st_size / 1e6:.1f} MB")
    return 0


async def _plan_summary(given: argparse.Namespace) -> int:
    summary = summarise(_json_file(given.plan))
    print(summary.markdown(), end="")
    if summary.destructive and not given.allow_destroy:
        _say("the plan destroys data; to approve that, use --allow-destroy")
        return DESTRUCTIVE
    return 0


async def _notice(given: argparse.Namespace) -> int:
    jobs = json.loads(os.environ.get("JOBS", ""))
    _print(notice(given.title, jobs, given.link))
    return 0


def _json_file(path: Path) -> Any:  # noqa: ANN401 whatever the file holds
    return json.loads(path.read_text())


def _print(document: object) -> None:
    print(json.dumps(document, ensure_ascii=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.pipeline", description="The steps of the deployment pipeline."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str, *, url: bool = True) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        if url:
            made.add_argument("--url", required=True, help="URL of the deployment, without /api")
            made.add_argument(
                "--seconds", type=float, default=300, help="time to become healthy (default: 300)"
            )
        return made

    healthy = command("wait-healthy", _wait_healthy, "Wait until /api/health says ok.")
    healthy.add_argument("--degraded-is-fine", action="store_true", help="accept degraded as well")
    command(
        "check", _check, "Run integration tests against a deployment, with the key in QLP_API_KEY."
    )
    speed = command("performance", _performance, "Measure latencies, and compare them with limits.")
    speed.add_argument(
        "--count", type=_positive, default=50, help="intents to submit (default: 50)"
    )
    speed.add_argument(
        "--concurrency", type=_positive, default=4, help="intents at a time (default: 4)"
    )
    speed.add_argument(
        "--accept-ms",
        type=float,
        default=500,
        help="limit of the p95 of POST /intents (default: 500)",
    )
    speed.add_argument(
        "--succeed-ms",
        type=float,
        default=5000,
        help="limit of the p95 until success (default: 5000)",
    )
    swap = command("release", _release, "Swap slots, check production, swap back if it fails.")
    swap.add_argument("--resource-group", required=True)
    swap.add_argument(
        "--site",
        action="append",
        required=True,
        type=_site,
        help="functionapp:NAME:SLOT or webapp:NAME:SLOT; repeat in the order of swapping",
    )
    image = command("set-image", _set_image, "Put an image into a slot.", url=False)
    image.add_argument("--resource-group", required=True)
    image.add_argument("--site", required=True, type=_site, help="webapp:NAME:SLOT")
    image.add_argument("--image", required=True, help="NAME@sha256:DIGEST")
    key = command("read-key", _read_key, "Pass the test tenant's key to later steps.", url=False)
    key.add_argument("--vault", required=True)
    key.add_argument("--secret", default="test-tenant-api-key")
    owner = command("migrate", _migrate, "Apply pending migrations, as the owner.", url=False)
    owner.add_argument("--host", required=True)
    owner.add_argument("--port", type=int, default=5432)
    owner.add_argument(
        "--owner", required=True, help="the identity that is signed in, which owns the tables"
    )
    owner.add_argument("--database", default="qlp")
    owner.add_argument("--sslmode", default="verify-full", help="default: verify-full")
    made = command("package", _package, "Write the function app's package.", url=False)
    made.add_argument("target", type=Path)
    made.add_argument(
        "--python", default="3.11", help="Python version of the function app (default: 3.11)"
    )
    made.add_argument(
        "--platform",
        action="append",
        default=["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"],
        help="a further platform tag of wheels",
    )
    plan = command("plan-summary", _plan_summary, "Summarise a Terraform plan.", url=False)
    plan.add_argument("plan", type=Path, help="output of terraform show -json")
    plan.add_argument("--allow-destroy", action="store_true", help="accept that data is destroyed")
    message = command(
        "notice", _notice, "Print a Slack message; JOBS holds the needs context as JSON.", url=False
    )
    message.add_argument("--title", required=True)
    message.add_argument("--link", required=True)
    return parser


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError("a number from 1 to 10000")
    return int(text)


def _site(text: str) -> Site:
    try:
        return Site.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    given = _parser().parse_args(arguments)
    guard(os.environ)
    try:
        return int(asyncio.run(given.run(given)))
    except PipelineError as error:
        _say(f"failed: {error}")
        return FAILED
    except (OSError, ValueError) as error:
        _say(f"wrong input: {error}")
        return WRONG_INPUT
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
