"""Starts and stops the processes of the local stack."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import aiohttp
import psycopg

from domain.access.store import ApiKeys
from domain.database.migrate import MigrationError, migrate
from domain.database.pool import open_pool
from infra.local.functions_host.stopping import STOP_SECONDS as FUNCTIONS_STOP_SECONDS
from infra.local.ports import RememberedPorts, why_unusable
from infra.local.postgres.process import STOP_SECONDS as POSTGRES_STOP_SECONDS
from infra.local.postgres.server import EmbeddedPostgres
from infra.local.private_files import write_private
from infra.local.seal_key import new_seal_key
from infra.local.servicebus.connection_string import connection_string
from infra.local.stack.child import Child
from infra.local.stack.config import STACK_SETTINGS, StackConfig, StackError, WrongSetting
from infra.local.stack.foreign_database import Confirm, may_migrate
from infra.local.stack.interrupted import run_interrupted_again
from sandbox_host.settings import STOP_SECONDS as SANDBOX_STOP_SECONDS
from sandbox_host.settings import InvalidSettings, Settings

TENANT = "demo"

_START_SECONDS = 60.0
_HEALTH_SECONDS = 60.0
_POLL_SECONDS = 0.05
#: When the stack stops: how long programs may go on, unless it is set, and then functions.
_DRAIN_SECONDS, _GRACE_SECONDS = 5.0, 2.0
#: How long a sandbox host may take to say how many programs run.
_LOOK_SECONDS = 0.5
#: What the broker takes at most to stop; and for each part, the end of its process.
_BROKER_STOP_SECONDS, _EXIT_SECONDS = 3.0, 3.0
#: A part that ends 5 times within 120 seconds is not started again.
_MOST_ENDS, _ENDS_SECONDS = 5, 120.0
_FIRST_PAUSE = 0.25
#: Variables that children inherit from the environment of the user who starts the stack.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "DOCKER_HOST", "XDG_RUNTIME_DIR")

T = TypeVar("T")

#: Called with the name of each part once it is ready, and the seconds that it took.
OnReady = Callable[[str, float], None]

#: Called when all parts are about to be stopped, with the number of programs that run, and the
#: seconds for which these may go on.
OnStopping = Callable[[int, float], None]

#: Called with the name of a part that ended by itself, its exit code, and the end of its log.
OnEnded = Callable[[str, int, str], None]


def _decline(_question: str) -> bool:
    """The answer where there is no user to ask."""
    return False


@dataclass(frozen=True, slots=True)
class Database:
    """Connection URLs of the application's login and of the tables' owner."""

    app: str
    admin: str


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the parts of a running stack are reached.

    Attributes:
        http_url: base URL of the HTTP API, without ``/api``.
        service_bus: connection string for producers.
        database_url: the application's login, for operators.
        database_admin_url: the tables' owner.
        sandbox_url: base URL of the sandbox host's health endpoints.
        api_key: a key with the role operator of the tenant `TENANT`.
    """

    http_url: str
    service_bus: str
    database_url: str
    database_admin_url: str
    sandbox_url: str
    api_key: str


