"""Runs the operators' command line against a running stack."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import NamedTuple

from infra.local.stack.stack import Endpoints


class Completed(NamedTuple):
    """How a command ended: its exit status and what it printed."""

    status: int
    output: str
    errors: str


async def run_qlp(endpoints: Endpoints, *arguments: str) -> Completed:
    """Run ``qlp`` with ``arguments`` on the stack's database and wait for its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "domain.operations", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "DATABASE_URL": endpoints.database_url},
    )
    output, errors = await process.communicate()
    return Completed(process.returncode or 0, output.decode(), errors.decode())
