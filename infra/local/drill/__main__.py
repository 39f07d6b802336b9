"""``python -m infra.local.drill``: delete the database of a separate stack, restore it, measure."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local.drill.backup import DrillError
from infra.local.drill.scenarios import Drill, Figures
from infra.local.stack.config import StackConfig, StackError
from infra.local.stack.stack import LocalStack

SCENARIOS = ("disaster", "mistake", "move")


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


async def drill(scenario: str, seconds: float, clients: int, pause: float = 0) -> Figures:
    """Run one scenario on a separate stack, on free ports; the stack is deleted afterwards.

    Args:
        scenario: one of `SCENARIOS`.
        seconds: how long clients submit before the database is deleted.
        clients: how many clients submit, one intent after the other, until the service accepts
            intents again.
        pause: seconds that a client waits after each accepted intent.

    Raises:
        DrillError: a step failed.
        StackError: the stack did not start.
    """
    with _folder() as folder:
        ports = {"QLP_HTTP_PORT": "0", "QLP_AMQP_PORT": "0"}
        environment = {**os.environ, **ports, "QLP_DATA_DIR": str(folder), "QLP_DATABASE_URL": ""}
        stack = LocalStack(StackConfig.from_environment(environment), lambda _name, _seconds: None)
        async with stack.running() as endpoints:
            steps = Drill(stack, endpoints, folder, seconds, clients, pause, _log)
            run = {"disaster": steps.disaster, "mistake": steps.mistake, "move": steps.move}
            return await run[scenario]()


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qlp-drill-") as made:
        folder = Path(made)
        folder.chmod(0o755)  # under root, PostgreSQL runs as another account
        yield folder


def main() -> int:
    """Run the scenarios and print the figures of each as a line of JSON."""
    parser = argparse.ArgumentParser("infra.local.drill", description=__doc__)
    parser.add_argument(
        "scenarios",
        nargs="*",
        choices=[*SCENARIOS, []],
        metavar="|".join(SCENARIOS),
        help="default: all",
    )
    parser.add_argument(
        "--seconds", type=float, default=10, help="of load before the loss (default: 10)"
    )
    parser.add_argument("--clients", type=int, default=4, help="how many submit (default: 4)")
    parser.add_argument(
        "--pause", type=float, default=0, help="seconds between a client's intents (default: 0)"
    )
    given = parser.parse_args()
    for scenario in given.scenarios or SCENARIOS:
        _log(f"--- {scenario}")
        try:
            figures = asyncio.run(drill(scenario, given.seconds, given.clients, given.pause))
        except (DrillError, StackError) as error:
            _log(f"failed: {error}")
            return 1
        except KeyboardInterrupt:
            _log("interrupted; the drill's stack is deleted")
            return 130
        print(json.dumps(figures.as_dict()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