class LocalStack:
    """PostgreSQL, Service Bus, the sandbox host and the functions host.

    Ports are chosen before a process starts, so that a child that is started again listens where it
    did before. They are remembered, and stay the same when the stack itself is started again.

    Attributes:
        children: the running parts by name.
        stopping: whether the parts are being stopped.
    """

    def __init__(
        self,
        config: StackConfig,
        on_ready: OnReady,
        confirm: Confirm = _decline,
        on_stopping: OnStopping = lambda _programs, _seconds: None,
    ) -> None:
        """Prepare a stack; nothing is started.

        Args:
            config: its settings.
            on_ready: called for each part that is ready.
            confirm: asked before the schema is created in a database of the user's.
            on_stopping: called before its parts are stopped, if there are any.
        """
        self._config = config
        self._on_ready = on_ready
        self._confirm = confirm
        self._on_stopping = on_stopping
        self._drain_seconds = _DRAIN_SECONDS
        self._sandbox_health: str | None = None
        self._at_once = asyncio.Event()
        self._ports = RememberedPorts(config.data / "ports.json")
        self.children: dict[str, Child] = {}
        self.stopping = False
        self._lock: TextIOWrapper | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Endpoints]:
        """Start all parts, yield the endpoints once they are healthy, stop all parts.

        Raises:
            StackError: the stack runs already, a port is taken, or a part did not start.
        """
        self._take_lock()
        try:
            yield await self._start()
        finally:
            self.stopping = True
            if self.children:
                self._on_stopping(await self._programs(), self._drain_seconds)
            for child in reversed(self.children.values()):
                await self._stop(child)
            self._release_lock()

    def stop_at_once(self) -> None:
        """Kill all parts when they are stopped, except for the database, which ends in order."""
        self._at_once.set()

    async def _stop(self, child: Child) -> None:
        stopping = asyncio.create_task(child.stop())
        if child.name != "postgres":  # it stops quickly, and its server would outlive the kill
            at_once = asyncio.create_task(self._at_once.wait())
            await asyncio.wait({stopping, at_once}, return_when=asyncio.FIRST_COMPLETED)
            at_once.cancel()
            if not stopping.done():
                await child.kill()
        await stopping

    async def _programs(self) -> int:
        """How many programs run, so far as the sandbox host says so."""
        if self._sandbox_health is None:
            return 0
        timeout = aiohttp.ClientTimeout(total=_LOOK_SECONDS)
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with (
                aiohttp.ClientSession(timeout=timeout) as http,
                http.get(self._sandbox_health) as response,
            ):
                return int(json.loads(await response.read())["jobs"]["running"])
        return 0

    def check_removable(self) -> None:
        """Whether `destroy` would delete anything.

        Raises:
            StackError: the stack runs, or the folder does not belong to a stack.
        """
        self._take_lock_to_destroy()
        self._release_lock()

    async def destroy(self) -> None:
        """Delete everything that the stack has written, wherever it is.

        Raises:
            StackError: as of `check_removable`.
        """
        self._take_lock_to_destroy()
        try:
            postgres = EmbeddedPostgres(self._config.data / "postgres")
            await asyncio.to_thread(postgres.destroy)  # under root, the files may be elsewhere
            await asyncio.to_thread(shutil.rmtree, self._config.data)
        finally:
            self._release_lock()

    async def supervise(self, on_ended: OnEnded) -> None:
        """Restart every part that ends by itself, until cancelled.

        Raises:
            StackError: a part keeps ending.
        """
        tasks = [
            asyncio.create_task(_keep_running(child, on_ended)) for child in self.children.values()
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _start(self) -> Endpoints:
        _require_free(
            {"QLP_HTTP_PORT": self._config.http_port, "QLP_AMQP_PORT": self._config.amqp_port}
        )
        if self._config.database_url is not None:
            await may_migrate(self._config.database_url, self._confirm)
        postgres, bus = await asyncio.gather(
            self._timed("PostgreSQL", self._start_postgres()),
            self._timed("Service Bus", self._start_service_bus()),
        )
        # The functions host and the sandbox host each need the other's address to start.
        http_port = self._config.http_port or self._ports.of("http")
        sandbox_port = self._ports.of("sandbox")
        sandbox_url = f"http://127.0.0.1:{sandbox_port}"
        api_key, http_url, _ = await asyncio.gather(
            self._timed("schema and API key", self._prepare_database(postgres)),
            self._timed(
                "functions host", self._start_functions(postgres, bus, http_port, sandbox_url)
            ),
            self._timed("sandbox host", self._start_sandbox(bus, http_port, sandbox_port)),
        )
        if self._config.database_url is None:  # another's programs may be running elsewhere
            await run_interrupted_again(self._settings(postgres, bus, sandbox_url))
        await self._timed("health", self._wait_until_healthy(http_url, api_key))
        return Endpoints(http_url, bus, postgres.app, postgres.admin, sandbox_url, api_key)

    async def _timed(self, name: str, work: Awaitable[T]) -> T:
        started = monotonic()
        result = await work
        self._on_ready(name, monotonic() - started)
        return result

    async def _start_postgres(self) -> Database:
        if url := self._config.database_url:
            return Database(app=url, admin=url)
        data = str(self._config.data / "postgres")
        module = ["infra.local.postgres", "--data-dir", data]
        module += ["--port", str(self._ports.of("postgres"))]
        ready = await self._spawn("postgres", module, stop_seconds=POSTGRES_STOP_SECONDS)
        return Database(app=str(ready["app_url"]), admin=str(ready["admin_url"]))

    async def _start_service_bus(self) -> str:
        key_file = self._secret("servicebus-key")
        port = self._config.amqp_port or self._ports.of("amqp")
        ready = await self._spawn(
            "servicebus",
            [
                *("infra.local.servicebus", "--port", str(port)),
                *("--config", str(self._config.service_bus_config)),
                *("--key-file", str(key_file), "--health-port", "0"),
            ],
            stop_seconds=_BROKER_STOP_SECONDS,
        )
        return connection_string("127.0.0.1", ready["port"], key_file.read_text().strip())

    async def _start_functions(
        self, database: Database, bus: str, port: int, sandbox_url: str
    ) -> str:
        values = self._settings(database, bus, sandbox_url)
        lines = "".join(f"{name}='{value}'\n" for name, value in values.items())
        write_private(self._config.data / "env", lines)
        ready = await self._spawn(
            "functions",
            [
                *("infra.local.functions_host", "--app-dir", str(self._config.app)),
                *("--port", str(port), "--grace", str(_GRACE_SECONDS)),
            ],
            values,
            stop_seconds=_GRACE_SECONDS + FUNCTIONS_STOP_SECONDS,
        )
        return str(ready["url"]).rstrip("/")

    async def _start_sandbox(self, bus: str, app_port: int, port: int) -> None:
        values = {
            "QLP_SANDBOX_DRAIN_SECONDS": str(_DRAIN_SECONDS),
            **_environment("QLP_SANDBOX_"),
            "ServiceBusConnection": bus,
            "QLP_SANDBOX_APP_URL": f"http://127.0.0.1:{app_port}",
            "QLP_SANDBOX_HEALTH_PORT": str(port),
        }
        try:
            self._drain_seconds = Settings.from_environment(values).drain_seconds
        except InvalidSettings as error:
            raise WrongSetting(f"sandbox host: invalid setting: {error}") from None
        stop_seconds = self._drain_seconds + SANDBOX_STOP_SECONDS
        ready = await self._spawn("sandbox", ["sandbox_host"], values, stop_seconds=stop_seconds)
        self._sandbox_health = ready["health"]

    def _settings(self, database: Database, bus: str, sandbox_url: str) -> dict[str, str]:
        template = json.loads((self._config.root / "local.settings.template.json").read_text())
        values: dict[str, str] = dict(template["Values"])
        values.update(_environment("QLP_", "AzureWebJobs", "OPENAI_", "AZURE_OPENAI_"))
        values.update(
            DATABASE_URL=database.app,
            DATABASE_ADMIN_URL=database.admin,
            ServiceBusConnection=bus,
            QLP_SANDBOX_URL=sandbox_url,
            QLP_RUN_TOKEN_KEY=self._secret("run-token-key").read_text().strip(),
        )
        values.setdefault("QLP_SEAL_SIGNER", str(self._seal_key().absolute()))
        values.setdefault("QLP_SEAL_ANCHOR", str((self._config.data / "seals.jws").absolute()))
        return values

    async def _prepare_database(self, database: Database) -> str:
        await self._migrate(database.admin)
        pool = await open_pool(database.app, min_size=1, max_size=1, application_name="qlp-stack")
        try:
            keys = ApiKeys(pool)
            path = self._config.data / "api-key"
            if path.exists():
                key = path.read_text().strip()
                if await keys.verify(key) is not None:
                    return key
            await keys.ensure_tenant(TENANT)
            key = await keys.create(TENANT, "operator", "local stack")
        finally:
            await pool.close()
        write_private(path, key + "\n")
        return key

    async def _migrate(self, admin_url: str) -> None:
        foreign = self._config.database_url is not None
        named = "QLP_DATABASE_URL" if foreign else str(self._config.data / "postgres")
        try:
            await migrate(admin_url)
        except MigrationError as error:
            raise StackError(f"{named}: {error}") from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise StackError(
                f"{named}: this login may not do what the schema needs "
                f"({error.diag.message_primary}); use the URL of the tables' owner"
            ) from None
        except psycopg.Error as error:
            reason = error.diag.message_primary or type(error).__name__
            raise StackError(f"{named}: the schema cannot be created: {reason}") from None

    async def _wait_until_healthy(self, http_url: str, api_key: str) -> None:
        deadline = monotonic() + _HEALTH_SECONDS
        report: Any = None
        headers = {"X-API-Key": api_key}  # without a key, the answer has only the status
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while monotonic() < deadline:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"{http_url}/api/health", headers=headers) as response:
                        report = await response.json()
                        if report.get("status") == "ok":
                            return
                await asyncio.sleep(_POLL_SECONDS)
        log = self._config.data / "logs" / "functions.log"
        raise StackError(
            f"not healthy after {_HEALTH_SECONDS:g} s, see {log}: {json.dumps(report, indent=2)}"
        )

    async def _spawn(
        self,
        name: str,
        module: list[str],
        values: dict[str, str] | None = None,
        *,
        stop_seconds: float,
    ) -> dict[str, Any]:
        inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        child = Child(
            name,
            [sys.executable, "-m", *module],
            cwd=self._config.root,
            environment={**inherited, "PYTHONUNBUFFERED": "1", **(values or {})},
            log=self._config.data / "logs" / f"{name}.log",
            stop_seconds=stop_seconds + _EXIT_SECONDS,
        )
        self.children[name] = child
        return await child.start(_START_SECONDS)

    def _take_lock(
        self,
        advice: str = "set QLP_DATA_DIR, QLP_HTTP_PORT and QLP_AMQP_PORT to run another one",
    ) -> None:
        data = self._config.data
        try:
            if not data.is_dir():
                data.mkdir(parents=True)
                data.chmod(0o755)  # despite the umask: PostgreSQL's account enters it
            lock = data / "lock"
            lock.touch(mode=0o600)
            self._lock = lock.open("a+")
        except OSError as error:
            raise WrongSetting(f"QLP_DATA_DIR: {error.filename}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise StackError(f"the stack in {data} is running already; {advice}") from None

    def _take_lock_to_destroy(self) -> None:
        if not (self._config.data / "lock").is_file():
            raise StackError(f"{self._config.data} is not a stack's data; nothing was deleted")
        self._take_lock("stop it first")

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def _seal_key(self) -> Path:
        path = self._config.data / "seal.pem"
        if not path.exists():
            write_private(path, new_seal_key())
        return path

    def _secret(self, name: str) -> Path:
        path = self._config.data / name
        if not path.exists():
            write_private(path, secrets.token_urlsafe(32) + "\n")
        return path


def _environment(*prefixes: str) -> dict[str, str]:
    """The settings that begin with one of ``prefixes``, without those of the stack itself."""
    return {
        key: value
        for key, value in os.environ.items()
        if key.startswith(prefixes) and key not in STACK_SETTINGS
    }


async def _keep_running(child: Child, on_ended: OnEnded) -> None:
    ends: deque[float] = deque(maxlen=_MOST_ENDS)
    while True:
        code = await child.ended()
        on_ended(child.name, code, child.log_tail())
        ends.append(monotonic())
        if len(ends) == _MOST_ENDS and ends[-1] - ends[0] < _ENDS_SECONDS:
            raise StackError(f"{child.name} ended {_MOST_ENDS} times in a row; see {child.log}")
        await asyncio.sleep(_FIRST_PAUSE * 2 ** (len(ends) - 1))
        # A part that does not start again has ended, and counts as such in the next round.
        with contextlib.suppress(StackError):
            await child.start(_START_SECONDS)


def _require_free(ports: dict[str, int]) -> None:
    """Refuse ports that are taken, given by the names of their settings; names them all."""
    problems = {
        setting: f"port {port} cannot be used ({why})"
        for setting, port in ports.items()
        if (why := why_unusable(port)) is not None
    }
    if problems:
        raise StackError(
            f"{'; '.join(problems.values())}; choose others, or any free ones: "
            f"make up {' '.join(f'{setting}=0' for setting in problems)}"
        )
