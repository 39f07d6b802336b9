"""An embedded PostgreSQL with pgvector: one server process, with its data in one directory.

It listens on 127.0.0.1 only and has no Unix socket. Its random passwords are kept beside the data
directory in ``<data_dir>.credentials.json`` (mode 0600). `infra.local.postgres.files` says where
the files are under root. The supervisor holds ``<data_dir>.lock`` while it runs the server; so the
next start recognises a server that a killed supervisor left running, and replaces it.
"""

from __future__ import annotations

import fcntl
import shutil
import signal
import subprocess
from pathlib import Path
from typing import IO
from urllib.parse import quote

from infra.local.ports import free_port, why_unusable
from infra.local.postgres.cluster import (
    ADMIN,
    APP_LOGIN,
    HOST,
    Passwords,
    create_database,
    create_roles,
    ensure_cluster,
    load_passwords,
)
from infra.local.postgres.files import EmbeddedPostgresError, Files, locate
from infra.local.postgres.process import (
    PortTaken,
    end_at_once,
    launch,
    remove_leftover,
    wait_or_kill,
)


class DataDirInUse(EmbeddedPostgresError):
    """Another process runs a server on the data directory."""


class EmbeddedPostgres:
    """One server with one data directory; not for use by several threads at once.

    Args:
        data_dir: created at the first start, with its parents.
        port: None picks a free one at the first start; later starts of this object reuse it.
    """

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._files: Files | None = None
        self._lock: IO[str] | None = None
        self._passwords: Passwords = {}

    @property
    def port(self) -> int:
        """The TCP port; known once started."""
        if self._port is None:
            raise EmbeddedPostgresError("the port is chosen at the first start")
        return self._port

    @property
    def bin_dir(self) -> Path:
        """The directory of ``pg_dump`` and this server's other programs; known once started."""
        if self._files is None:
            raise EmbeddedPostgresError("the server has not been started")
        return self._files.bin

    @property
    def admin_url(self) -> str:
        """Connection URL of the superuser to the database ``postgres``."""
        return self.admin_url_for("postgres")

    def admin_url_for(self, database: str) -> str:
        """Connection URL of the superuser to ``database``: for migrations and operators."""
        return self._url(ADMIN, database)

    def app_url(self, database: str) -> str:
        """Connection URL of the application's login, a member of the role ``qlp_app``."""
        return self._url(APP_LOGIN, database)

    def start(self) -> None:
        """Start the server and wait until it accepts connections; does nothing if it runs.

        Raises:
            PortTaken: the port is in use.
            DataDirInUse: another process uses the data directory.
            EmbeddedPostgresError: it did not start, with the end of the server's log.
        """
        if self._process is not None and self._process.poll() is None:
            return
        self._acquire_lock()
        try:
            self._files = files = locate(self.data_dir)
            self._passwords = load_passwords(self._sibling("credentials.json"), files)
            ensure_cluster(files, self._passwords)
            remove_leftover(files.data)
            self._choose_port()
            self._process = launch(files, self.port, self._sibling("log"))
            create_roles(self.admin_url, self._passwords)
        except BaseException:
            self._abandon()
            raise

    def stop(self) -> None:
        """Shut down cleanly, ending all sessions; does nothing if it does not run.

        Raises:
            EmbeddedPostgresError: it did not stop in time and was killed.
        """
        process, self._process = self._process, None
        try:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGINT)
                wait_or_kill(process)
        finally:
            self._release_lock()

    def kill(self) -> None:
        """Kill the server, to simulate a crash; the next `start` recovers its data."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        self._release_lock()

    def wait(self) -> int:
        """Block until the server ends; returns its exit code."""
        return self._process.wait() if self._process else 0

    def destroy(self) -> None:
        """Stop the server and delete its data, wherever it is, and the files beside it."""
        self.stop()
        if self.data_dir.exists():
            shutil.rmtree(self.data_dir.resolve())
        if self.data_dir.is_symlink():
            self.data_dir.unlink()
        for suffix in ("credentials.json", "log", "lock"):
            self._sibling(suffix).unlink(missing_ok=True)

    def create_database(self, name: str) -> None:
        """Create an empty database ``name`` unless it exists."""
        create_database(self.admin_url, name)

    def _sibling(self, suffix: str) -> Path:
        return self.data_dir.with_name(f"{self.data_dir.name}.{suffix}")

    def _url(self, user: str, database: str) -> str:
        if user not in self._passwords:
            raise EmbeddedPostgresError("the server has not been started")
        name = quote(database, safe="")
        return (
            f"postgresql://{user}:{self._passwords[user]}@{HOST}:{self.port}/{name}?sslmode=disable"
        )

    def _acquire_lock(self) -> None:
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        self._sibling("lock").touch(mode=0o600)
        lock = self._sibling("lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise DataDirInUse(
                f"another process runs PostgreSQL on {self.data_dir}: "
                "stop it, or choose another data directory"
            ) from None
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _abandon(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            end_at_once(process)
        self._release_lock()

    def _choose_port(self) -> None:
        if self._port is None:
            self._port = free_port()
            return
        if (why := why_unusable(self._port)) is not None:
            raise PortTaken(
                f"port {self._port} on {HOST} cannot be used ({why}): "
                "stop what listens there, or choose another port"
            )
