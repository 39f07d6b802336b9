"""Backing up and restoring the embedded PostgreSQL.

A physical backup is what Azure keeps, too: a copy of the cluster's files and the write-ahead log
since then, which can be replayed up to any moment. A dump holds one moment and can be restored into
any cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import psycopg

from infra.local.postgres.cluster import environment
from infra.local.postgres.files import Files, change_owner, locate
from infra.local.stack.child import Child

_RECOVERY = """
# The write-ahead log is in pg_wal already; there is no archive.
restore_command = 'false'
recovery_target_action = 'promote'
# No connections before the last change is restored.
hot_standby = 'off'
"""


class DrillError(Exception):
    """A step of the drill failed; the message says which and why."""


class Server:
    """The stack's PostgreSQL server and its files."""

    def __init__(self, data_dir: Path, child: Child, admin_url: str) -> None:
        self.admin_url = admin_url
        self._files: Files = locate(data_dir)
        self._child = child

    @property
    def data(self) -> Path:
        """The cluster's files."""
        return self._files.data

    async def now(self) -> datetime:
        """The server's time."""
        async with await psycopg.AsyncConnection.connect(self.admin_url) as connection:
            cursor = await connection.execute("select clock_timestamp()")
            [moment] = await cursor.fetchone() or [None]
        if not isinstance(moment, datetime):
            raise DrillError("the server did not return its time")
        return moment

    async def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs and wait for it.

        Raises:
            DrillError: it failed.
        """
        process = await self.spawn(program, *arguments)
        _, errors = await process.communicate()
        if process.returncode:
            raise DrillError(f"{program}: {errors.decode(errors='replace').strip()[-2000:]}")

    async def spawn(self, program: str, *arguments: str) -> asyncio.subprocess.Process:
        """Start one of PostgreSQL's programs."""
        return await asyncio.create_subprocess_exec(
            *(str(self._files.bin / program), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )

    async def lose(self) -> None:
        """Kill the server and delete all its files, to simulate the loss of its disk."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        await self._child.ended()
        await asyncio.to_thread(shutil.rmtree, self.data)

    async def put_files(self, base: Path) -> None:
        """Copy the files of a backup to the server's data directory."""
        await asyncio.to_thread(shutil.copytree, base, self.data, symlinks=True)
        self.data.chmod(0o700)
        if self._files.owner is not None:
            await asyncio.to_thread(change_owner, self._files.owner, self.data)

    async def start(self, seconds: float = 300) -> None:
        """Start the server and wait until it accepts connections; without files, it is empty."""
        await self._child.start(seconds)


class PhysicalBackup:
    """A copy of the cluster in ``folder``, and the write-ahead log since then."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._base = folder / "base"
        self._wal = folder / "wal"

    @contextlib.asynccontextmanager
    async def recording(self) -> AsyncIterator[None]:
        """Copy the cluster, and receive the log until the block or the server ends."""
        self._wal.mkdir(parents=True)
        url = f"--dbname={self._server.admin_url}"
        slot = ("--slot=drill", "--if-not-exists")
        await self._server.run("pg_receivewal", url, *slot, "--create-slot")
        following = ("--slot=drill", f"--directory={self._wal}", "--synchronous", "--no-loop")
        receiver = await self._server.spawn("pg_receivewal", url, *following)
        try:
            copying = ("--wal-method=none", "--checkpoint=fast", "--no-manifest")
            await self._server.run("pg_basebackup", url, f"--pgdata={self._base}", *copying)
            yield
        finally:
            if receiver.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    receiver.terminate()
            await receiver.communicate()

    async def restore(self, until: datetime | None = None) -> None:
        """Restore the copy and replay the log, all of it or up to ``until``."""
        await self._server.put_files(await asyncio.to_thread(self._prepared, until))
        await self._server.start()

    def size(self) -> int:
        """Size of the copy and the log, in bytes."""
        return _size(self._base) + _size(self._wal)

    def _prepared(self, until: datetime | None) -> Path:
        for segment in self._wal.iterdir():
            # The segment that was being written is valid as well; its rest is zeros.
            shutil.copy2(segment, self._base / "pg_wal" / segment.name.removesuffix(".partial"))
        target = "" if until is None else f"recovery_target_time = '{until.isoformat()}'\n"
        with (self._base / "postgresql.auto.conf").open("a") as settings:
            settings.write(_RECOVERY + target)
        (self._base / "recovery.signal").touch()
        return self._base


class Dump:
    """The whole database at one moment, as one file."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._file = folder / "qlp.dump"

    async def take(self) -> None:
        """Write the file while the application keeps working."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        url = f"--dbname={self._server.admin_url}"
        await self._server.run("pg_dump", url, "--format=custom", f"--file={self._file}")

    async def restore(self) -> None:
        """Create a new cluster and load the file in one transaction."""
        await self._server.start()
        url = f"--dbname={self._server.admin_url}"
        filling = ("--single-transaction", "--exit-on-error")
        await self._server.run("pg_restore", url, *filling, str(self._file))

    def size(self) -> int:
        """Size of the file, in bytes."""
        return self._file.stat().st_size


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
