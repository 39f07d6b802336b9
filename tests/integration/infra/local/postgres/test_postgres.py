"""The embedded PostgreSQL: starts anywhere, stops cleanly, survives what kills it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infra.local.postgres import files as postgres_files
from infra.local.postgres.files import EmbeddedPostgresError
from infra.local.postgres.process import PortTaken
from infra.local.postgres.server import DataDirInUse, EmbeddedPostgres
from tests.support import ROOT
from tests.support.postgres import Servers


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other accounts may enter, with a difficult name."""
    top = Path(tempfile.mkdtemp(prefix="qlp-test-"))
    top.chmod(0o711)
    difficult = top / "with spaces" / "ünïcödé ☃ 'quote'"
    difficult.mkdir(parents=True)
    yield difficult
    shutil.rmtree(top)


def query(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
    return row[0] if row else None


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits for its parent to notice does not."""
    told = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return told.stdout.strip()[:1] not in ("", "Z")


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postmaster.pid").read_text().splitlines()[0])


def test_it_starts_in_a_folder_with_any_name_and_keeps_its_data(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data")
    server.start()
    try:
        server.create_database("qlp")
        server.create_database("qlp")
        with psycopg.connect(server.admin_url_for("qlp"), autocommit=True) as connection:
            connection.execute("create extension vector")
            connection.execute("create table kept as select 42 as answer")
            before = server.admin_url_for("qlp")
        server.stop()
        server.stop()
        server.start()
        assert server.admin_url_for("qlp") == before
        assert query(before, "select answer from kept") == 42
    finally:
        server.destroy()
    assert list(folder.iterdir()) == []


def test_nobody_gets_in_without_the_password(servers: Servers) -> None:
    server = servers.start()
    for user in ("postgres", "qlp"):
        url = f"postgresql://{user}:guess@127.0.0.1:{server.port}/postgres"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(url)
    assert query(server.admin_url, "show listen_addresses") == "127.0.0.1"
    assert query(server.admin_url, "show unix_socket_directories") == ""
    assert query(server.admin_url, "show fsync") == "on"
    credentials = server.data_dir.with_name("data.credentials.json")
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    if os.geteuid() == 0:
        assert server.data_dir.stat().st_uid == postgres_files.SERVER_UID
    assert query(server.app_url("postgres"), "select current_setting('is_superuser')") == "off"


def test_a_killed_server_starts_again_with_what_was_committed(servers: Servers) -> None:
    server = servers.start()
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        connection.execute("create table kept as select 42 as answer")
        server.kill()
        server.start()
    assert query(server.admin_url, "select answer from kept") == 42


def test_a_pid_file_that_names_another_process_is_no_obstacle(servers: Servers) -> None:
    server = servers.start()
    server.kill()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        pid_file = server.data_dir / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        server.start()
        assert other.poll() is None
        assert query(server.admin_url, "select 1") == 1
    finally:
        other.kill()
        other.communicate()


def test_a_taken_port_is_named(servers: Servers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=str(port)):
            servers.start(port)


def test_two_servers_live_side_by_side_but_not_on_one_directory(servers: Servers) -> None:
    first, second = servers.start(), servers.start()
    assert first.port != second.port
    with pytest.raises(DataDirInUse, match="another process"):
        EmbeddedPostgres(first.data_dir).start()
    assert query(first.admin_url, "select 1") == query(second.admin_url, "select 1") == 1


def test_data_without_its_passwords_is_refused_with_the_way_out(servers: Servers) -> None:
    server = servers.start()
    server.stop()
    server.data_dir.with_name("data.credentials.json").unlink()
    with pytest.raises(EmbeddedPostgresError, match="restore it, or delete"):
        EmbeddedPostgres(server.data_dir).start()


def test_data_of_another_major_version_is_refused(servers: Servers) -> None:
    server = servers.start()
    server.stop()
    (server.data_dir / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedPostgresError, match="is of PostgreSQL 15"):
        server.start()


def test_a_directory_with_other_things_in_it_is_left_alone(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "precious").write_text("x")
    with pytest.raises(EmbeddedPostgresError, match="not a PostgreSQL cluster"):
        EmbeddedPostgres(folder / "data").start()
    assert (folder / "data" / "precious").read_text() == "x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has another account run the server")
def test_root_can_keep_the_data_where_nobody_else_may_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data and programs lie under a closed directory: both are taken to the shared place."""
    shared = Path(tempfile.mkdtemp(prefix="qlp-test-"))
    shared.chmod(0o711)
    monkeypatch.setattr(postgres_files, "SHARED_ROOT", shared / "qlp")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    wheel = postgres_files._wheel_installation()
    copied = closed / "site" / wheel.parent.name / wheel.name
    shutil.copytree(wheel, copied)
    libraries = f"{wheel.parent.name}.libs"
    shutil.copytree(wheel.parents[1] / libraries, closed / "site" / libraries)
    monkeypatch.setattr(postgres_files, "_wheel_installation", lambda: copied)
    server = EmbeddedPostgres(closed / "data")
    try:
        server.start()
        assert query(server.admin_url, "select 1") == 1
        assert server.data_dir.is_symlink()
        assert server.bin_dir.is_relative_to(shared)
        kept = server.data_dir.resolve()
        server.stop()
        server.start()
        assert server.data_dir.resolve() == kept
        server.destroy()
        assert not kept.exists()
        assert list(closed.iterdir()) == [closed / "site"]
    finally:
        server.destroy()
        shutil.rmtree(shared)


class Foreground:
    """``python -m infra.local.postgres`` in a process group of its own."""

    def __init__(self, data_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "infra.local.postgres", "--data-dir", data_dir],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.ready = json.loads(self.process.stdout.readline())
        self.server_pid = postmaster(data_dir)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=60)


