"""Starting, watching and stopping the embedded PostgreSQL's server process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from infra.local.postgres.cluster import HOST, SETTINGS, environment, run_as
from infra.local.postgres.files import EmbeddedPostgresError, Files

START_SECONDS = 60.0
STOP_SECONDS = 30.0
MAX_LOG_BYTES = 8 * 1024**2

#: Pause between looks at the status line, and at a process that is not our child.
POLL_SECONDS = 0.01


class PortTaken(EmbeddedPostgresError):
    """Another program already listens on the port."""


def launch(files: Files, port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start the server and wait until it accepts connections; it writes to ``log``.

    Raises:
        PortTaken: the port is in use.
        EmbeddedPostgresError: it did not start; with the end of its log.
    """
    deadline = time.monotonic() + START_SECONDS
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.unlink()
    command = [str(files.bin / "postgres"), "-D", str(files.data), "-p", str(port)]
    command += [f"--{name}={value}" for name, value in SETTINGS.items()]
    while True:
        log_start = log.stat().st_size if log.exists() else 0
        log.touch(mode=0o600)
        with log.open("ab") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=environment(),
                cwd="/",
                **run_as(files.owner),
            )
        try:
            if _becomes_ready(process, files.data, deadline):
                return process
        except BaseException:
            end_at_once(process)
            raise
        end_at_once(process)
        with log.open("rb") as written:
            written.seek(log_start)
            log_text = written.read(MAX_LOG_BYTES).decode(errors="replace")
        # Backends of a server that was killed end slightly later than the server.
        if "is still in use" not in log_text or time.monotonic() > deadline:
            raise _failure(log_text, port)
        time.sleep(POLL_SECONDS)


def _failure(log_text: str, port: int) -> EmbeddedPostgresError:
    if "Address already in use" in log_text:
        return PortTaken(f"port {port} on {HOST} is in use: choose another port")
    return EmbeddedPostgresError(f"PostgreSQL did not start: {log_text.strip()[-2000:]}")


def end_at_once(process: subprocess.Popen[bytes]) -> None:
    """Stop a server immediately, with SIGQUIT; it may have ended already."""
    if process.poll() is None:
        process.send_signal(signal.SIGQUIT)
        wait_or_kill(process)


def _becomes_ready(process: subprocess.Popen[bytes], data: Path, deadline: float) -> bool:
    """Wait for the status "ready" in postmaster.pid, as pg_ctl does.

    Returns:
        False if the process ended or ``deadline`` (of `time.monotonic`) passed.
    """
    pid_file = data / "postmaster.pid"
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            lines = pid_file.read_text().splitlines()
            if len(lines) > 7 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                return True
        time.sleep(POLL_SECONDS)
    return False


def wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that has been told to stop.

    Raises:
        EmbeddedPostgresError: it did not stop within `STOP_SECONDS`, and was killed.
    """
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise EmbeddedPostgresError(
            f"PostgreSQL did not stop within {STOP_SECONDS:.0f} s and was killed; "
            "it will recover at the next start"
        ) from None


def remove_leftover(data: Path) -> None:
    """Stop the server that a killed supervisor left running, and delete its pid file.

    The caller holds the supervisor's lock, so a server on ``data`` has no supervisor.

    Raises:
        EmbeddedPostgresError: the server does not stop.
    """
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().splitlines()[0])
    except (FileNotFoundError, IndexError, ValueError):
        pid_file.unlink(missing_ok=True)
        return
    if _serves(pid, data):
        os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + STOP_SECONDS
    while _serves(pid, data):
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(
                f"PostgreSQL (process {pid}) still runs on {data} without a supervisor: stop it"
            )
        time.sleep(POLL_SECONDS)
    # Another process may have this id by now, and PostgreSQL would take it for a running server.
    pid_file.unlink(missing_ok=True)


def _serves(pid: int, data: Path) -> bool:
    """Whether process ``pid`` is a PostgreSQL server on ``data`` and not a zombie."""
    return os.fsencode(f"postgres -D {data} ") in _command_line(pid)


def _command_line(pid: int) -> bytes:
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        except (FileNotFoundError, ProcessLookupError):
            return b""
    command = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, check=False).stdout