@pytest.mark.parametrize("way", ["SIGTERM to it", "Ctrl-C to its group"])
def test_in_the_foreground_it_announces_itself_and_ends_cleanly(folder: Path, way: str) -> None:
    foreground = Foreground(folder / "data")
    try:
        assert foreground.ready["ready"] is True
        assert query(foreground.ready["admin_url"], "select current_database()") == "qlp"
        assert query(foreground.ready["app_url"], "select current_user") == "qlp"
        if way.startswith("SIGTERM"):
            foreground.process.send_signal(signal.SIGTERM)
        else:
            os.killpg(foreground.process.pid, signal.SIGINT)
        assert foreground.process.wait(60) == 0
        assert not alive(foreground.server_pid)
        assert not (folder / "data" / "postmaster.pid").exists()
    finally:
        foreground.end()


def test_in_the_foreground_it_reports_that_the_server_ended_by_itself(folder: Path) -> None:
    foreground = Foreground(folder / "data")
    try:
        os.kill(foreground.server_pid, signal.SIGINT)
        assert foreground.process.wait(60) == 1
    finally:
        foreground.end()


def test_a_server_whose_supervisor_was_killed_is_replaced_at_the_next_start(folder: Path) -> None:
    foreground = Foreground(folder / "data")
    with psycopg.connect(foreground.ready["admin_url"], autocommit=True) as connection:
        connection.execute("create table kept as select 42 as answer")
    foreground.process.kill()
    foreground.process.communicate()

    server = EmbeddedPostgres(folder / "data")
    try:
        server.start()
        assert not alive(foreground.server_pid)
        assert query(server.admin_url_for("qlp"), "select answer from kept") == 42
    finally:
        server.destroy()


def test_starts_are_fast(servers: Servers) -> None:
    started = time.monotonic()
    server = servers.start()
    cold = time.monotonic() - started
    server.stop()
    started = time.monotonic()
    server.start()
    warm = time.monotonic() - started
    # Measured 0.7 s and 0.1 s on an idle machine; the bounds leave room for a busy one.
    assert cold < 30
    assert warm < 15
